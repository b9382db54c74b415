"""What results are made of: points with their trials, and failures."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.records import (
    CLASSIC,
    LABELS,
    SHARES,
    Alias,
    Metric,
    Params,
    Parent,
    Usage,
    generation_of,
)
from sweeper.summary import printable, show_params

FloatArray = NDArray[np.float64]

METRICS = tuple(metric.name for metric in CLASSIC)

TEST_METRICS = ("perf_test", "loss_test")
"""The metrics on a test set, where there is one: nothing is chosen by them."""

TRIAL_COLUMNS = ("trial", "tuning", "lr_min", "lr_max", "batch_size", *METRICS)
"""The columns of a trial's row besides its parameters and the metrics that its problem declares."""

ALWAYS_TAKEN = LABELS[:2]
"""Those that a parameter cannot have as its column's name, whether they are shown or not."""

_OF_TABLES = {"perf", "loss", "params", "n", "diverged", "failed", "std"}

TAKEN_NAMES = {*_OF_TABLES, *LABELS[2:], *TRIAL_COLUMNS}
"""Names that a problem's own metric cannot have."""


USAGE_COLUMNS = ("started", "ended", "cpu_seconds", "peak_mib", "host", "cores")
"""The columns of what a trial used; a metric of one of these names keeps its own."""


def usage_columns(used: Usage | None) -> dict[str, Any]:
    """What a trial used, by column; None for what was not recorded."""
    if used is None:
        return dict.fromkeys(USAGE_COLUMNS)
    mib, cores = used.peak_bytes / 2**20, " ".join(map(str, used.cores))
    values = (used.started, used.ended, used.cpu_seconds, mib, used.host, cores)
    return dict(zip(USAGE_COLUMNS, values, strict=True))


def is_classic(metrics: Sequence[Metric]) -> bool:
    """Whether these are the metrics of a problem: the classic four come first."""
    return tuple(metrics[: len(CLASSIC)]) == CLASSIC


def with_bounds(metric: Metric, samples: Sequence[FloatArray]) -> Metric:
    """The metric with the bounds 0 and 1, if its name says that it is a share, as do its values.

    So no interval of an accuracy goes beyond 1, whoever measured it.
    """
    if metric.bounds is not None or SHARES.isdisjoint(re.split(r"[\W_]+", metric.name.lower())):
        return metric
    values = np.concatenate([np.zeros(0), *samples])
    within = np.all((values >= 0) & (values <= 1) | np.isnan(values))
    return replace(metric, bounds=(0.0, 1.0)) if within else metric


def judged_by(metrics: Sequence[Metric]) -> Metric | None:
    """The metric that points are judged by where none is named; None: there is none.

    Of a problem it is `perf_val`, of a program the first with a direction.
    """
    if is_classic(metrics):
        return next(metric for metric in metrics if metric.name == "perf_val")
    return next((metric for metric in metrics if metric.direction != "none"), None)


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


def label_columns(
    budget: int | None, group: str, lineage: str, parent: Parent | None
) -> dict[str, Any]:
    """What else than its parameters distinguishes a point's row, by the names of columns.

    `parent` is shown by its parameters and number; `lineage` has all that came before.
    """
    shown = f"{show_params(parent.params)} #{parent.trial}" if parent else ""
    own = {"generation": generation_of(lineage), "parent": shown, "lineage": lineage}
    return {"budget": budget, "group": group, **own}


def params_columns(params: Params, taken: Collection[str] = ()) -> list[tuple[str, Any]]:
    """Name and value of each parameter; positional ones are named param_0, param_1 and so on.

    A parameter whose name is `taken` by another column becomes `param_…`; of an alias the name is
    given.
    """
    if isinstance(params, Mapping):
        named = [
            (f"param_{name}" if name in taken else name, value) for name, value in params.items()
        ]
    else:
        named = [(f"param_{place}", value) for place, value in enumerate(params)]
    return [(name, value.name if isinstance(value, Alias) else value) for name, value in named]
