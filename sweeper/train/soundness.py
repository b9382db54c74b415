"""Whether a loss and an accuracy style say what they seem to say, judged by a first batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.train.metrics import Measure
from sweeper.train.reductions import ELEMENTWISE, MOST_WHOLE, can_join, fits, join

_TRIED = 8
"""Samples of the batch that are also given to the loss one by one."""

_CLOSE = 1e-4
"""Relative error that rounding explains in single precision."""


def is_broadcast(loss: Any, output: Any, y: Any) -> bool:
    """Whether the loss pairs outputs with targets of other samples, since their shapes differ.

    torch's own elementwise losses need equal shapes.  Another loss may make the shapes equal
    itself: it is wrong where its mean over a few samples is not the mean of these samples one by
    one, but would be if the targets had the shape of the outputs.
    """
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
    """Whether a loss is the mean of the losses of single samples; None: it takes no such shapes."""
    try:
        with torch.no_grad():
            each = [float(loss(output[n : n + 1], y[n : n + 1])) for n in range(len(output))]
            together = float(loss(output, y))
    except Exception:  # noqa: BLE001 - a loss may need more than one sample
        return None
    return math.isclose(together, math.fsum(each) / len(each), rel_tol=_CLOSE, abs_tol=1e-7)


def has_sum(loss: Any, output: Any, y: Any) -> bool:
    """Whether the loss, or one of its parts, adds up over the samples of a batch.

    A mean does not change where each sample is there several times; a sum grows by the same amount
    each time.  Its learning rate would depend on the batch size.
    """
    if not can_join(output) or not can_join(y):
        return False
    try:
        with torch.no_grad():
            values = [
                float(loss(join([output] * copies), join([y] * copies))) for copies in (1, 2, 3)
            ]
    except Exception:  # noqa: BLE001 - a loss may not take more samples than a batch has
        return False
    first, second = values[1] - values[0], values[2] - values[1]
    grows = abs(first) > _CLOSE * max(abs(values[0]), 1e-30)
    return grows and math.isclose(first, second, rel_tol=100 * _CLOSE)


def notes_of(judging: Measure, output: Any, y: Any, samples: int) -> list[str]:
    """What a person should know of how sets of at most so many samples are measured."""
    found = []
    if judging.is_of_whole_sets and not fits(output, y, samples):
        why = (
            f"its outputs take more than {MOST_WHOLE >> 20} MiB"
            if can_join(output) and can_join(y)
            else "its outputs or targets are no tensors that can be joined"
        )
        found.append(
            f"loss: the mean of its batches, weighed by their samples, since {why}; that is the "
            "loss of the whole set only where the loss is a mean over samples"
        )
    return [*found, *_misfits(judging)]


def _misfits(judging: Measure) -> list[str]:
    """An accuracy style that does not fit the loss."""
    loss = judging.loss
    parts: Sequence[Any] = list(loss.modules()) if isinstance(loss, nn.Module) else [loss]
    for style, losses, why in _MISFITS:
        named = [type(part).__name__ for part in parts if type(part) in losses]
        if style == judging.style and named:
            return [f"accuracy_style {style!r} beside {named[0]}: {why}"]
    return []


_MISFITS: tuple[tuple[str, Collection[type], str], ...] = (
    (
        "multiclass",
        (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss),
        (
            "each output is compared with a threshold of its own, while the loss chooses one class "
            "of several; 'classification' counts the largest output"
        ),
    ),
    (
        "classification",
        (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss),
        (
            "only the largest output counts, while the loss takes each label by itself; "
            "'multiclass' compares each label"
        ),
    ),
)
