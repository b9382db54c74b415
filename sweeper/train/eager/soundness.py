"""Checks on a first batch that a loss and an accuracy style measure what they seem to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.train.problem.measure.metrics import Measure
from sweeper.train.problem.measure.reductions import (
    ELEMENTWISE,
    MOST_WHOLE,
    can_join,
    count_samples,
    fits,
    join,
)
from sweeper.train.vectorize.random import Mode

_TRIED = 8
"""So many samples of the batch are also given to the loss one by one."""

_CLOSE = 1e-4
"""Relative error that rounding explains in single precision."""


def is_broadcast(loss: Any, output: Any, y: Any) -> bool:
    """Whether differing shapes make the loss pair outputs with targets of other samples.

    torch's own elementwise losses need equal shapes.  Another loss may make the shapes equal
    itself: it is wrong if its mean over a few samples is not the mean of these samples one by
    one, but would be if the targets had the shape of the outputs.  Any loss is wrong if it
    forms all pairs of samples from the given tensors by broadcasting alone.
    """
    if _pairs_samples(loss, output, y):
        return True
    if not isinstance(output, Tensor) or not isinstance(y, Tensor) or output.shape == y.shape:
        return False
    if type(loss) in ELEMENTWISE:
        return True
    if output.numel() != y.numel():
        return False
    output, y = output[:_TRIED], y[:_TRIED]
    as_given = _is_mean_of_each(loss, output, y)
    return as_given is False and _is_mean_of_each(loss, output, y.reshape(output.shape)) is True


def _is_mean_of_each(loss: Any, output: Tensor, y: Tensor) -> bool | None:
    """Whether a loss is the mean of the losses of single samples; None: it rejects their shapes."""
    try:
        with torch.no_grad():
            each = [float(loss(output[n : n + 1], y[n : n + 1])) for n in range(len(output))]
            together = float(loss(output, y))
    except Exception:  # noqa: BLE001 - a loss may need more than one sample
        return None
    return math.isclose(together, math.fsum(each) / len(each), rel_tol=_CLOSE, abs_tol=1e-7)


def _pairs_samples(loss: Any, output: Any, y: Any) -> bool:
    """Whether the loss broadcasts (n, 1, …) against (n, …) without having made these shapes.

    Tried with two values of n, since another dimension may happen to equal one of them.
    """
    rows = count_samples(y)
    return rows > _FEWEST and all(_pairs(loss, output, y, count) for count in (rows, rows - 1))


_FEWEST = 2


def _pairs(loss: Any, output: Any, y: Any, count: int) -> bool:
    rows = count_samples(y)
    output, y = (_each_part(value, rows, lambda x: x[:count]) for value in (output, y))
    seen = _Pairs([*_tensors_in(output), *_tensors_in(y)], count)
    try:
        with torch.no_grad(), seen:
            loss(output, y)
    except Exception:  # noqa: BLE001 - a loss may need so many samples
        return False
    return seen.found


class _Pairs(Mode):  # type: ignore[no-untyped-call]
    """Detects outputs or targets that are broadcast to all pairs of samples.

    A loss over pairs asks for that, by `y[:, None]`, `keepdim=True` and the like; results of such
    operations are not followed.
    """

    def __init__(self, given: Sequence[Tensor], samples: int) -> None:
        super().__init__()
        self._samples = samples
        # Compared by id, so every tensor is kept alive.
        self._given = {id(tensor): tensor for tensor in given}
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        found = func(*args, **(kwargs or {}))
        tensors = [value for value in args if isinstance(value, Tensor)]
        if torch.Tag.pointwise in func.tags:
            own = [tensor for tensor in tensors if id(tensor) in self._given]
            self.found |= any(self._are_paired(one, other) for one in own for other in tensors)
            stays = all(tensor.ndim == 0 or id(tensor) in self._given for tensor in tensors)
        else:
            stays = func._schema.name in _PARTS and id(args[0]) in self._given  # noqa: SLF001
        if stays:
            self._given |= {id(tensor): tensor for tensor in _tensors_in(found)}
        return found

    def _are_paired(self, one: Tensor, other: Tensor) -> bool:
        wide = one.ndim == other.ndim + 1 >= 2 and one.shape[:2] == (self._samples, 1)
        return wide and other.shape[0] == self._samples


_PARTS = frozenset(
    f"aten::{name}"
    for name in ("slice", "select", "split", "unbind", "detach", "alias", "clone", "_to_copy")
)
"""Operations that return their input or a part of it."""


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    parts = value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors_in(part)]


def has_sum(loss: Any, output: Any, y: Any) -> bool:
    """Whether the loss, or one of its terms, is a sum over the samples of a batch.

    A mean does not change if every sample is repeated; a sum grows by the same amount with each
    repetition.  With a sum, the best learning rate would depend on the batch size.
    """
    rows = count_samples(y)
    if not can_join(y, rows):
        return False
    # Before training, the output and so its sum may be zero.
    others = _each_part(output, rows, _moved)
    return any(_grows(loss, given, y) for given in (output, others))


def _grows(loss: Any, output: Any, y: Any) -> bool:
    rows = count_samples(y)
    values = []
    try:
        with torch.no_grad():
            for copies in (1, 2, 3):
                repeated = _each_part(output, rows, functools.partial(_repeated, copies=copies))
                values.append(float(loss(repeated, join([y] * copies))))
    except Exception:  # noqa: BLE001 - a loss may not take more samples than a batch has
        return False
    first, second = values[1] - values[0], values[2] - values[1]
    grows = abs(first) > _CLOSE * max(abs(values[0]), 1e-30)
    return grows and math.isclose(first, second, rel_tol=100 * _CLOSE)


def _repeated(x: Any, copies: int) -> Any:
    return join([x] * copies)


def _moved(x: Any) -> Any:
    return x + 0.125 if isinstance(x, Tensor) and x.is_floating_point() else x


def _each_part(value: Any, rows: int, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to the tensors of a value that have a row per sample; the rest stays."""
    if isinstance(value, Tensor) or not isinstance(value, dict | list | tuple):
        return change(value) if can_join(value, rows) else value
    if isinstance(value, dict):
        return {key: _each_part(one, rows, change) for key, one in value.items()}
    if value and all(isinstance(one, str | bytes) for one in value):
        return change(value) if len(value) == rows else value
    parts = [_each_part(one, rows, change) for one in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def notes_of(judging: Measure, output: Any, y: Any, samples: int) -> list[str]:
    """Notes for the user on how sets of at most `samples` samples are measured."""
    found, rows = [], count_samples(y)
    if judging.is_of_whole_sets and not fits(output, y, samples):
        why = (
            f"its outputs take more than {MOST_WHOLE >> 20} MiB"
            if can_join(output, rows) and can_join(y, rows)
            else "its outputs or targets are not tensors with a row for each sample"
        )
        found.append(
            f"loss: the mean over batches, weighted by their samples, because {why}; it equals the "
            "loss of the whole set only if the loss is a mean over samples"
        )
    return [*found, *_misfits(judging)]


def _misfits(judging: Measure) -> list[str]:
    """A note if the accuracy style does not fit the loss."""
    loss = judging.loss
    parts: Sequence[Any] = list(loss.modules()) if isinstance(loss, nn.Module) else [loss]
    for style, losses, why in _MISFITS:
        named = [type(part).__name__ for part in parts if type(part) in losses]
        if style == judging.style and named:
            return [f"accuracy_style {style!r} beside {named[0]}: {why}"]
    return []


_MISFITS: tuple[tuple[str, Collection[type], str], ...] = (
    (
        "multilabel",
        (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss),
        (
            "it compares each output with a threshold, while the loss chooses one class of "
            "several; 'classification' counts the largest output"
        ),
    ),
    (
        "classification",
        (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss),
        (
            "it counts only the largest output, while the loss takes each label by itself; "
            "'multilabel' compares each label"
        ),
    ),
)
