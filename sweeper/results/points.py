"""What results are made of: points with their trials, and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.records import Params, Parent, TunedSettings, Usage
from sweeper.results.artifacts import TrialRecords
from sweeper.summary import printable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True, eq=False)
class PointTrials:
    """A point's trials with one budget, group and parent: all that results hold of them.

    A point whose trials have several of these has a record for each of them.
    """

    point: PointResult | ProgramPoint
    trial_numbers: IntArray
    """The numbers of the trials in its arrays, shape (trials,)."""
    tunings: IntArray
    """The tuning of each trial, shape (trials,)."""
    settings: tuple[TunedSettings, ...]
    """The settings of each tuning; its `PointResult` has the first's.  Of a program: none."""
    declared: Mapping[str, FloatArray]
    """By metric besides the classic four, of a program by every metric: its values, shape
    (trials,)."""
    asks: IntArray
    """The ask of each trial, from 0, shape (trials,); all 0 unless points are compared by some of
    their parameters."""
    usage: tuple[Usage | None, ...]
    """What each trial used, of length trials; None where that was not recorded, as for problems."""
    flag: str = ""
    """Why its tuning cannot be trusted; "" if it can."""
    test: Tested | None = None
    """Its trials on the test set; None: no test set."""
    budget: int | None = None
    """The budget of its trials; None: the workload's own length."""
    group: str = ""
    """The group in which the selector asked for its trials; "" if in none."""
    lineage: str = ""
    """What its trials began from: the number of their generation and a digest of all parents; "" if
    they began from nothing."""
    parent: Parent | None = None
    """The trial that its trials began from; None: from nothing, or from one that only an earlier
    run asked for."""
    records: TrialRecords | None = None
    """What its folder has of its trials besides metrics; None: it was not read from a folder, or
    stands for several points."""

    @classmethod
    def of(
        cls, point: PointResult | ProgramPoint, trial_numbers: IntArray, **others: Any
    ) -> PointTrials:
        """Trials of one tuning and one ask, with nothing recorded but metrics.

        `others` are any other fields, by name.
        """
        zeros = np.zeros(len(trial_numbers), dtype=np.int64)
        usual: dict[str, Any] = {
            "tunings": zeros,
            "settings": tuned_settings(point),
            "declared": point.metrics if isinstance(point, ProgramPoint) else {},
            "asks": zeros,
            "usage": (None,) * len(trial_numbers),
        }
        return cls(point, trial_numbers, **usual | others)

    @property
    def key(self) -> tuple[str, int | None, str, str]:
        """What distinguishes it from others: its parameters, budget, group and lineage."""
        return repr(self.point.params), self.budget, self.group, self.lineage

    def values(self, metric: str) -> FloatArray:
        """The values of a metric that it has, shape (trials,)."""
        if metric in self.declared:
            return self.declared[metric]
        holder = self.test if metric in Tested._fields else self.point
        found: FloatArray = getattr(holder, metric)
        return found


def tuned_settings(point: PointResult | ProgramPoint) -> tuple[TunedSettings, ...]:
    """The settings with which a point's trials were trained; none for a program."""
    if isinstance(point, ProgramPoint):
        return ()
    return (TunedSettings(point.lr_min, point.lr_max, point.batch_size),)


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
