"""What a sweep comes to: a sequence of points with the arrays of their trials."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.stats import Interval, mean_interval
from sweeper.types import Params, Reference

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]

METRICS = ("perf_train", "loss_train", "perf_val", "loss_val")

TRIAL_COLUMNS = ("trial", "lr_min", "lr_max", "batch_size", *METRICS)
"""What a row of a trial has beside its parameters."""


class PointResult(NamedTuple):
    """One point: its parameters, what tuning found, and its trials in order of number.

    `lr_min`, `lr_max` are NaN and `batch_size` is 0 where tuning has not ended (or failed).
    """

    params: Params
    """Classes and functions as `"module:Name"`."""
    lr_min: float
    lr_max: float
    batch_size: int
    perf_train: FloatArray
    """Shape (trials,), as the next three; NaN losses are trials that diverged."""
    loss_train: FloatArray
    perf_val: FloatArray
    loss_val: FloatArray


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A replica that has no result, or a point whose tuning failed."""

    params: Params
    stage: str
    number: int | None
    """The replica's; None where the point's tuning as a whole failed."""
    message: str
    detail: str

    def __str__(self) -> str:
        which = self.stage if self.number is None else f"{self.stage} {self.number}"
        return printable(f"{self.params} {which}: {self.message}")


@dataclass(frozen=True, slots=True)
class PointSummary:
    """A point in numbers."""

    params: Params
    n: int
    """Trials with a result, those that diverged among them."""
    diverged: int
    failed: int
    perf_val: Interval
    """By Student's t, 95 %.  A diverged trial counts with performance 0."""
    perf_train: Interval


@dataclass(frozen=True, slots=True)
class Summary:
    """A sweep in numbers; `str()` of it is a table."""

    points: tuple[PointSummary, ...]
    notes: tuple[str, ...] = ()
    """How the data was read, and what else a reader should know."""

    def __str__(self) -> str:
        rows = [("params", "n", "diverged", "failed", "perf_val", "std")]
        for point in self.points:
            val = point.perf_val
            spread = "" if math.isnan(val.half_width) else f" ± {val.half_width:.4f}"
            rows.append(
                (
                    show_params(point.params),
                    str(point.n),
                    str(point.diverged),
                    str(point.failed),
                    f"{val.mean:.4f}{spread}" if val.n else "-",
                    f"{val.std:.4f}" if val.n > 1 else "-",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(printable(line.rstrip()) for line in [*lines, *self.notes])


def printable(text: str) -> str:
    """One line that any terminal may be sent: what it would obey is written out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def show_params(params: Params) -> str:
    """Parameters as people read them: `hidden=32 nonlinearity=Tanh`, or `32 Tanh`."""
    if isinstance(params, Mapping):
        return " ".join(f"{name}={show_value(value)}" for name, value in params.items()) or "-"
    return " ".join(show_value(value) for value in params) or "-"


def show_value(value: Any) -> str:
    """One parameter value as people read it: text bare, a class by its name."""
    if isinstance(value, Reference):
        return value.rpartition(":")[2]
    if isinstance(value, type) or callable(value):
        return str(value.__qualname__)
    if isinstance(value, float):
        # Exact where that is short: what was drawn at random has more digits than anybody reads.
        return repr(value) if len(repr(value)) <= 8 else f"{value:.4g}"
    return value if isinstance(value, str) else repr(value)


class SweepResult(Sequence[PointResult]):
    """The points of a sweep, in the order in which the selector asked for them."""

    def __init__(
        self,
        points: Sequence[PointResult],
        trial_numbers: Sequence[NDArray[np.int64]],
        failures: Sequence[FailureReport] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self._points = tuple(points)
        self.trial_numbers = tuple(trial_numbers)
        """For each point the numbers of the trials in its arrays, shape (trials,)."""
        self.failures = tuple(failures)
        """What has no result, and why."""
        self.notes = tuple(notes)

    @overload
    def __getitem__(self, place: int) -> PointResult: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[PointResult, ...]: ...
    def __getitem__(self, place: int | slice) -> PointResult | tuple[PointResult, ...]:
        return self._points[place]

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[PointResult]:
        return iter(self._points)

    def __repr__(self) -> str:
        trials = sum(len(numbers) for numbers in self.trial_numbers)
        return f"<SweepResult: {len(self)} points, {trials} trials, {len(self.failures)} failures>"

    def summary(self) -> Summary:
        """n, diverged, failed, mean, standard deviation and 95 % interval of each point."""
        failed = [0] * len(self)
        places = {repr(point.params): place for place, point in enumerate(self)}
        for failure in self.failures:
            failed[places[repr(failure.params)]] += 1
        return Summary(
            tuple(
                PointSummary(
                    params=point.params,
                    n=len(point.perf_val),
                    diverged=int(np.sum(~np.isfinite(point.loss_train + point.loss_val))),
                    failed=failed[place],
                    perf_val=mean_interval(point.perf_val),
                    perf_train=mean_interval(point.perf_train),
                )
                for place, point in enumerate(self)
            ),
            self.notes,
        )

    def best(self, metric: str = "perf_val") -> PointResult:
        """The point with the best mean of `metric`: highest performance, or lowest loss.

        A loss is compared over finite values, and a point with a diverged trial comes after
        every point without one.

        Raises:
            UsageError: `metric` is not one of the four, or no point has a trial.
        """
        if metric not in METRICS:
            raise UsageError(f"metric={metric!r}: choose one of {', '.join(METRICS)}")
        tried = [point for point in self if len(point.perf_val)]
        if not tried:
            raise UsageError("no point has a finished trial yet, so none is best")
        return max(tried, key=lambda point: _goodness(getattr(point, metric), metric))

    def to_dataframe(self) -> pd.DataFrame:
        """One row a trial: the parameters (a column each), trial number, settings, metrics.

        A parameter that is called like another column is named `param_…`.
        Needs pandas (`pip install 'sweeper[analysis]'`).
        """
        import pandas as pd

        rows = []
        for point, numbers in zip(self, self.trial_numbers, strict=True):
            for place, number in enumerate(numbers):
                row = dict(params_columns(point.params, TRIAL_COLUMNS))
                row |= {"trial": int(number), "lr_min": point.lr_min, "lr_max": point.lr_max}
                row |= {"batch_size": point.batch_size}
                row |= {metric: float(getattr(point, metric)[place]) for metric in METRICS}
                rows.append(row)
        return pd.DataFrame(rows)


def params_columns(params: Params, taken: Collection[str] = ()) -> list[tuple[str, Any]]:
    """Name and value of each parameter; by position: param_0, param_1 and so on.

    One whose name is `taken` by another column is named `param_…`.
    """
    if isinstance(params, Mapping):
        return [
            (f"param_{name}" if name in taken else name, value) for name, value in params.items()
        ]
    return [(f"param_{place}", value) for place, value in enumerate(params)]


def _goodness(values: FloatArray, metric: str) -> tuple[bool, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return False, -math.inf
    mean = float(finite.mean())
    return len(finite) == len(values), -mean if metric.startswith("loss") else mean
