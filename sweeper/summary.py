"""A sweep in numbers, and parameters and intervals as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.records import Alias, Params, Reference

if TYPE_CHECKING:
    from sweeper.stats.comparison import Comparison
    from sweeper.stats.intervals import Interval


@dataclass(frozen=True, slots=True)
class PointSummary:
    """Summary statistics of a point."""

    params: Params
    n: int
    """Trials with a result, including those that diverged."""
    diverged: int
    failed: int
    intervals: Mapping[str, Interval]
    """By metric, for those that tables show: 95 % interval of the mean, by Student's t over the
    trials, or, if the point was tuned more than once, from both components of variance
    (`stats.components.estimate_means`).  A trial that diverged counts with performance 0."""
    tunings: int = 1
    """Tunings that the trials are spread over."""
    flag: str = ""
    """Why its tuning is not to be trusted; "" if it is."""
    budget: int | None = None
    """The budget of these trials; None: the workload's own length."""
    group: str = ""
    """The group in which the selector asked for them."""
    parent: str = ""
    """The trial that they began from; "" if from nothing."""
    generation: int = 0
    """How many trials lie before them, one begun from the other."""

    @property
    def perf_val(self) -> Interval:
        """Of a problem: the interval of `perf_val`."""
        return self.intervals["perf_val"]

    @property
    def perf_train(self) -> Interval:
        """Of a problem: the interval of `perf_train`."""
        return self.intervals["perf_train"]


@dataclass(frozen=True, slots=True)
class OnTest:
    """The best point by `perf_val`, measured on the test set, which had no part in the choice."""

    params: Params
    perf_test: Interval
    """Interval of the mean, as `PointSummary.perf_val`."""
    loss_test: Interval

    def __str__(self) -> str:
        perf, loss = show_interval(self.perf_test), show_interval(self.loss_test)
        return f"★ {show_params(self.params)} on the test set: perf_test {perf}, loss_test {loss}"


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary statistics of a sweep; `str()` gives a table."""

    points: tuple[PointSummary, ...]
    notes: tuple[str, ...] = ()
    """How the data was read, and other remarks for readers."""
    comparison: Comparison | None = None
    """The best point against the others, by `perf_val` or by the metric that a program declares
    first; None: nothing to compare."""
    on_test: OnTest | None = None
    """The best point by `perf_val` on the test set; None: no test set."""
    columns: tuple[str, ...] = ("perf_val",)
    """The metrics in the table; the first has its standard deviation beside it."""

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows]
        lines += self.comparison.lines() if self.comparison else []
        lines += [str(self.on_test)] if self.on_test else []
        return "\n".join(printable(line.rstrip()) for line in [*lines, *self.notes])

    def to_markdown(self) -> str:
        """The table, the verdict and the notes in Markdown."""
        head, *rows = self._rows()
        table = [head, ("---",) * len(head), *rows]
        lines = [
            f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in row)} |"
            for row in table
        ]
        if self.comparison is not None:
            lines += ["", self.comparison.to_markdown().rstrip()]
        if self.on_test is not None:
            lines += ["", printable(str(self.on_test))]
        lines += [f"\n{printable(note)}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def _rows(self) -> list[tuple[str, ...]]:
        labels = labels_of(self.points)
        first, others = self.columns[:1], self.columns[1:]
        spread = ("std",) * len(first)
        head = ("params", *labels, "n", "diverged", "failed", *first, *spread, *others)
        rows: list[tuple[str, ...]] = [head]
        for place, point in enumerate(self.points):
            counts = (str(point.n), str(point.diverged), str(point.failed))
            cells = [show_interval(point.intervals[name]) for name in self.columns]
            cells[1:1] = [_show_std(point.intervals[name]) for name in first]
            own = [values[place] for values in labels.values()]
            rows.append((show_params(point.params), *own, *counts, *cells))
        return rows


def _show_std(interval: Interval) -> str:
    return f"{interval.std:.4f}" if interval.n > 1 else "-"


def labels_of(points: Sequence[PointSummary]) -> dict[str, list[str]]:
    """The columns of a table beside the parameters, such as `budget`, if any point has one."""
    columns = {
        "budget": ["-" if one.budget is None else str(one.budget) for one in points],
        "group": [one.group or "-" for one in points],
        "generation": [str(one.generation or "-") for one in points],
        "parent": [one.parent or "-" for one in points],
    }
    return {name: values for name, values in columns.items() if set(values) - {"-"}}


def printable(text: str) -> str:
    """`text` as one line that is safe on any terminal: control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def show_job(params: Params, stage: str, numbers: Sequence[int]) -> str:
    """What a job does, for people: `hidden=8 · trial 3…`."""
    more = "…" if len(numbers) > 1 else ""
    return f"{show_params(params)} · {stage.replace('_', ' ')} {numbers[0]}{more}"


def show_params(params: Params) -> str:
    """Parameters as people read them: `hidden=32 nonlinearity=Tanh`, or `32 Tanh`."""
    if isinstance(params, Mapping):
        return " ".join(f"{name}={show_value(value)}" for name, value in params.items()) or "-"
    return " ".join(show_value(value) for value in params) or "-"


def show_interval(interval: Interval) -> str:
    """A mean with its interval, if one is known."""
    if interval.n == 0:
        return "-"
    mean = f"{interval.mean:.4f}"
    if interval.n == 1:
        return mean
    if interval.n == 2 or math.isnan(interval.half_width):
        return f"{mean} (too few trials)"
    if interval.half_width == 0:
        return f"{mean} (no variation seen)"
    if f"{interval.low:.4f}" == f"{interval.high:.4f}":
        return f"{mean} (within 0.0001)"
    if interval.symmetric:
        return f"{mean} ± {interval.half_width:.4f}"
    return f"{mean} ({interval.low:.4f} to {interval.high:.4f})"


def show_value(value: Any) -> str:
    """One parameter value as people read it: text bare, a class or an alias by its name."""
    if isinstance(value, Alias):
        return value.name
    if isinstance(value, Reference):
        return value.rpartition(":")[2]
    if isinstance(value, type) or callable(value):
        return str(value.__qualname__)
    if isinstance(value, float):
        # Exact if that is short: random values have more digits than anybody reads.
        return repr(value) if len(repr(value)) <= 8 else f"{value:.4g}"
    return value if isinstance(value, str) else repr(value)
