"""Loss and performance of a model on a set of samples."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.records import NUMERICS
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.reductions import (
    Weigh,
    count_samples,
    find_weigh,
    finite_or_nan,
    fits,
    judged_by,
    loss_of_whole,
)

EVALUATION_BATCH = 1024
"""Samples per evaluation batch.  It affects the last bits of every loss: never change it."""


def inverse_loss(loss: float) -> float:
    """Performance 1 / (1 + loss): 1 for no loss, 0 for a loss that is not finite.

    For negative losses, as of likelihoods, it continues as a straight line of the same slope, so
    that a better loss always gives a higher performance.
    """
    if not math.isfinite(loss):
        return 0.0
    return 1 / (1 + loss) if loss >= 0 else 1 - loss


@dataclass(frozen=True, slots=True)
class AccuracyStyle:
    """How performance is measured."""

    check: Callable[[Tensor, Tensor], None] | None = None
    """Raises ValueError if the shapes of outputs and labels cannot be compared."""
    is_right: Callable[[Tensor, Tensor, float], Tensor] | None = None
    """Which samples are correct, shape (batch,), from outputs (batch, n), labels and the threshold
    that the loss implies; None: performance follows from the loss."""
    leaves_out: bool = False
    """Whether samples whose label the loss ignores do not count."""


def _has_largest(rows: Tensor, y: Tensor, above: float) -> Tensor:
    del above
    classes = y if y.ndim == 1 else y.reshape(len(y), -1).argmax(dim=1)
    return rows.argmax(dim=1) == classes


def _has_all_labels(rows: Tensor, y: Tensor, above: float) -> Tensor:
    return ((rows > above) != (y.reshape(len(y), -1) > 0.5)).sum(dim=1) == 0


def _are_alike(rows: Tensor, y: Tensor) -> bool:
    return len(y) == len(rows) and y.numel() // max(1, len(y)) == rows.shape[1]


def _check_classes(rows: Tensor, y: Tensor) -> None:
    if rows.shape[1] < 2:
        raise ValueError(
            "classification needs an output for each class, but the model gives one per sample: "
            "for labels 0 and 1 use two outputs and CrossEntropyLoss, or use 'multilabel'"
        )
    if not _are_alike(rows, y) and y.shape != (len(rows),):
        raise ValueError(
            f"classification needs a class index per sample, of shape ({len(rows)},), or a one-hot "
            f"row of {rows.shape[1]}; y has shape {tuple(y.shape)}"
        )


def _check_labels(rows: Tensor, y: Tensor) -> None:
    if not _are_alike(rows, y):
        raise ValueError(
            f"multilabel needs as many labels as outputs, but has {y.numel() // max(1, len(y))} "
            f"and {rows.shape[1]} per sample: for one class of several use 'classification'"
        )


INVERSE_LOSS = "inv-loss"

ACCURACY_STYLES: Mapping[str, AccuracyStyle] = {
    "classification": AccuracyStyle(_check_classes, _has_largest, leaves_out=True),
    "multilabel": AccuracyStyle(_check_labels, _has_all_labels),
    INVERSE_LOSS: AccuracyStyle(),
}
"""By name: the choices for a problem's `accuracy_style`.

`"classification"`: the argmax of the outputs equals the class index, shape (batch,), or the argmax
of a one-hot row, shape (batch, classes).  `"multilabel"`: exactly the outputs whose label is 1
exceed a threshold, shape (batch, labels).  `"inv-loss"`: see `inverse_loss`.
"""

EARLIER_NAMES = {"multiclass": "multilabel"}
"""A style's name in earlier releases: both names are accepted."""


def are_correct(style: str, output: Tensor, y: Tensor, above: float = 0.5) -> Tensor:
    """Which samples are correct by a style, shape (batch,); outputs that are not finite are wrong.

    `output` has shape (batch, …), and `above` is the threshold of a style that has one.

    Raises:
        ValueError: the shapes cannot be compared, or the style compares no outputs.
    """
    kind = ACCURACY_STYLES[EARLIER_NAMES.get(style, style)]
    if kind.check is None or kind.is_right is None:
        raise ValueError(f"{style} compares no outputs with labels")
    rows = output.reshape(len(output), -1)
    kind.check(rows, y)
    # By sums (0 but for NaN and infinity), since torch's all() is slow on short rows.
    finite = (rows * 0).sum(dim=1) == 0
    return kind.is_right(rows, y, above) & finite


class Measure:
    """Judges outputs by a problem's accuracy style and a trial's loss."""

    def __init__(self, style: str, loss: Any, numerics: int = NUMERICS) -> None:
        """`numerics` is the numerics release that the sweep's folder was begun with.

        Before 2, batches were weighted by their samples for every loss, labels that the loss
        ignores counted as wrong, and logits were compared with 0.5.
        """
        self.style, self.loss, self.numerics = EARLIER_NAMES.get(style, style), loss, numerics
        self.weigh: Weigh | None = None if numerics < 2 else find_weigh(loss)
        """Gives what a batch's loss was divided by; None: unknown."""
        self.is_of_whole_sets = numerics >= 2 and self.weigh is None
        """Whether the loss is computed once on a whole set if that fits into memory; else batches
        are weighted by their samples if nothing else is known."""
        self._judged_by: tuple[int | None, float] | None = (None, 0.5) if numerics < 2 else None
        self._noted: list[tuple[Tensor, Tensor]] | None = None

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Gives a list to which, inside, each result of `judge` is added."""
        noted: list[tuple[Tensor, Tensor]] = []
        self._noted = noted
        try:
            yield noted
        finally:
            self._noted = None

    def judge(self, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Which samples are correct, and which count, both of shape (batch,).

        Raises:
            ValueError: the style cannot compare such shapes.
        """
        for what, value in (("model gives", output), ("labels are", y)):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{self.style} needs one tensor of outputs and one of labels, and the {what} a "
                    f"{type(value).__name__}: let the model give one tensor in evaluation mode, or "
                    f"use {INVERSE_LOSS!r}"
                )
        if self._judged_by is None:
            self._judged_by = judged_by(self.loss, output, y)
        ignored, above = self._judged_by
        right = are_correct(self.style, output, y, above)
        if ignored is None or not ACCURACY_STYLES[self.style].leaves_out or y.ndim != 1:
            counts = torch.ones_like(right)
        else:
            counts = y != ignored
            right = right & counts
        if self._noted is not None:
            self._noted.append((right, counts))
        return right, counts

    def counts_nothing(self, y: Any) -> bool:
        """Whether a known loss ignores all of these targets: its mean is NaN, its gradient 0."""
        ignored = getattr(self.loss, "ignore_index", None) if self.weigh else None
        return ignored is not None and bool((y == ignored).all())


class Tally:
    """Loss and performance of a set, accumulated batch by batch.

    The loss is torch's on the whole set: combined from the batches if it is a weighted mean, else
    computed once from all outputs, if they fit into memory.
    """

    def __init__(self, measure: Measure, samples: int) -> None:
        """A tally of a set of `samples` samples."""
        self._measure, self._expected = measure, samples
        self.correct = self.judged = 0
        self._total = self._weight = 0.0
        self._whole: list[tuple[Any, Any]] | None = [] if measure.is_of_whole_sets else None
        """The outputs and targets so far, if the loss is computed on the whole set."""

    def add(self, output: Any, y: Any) -> None:
        """Count one batch of outputs and targets."""
        if self._measure.style != INVERSE_LOSS:
            right, counts = self._measure.judge(output, y)
            self.judge(int(right.sum()), int(counts.sum()))
        if self.keep(output, y):
            return
        weigh = self._measure.weigh
        weight = float(count_samples(y)) if weigh is None else weigh(output[None], y[None])[0]
        self.weigh(float(self._measure.loss(output, y)), weight)

    def keep(self, output: Any, y: Any) -> bool:
        """Keep a batch if the loss is computed on the whole set; return whether it was kept."""
        if self._whole == [] and not fits(output, y, self._expected):
            self._whole = None
        if self._whole is None:
            return False
        self._whole.append((output, y))
        return True

    def judge(self, correct: int, judged: int) -> None:
        """Count `judged` samples, of which `correct` are correct."""
        self.correct += correct
        self.judged += judged

    def weigh(self, loss: float, weight: float) -> None:
        """Count the loss of one batch; a batch in which no sample counts is skipped."""
        if weight:
            self._total += loss * weight
            self._weight += weight

    @property
    def loss(self) -> float:
        """The loss of the whole set; NaN if it is not finite or no sample counts."""
        if self._whole:
            with torch.no_grad():
                return finite_or_nan(loss_of_whole(self._measure.loss, self._whole))
        return finite_or_nan(self._total / self._weight) if self._weight else math.nan

    def result(self) -> tuple[float, float]:
        """The loss, and performance by the problem's accuracy style (0 if no sample counts)."""
        loss = self.loss
        if self._measure.style == INVERSE_LOSS:
            return loss, inverse_loss(loss)
        return loss, self.correct / self.judged if self.judged else 0.0


@contextlib.contextmanager
def evaluating(model: nn.Module, loss: Any) -> Iterator[None]:
    """Model and loss in evaluation mode, and in training mode after it."""
    parts = [part for part in (model, loss) if isinstance(part, nn.Module)]
    for part in parts:
        part.eval()
    try:
        yield
    finally:
        for part in parts:
            part.train()


def measured_loss(
    model: nn.Module, measure: Measure, samples: int, batches: Iterable[tuple[Any, Any]]
) -> float:
    """The loss of a set of `samples` samples in evaluation mode; then sets training mode."""
    judging = Measure(INVERSE_LOSS, measure.loss, measure.numerics)
    return measured(model, judging, samples, batches)[0]


def measured(
    model: nn.Module, measure: Measure, samples: int, batches: Iterable[tuple[Any, Any]]
) -> tuple[float, float]:
    """Loss and performance of a set of `samples` samples; otherwise as `measured_loss`."""
    tally = Tally(measure, samples)
    with evaluating(model, measure.loss), torch.no_grad():
        for x, y in batches:
            tally.add(call_model(model, x), y)
        return tally.result()
