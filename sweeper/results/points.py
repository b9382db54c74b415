"""What results are made of: points with their trials, and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.records import Params
from sweeper.summary import printable

FloatArray = NDArray[np.float64]


class PointResult(NamedTuple):
    """One point: its parameters, its tuned settings, and its trials in order of number.

    `lr_min`, `lr_max` are NaN and `batch_size` is 0 if tuning has not ended, or failed.
    """

    params: Params
    """Classes and functions are given as `"module:Name"`."""
    lr_min: float
    lr_max: float
    batch_size: int
    perf_train: FloatArray
    """Shape (trials,), as the next three; the loss of a trial that diverged is NaN."""
    loss_train: FloatArray
    perf_val: FloatArray
    loss_val: FloatArray


class ProgramPoint(NamedTuple):
    """One point of a program: its parameters, and its trials in order of number."""

    params: Params
    """Classes and functions are given as `"module:Name"`."""
    metrics: Mapping[str, FloatArray]
    """By name the values of every metric, shape (trials,); NaN where a trial did not measure it."""


class Tested(NamedTuple):
    """A point's trials on the test set, in order of trial number, each of shape (trials,)."""

    perf_test: FloatArray
    loss_test: FloatArray


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A failed replica, or a point whose tuning failed."""

    params: Params
    stage: str
    number: int | None
    """The replica's number; None if the point's tuning as a whole failed."""
    message: str
    detail: str
    budget: int | None = None
    """The budget of the trials asked for, as the next one."""
    group: str = ""
    lineage: str = ""

    @property
    def key(self) -> tuple[str, int | None, str, str]:
        """The `SweepResult.key` of the point that it belongs to."""
        return repr(self.params), self.budget, self.group, self.lineage

    def __str__(self) -> str:
        which = self.stage if self.number is None else f"{self.stage} {self.number}"
        return printable(f"{self.params} {which}: {self.message}")
