"""Loss and performance of a model on a set of samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

EVALUATION_BATCH = 1024
"""Samples a batch when evaluating.  Part of the last bits of every loss: never change it."""


def inverse_loss(loss: float) -> float:
    """Performance 1 / (1 + loss): 1 for no loss, 0 for a loss that is not finite.

    Below 0, where a likelihood may lead, it goes on in a straight line of the same slope: what is
    better must not be less.
    """
    if not math.isfinite(loss):
        return 0.0
    return 1 / (1 + loss) if loss >= 0 else 1 - loss


def are_correct(style: str, output: Tensor, y: Tensor) -> Tensor:
    """Which samples are right, shape (batch,); outputs that are not finite are wrong.

    `output` has shape (batch, classes).  `"classification"`: argmax equals the class index, shape
    (batch,), or the argmax of a one-hot row, shape (batch, classes).  `"multiclass"`: every
    output is above 0.5 just where its label is, shape (batch, labels).

    Raises:
        ValueError: the shapes are others, and what is compared would say nothing.
    """
    rows = output.reshape(len(output), -1)
    _check_shapes(style, rows, y)
    # By sums, since torch is slow at whether all of a short row are so: 0 but for NaN and infinity.
    finite = (rows * 0).sum(dim=1) == 0
    if style == "classification":
        classes = y if y.ndim == 1 else y.reshape(len(y), -1).argmax(dim=1)
        right = rows.argmax(dim=1) == classes
    else:
        right = ((rows > 0.5) != (y.reshape(len(y), -1) > 0.5)).sum(dim=1) == 0
    return right & finite


def _check_shapes(style: str, rows: Tensor, y: Tensor) -> None:
    each = y.numel() // max(1, len(y))
    alike = len(y) == len(rows) and each == rows.shape[1]
    if style == "multiclass":
        if not alike:
            raise ValueError(
                f"multiclass needs as many labels as outputs, and has {each} and {rows.shape[1]} "
                "a sample: for one class of several use 'classification'"
            )
    elif rows.shape[1] < 2:
        raise ValueError(
            "classification needs an output for each class, and has one a sample: for a label that "
            "is 0 or 1 give two outputs and CrossEntropyLoss, or use 'multiclass'"
        )
    elif not alike and y.shape != (len(rows),):
        raise ValueError(
            f"classification needs a class index a sample, of shape ({len(rows)},), or a one-hot "
            f"row of {rows.shape[1]}; y has shape {tuple(y.shape)}"
        )


def count_samples(y: Any) -> int:
    """How many samples a batch of targets has: one of several tensors has as many as each."""
    if isinstance(y, Mapping | list | tuple) and len(y):
        parts = list(y.values() if isinstance(y, Mapping) else y)
        if isinstance(parts[0], Tensor | Mapping | list | tuple):
            return count_samples(parts[0])
    return len(y)


@dataclass(slots=True)
class Tally:
    """Loss and performance, added up batch by batch."""

    style: str
    samples: int = 0
    correct: int = 0
    total_loss: float = field(default=0.0)
    """Mean loss × samples: losses are reduced by mean within a batch."""

    def add(self, output: Tensor, y: Tensor, loss: float) -> None:
        """Count one batch."""
        judged = self.style != "inv-loss"
        correct = int(are_correct(self.style, output, y).sum()) if judged else 0
        self.count(count_samples(y), loss, correct)

    def count(self, samples: int, loss: float, correct: int) -> None:
        """Count a batch of so many samples, of mean loss `loss`, so many of them correct."""
        self.samples += samples
        self.total_loss += loss * samples
        self.correct += correct

    @property
    def loss(self) -> float:
        """The mean over all samples; NaN where it is not finite."""
        mean = self.total_loss / self.samples
        return mean if math.isfinite(mean) else math.nan

    @property
    def performance(self) -> float:
        """By the problem's accuracy style."""
        if self.style == "inv-loss":
            return inverse_loss(self.loss)
        return self.correct / self.samples


def mean_loss(model: nn.Module, loss: nn.Module, batches: Iterable[tuple[Any, Any]]) -> float:
    """The mean loss over all samples, in evaluation mode; the model is left in training mode."""
    tally = Tally("inv-loss")
    model.eval()
    with torch.no_grad():
        for x, y in batches:
            output = model(x)
            tally.add(output, y, float(loss(output, y)))
    model.train()
    return tally.loss
