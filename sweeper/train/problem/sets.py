"""The sets that a problem's `dataset()` returns, and a quick check of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset

from sweeper.errors import ProblemError

SETS = {
    1: ("the set",),
    2: ("train_set", "val_set"),
    3: ("train_set", "val_set", "test_set"),
}
"""Names in messages for the sets that dataset() may return, by their number."""

SETS_EXPECTED = (
    "a callable dataset() that returns (train_set, val_set), (train_set, val_set, test_set), or "
    "one set to be split, map-style, not empty, with items (x, y)"
)
_ITEM = "a pair (x, y); several inputs are one x, a tuple or a dict of them"

Fault = Callable[[str, str, str], ProblemError]
"""Makes an error of an attribute, of what was found there, and of what is expected."""


def check_sets(fault: Fault, called: str, made: Any) -> tuple[Any, ...]:
    """The sets, named in `SETS`, that the call `called` of dataset() returned.

    Raises:
        ProblemError: they are not one to three map-style datasets, or one is empty.
    """
    # A longer list is one set of that many samples.
    if _is_set(made) or (isinstance(made, list) and len(made) > max(SETS)):
        made = (made,)
    if not isinstance(made, tuple | list) or len(made) not in SETS:
        raise fault(f"what {called} returns", shown(made), SETS_EXPECTED)
    for name, part in zip(SETS[len(made)], made, strict=True):
        _check_by_number(fault, f"{name} of {called}", part)
        if len(part) == 0:
            raise fault(f"{name} of {called}", "empty", "at least one sample")
        try:
            item = part[0]
        except Exception as error:
            found = f"not readable: {type(error).__name__}: {error}"
            raise fault(f"{name}[0] of {called}", found, _ITEM) from error
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise fault(f"an item of {name}", shown(item), _ITEM)
    return tuple(made)


def _check_by_number(fault: Fault, named: str, part: Any) -> None:
    """Check that samples can be read by their number, in any order."""
    if isinstance(part, IterableDataset):
        expected = (
            "a map-style dataset, since samples are read by their number, in any order: "
            "read it into a list, list(dataset), or make it a Dataset with __getitem__"
        )
        raise fault(named, "an IterableDataset", expected)
    if hasattr(part, "iloc") or isinstance(part, Mapping):
        expected = (
            "samples by number, not columns by name: make a TensorDataset(x, y) of tensors, "
            "such as torch.tensor(frame[columns].to_numpy())"
        )
        raise fault(named, f"a {type(part).__name__}", expected)
    if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
        raise fault(named, shown(part), SETS_EXPECTED)


def _is_set(made: object) -> bool:
    """Whether it is one set, not a tuple or list of several."""
    return not isinstance(made, tuple | list | Tensor) and hasattr(made, "__getitem__")


def shown(value: object) -> str:
    """A value as messages show it."""
    if value is None:
        return "missing"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}"
    # One line, without memory addresses, which mean nothing to users.
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return f"{text if len(text) <= 80 else text[:77] + '...'} (a {type(value).__name__})"
