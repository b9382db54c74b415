"""`Grid`: every combination of values."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.search.checks import MOST_TRIALS, check_count
from sweeper.search.selector import ParamSelector
from sweeper.signature import encode, in_order, normalise


class Grid(ParamSelector):
    """The product of its axes, by name: `Grid(trials=10, hidden=[16, 64], depth=[1, 2, 3])`.

    The first axis varies slowest.  With no axes there is one point, the model without parameters.
    A parameter named `trials` cannot be an axis: use `FixedSweep`.

    Args:
        trials: Number of trials per point.
        axes: For each parameter its values: any finite iterable.  A set is sorted by its values'
            encodings, which gives the same order in every process.

    Raises:
        UsageError: an axis is not an iterable of values, has none, or has a value twice; or
            `trials` is not a whole number, 0 or more.
        ParamError: a value that cannot be stored.
    """

    name = "grid"
    most_untold = MOST_TRIALS

    def __init__(self, /, *, trials: int, **axes: Iterable[Any]) -> None:
        self._trials = check_count("trials", trials)
        values = [_read_axis(name, axis) for name, axis in axes.items()]
        self._left: deque[Params] = deque(
            dict(zip(axes, combination, strict=True)) for combination in itertools.product(*values)
        )

    def get_next_trials(self) -> tuple[Params, int] | None:
        """The next combination."""
        return (self._left.popleft(), self._trials) if self._left else None

    def has_more_trials(self) -> bool:
        """Whether any combination is left."""
        return bool(self._left)


def _read_axis(name: str, axis: Any) -> list[Any]:
    values = [normalise(value, name) for value in _iterate(name, axis)]
    if isinstance(axis, set | frozenset):
        values = in_order(values)
    if not values:
        raise UsageError(
            f"{name}={axis!r} has no values: give at least one, or leave {name} out so that the "
            "model's own default is used"
        )
    seen = set()
    for value in values:
        if (encoded := encode(value)) in seen:
            raise UsageError(
                f"{name} has {value!r} more than once, which would train the same points again: "
                "leave it out, and set trials for more results"
            )
        seen.add(encoded)
    return values


def _iterate(name: str, axis: Any) -> Iterator[Any]:
    # Strings and mappings are iterable too, but neither is a list of values.
    if not isinstance(axis, str | bytes | Mapping):
        try:
            return iter(axis)
        except TypeError:
            pass
    raise UsageError(
        f"{name}={axis!r} is not a list of values: for one value write {name}=[{axis!r}]"
    )
