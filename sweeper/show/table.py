"""Results for people: the table, the verdicts on differences, and what failed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from sweeper.errors import plural
from sweeper.records import REFUSED, Params, TunedSettings
from sweeper.results import SweepResult
from sweeper.show.clean import clean, clean_line
from sweeper.summary import PointSummary, Summary, labels_of, show_interval, show_params

STAR = "★"

_LONGEST_MESSAGE = 200

_NUMBERS = {"budget", "generation", "batch", "n", "diverged", "failed"}
"""The columns with numbers, which stand to the right."""


def name_point(params: Params) -> str:
    """A point's parameters as one clean line."""
    return clean_line(show_params(params))


# -- the table ------------------------------------------------------------------------------------


def results_table(
    results: SweepResult, width: int | None = None, places: Sequence[int] | None = None
) -> Table:
    """One row per point: its tuned settings, its trials and their mean with the 95 % interval.

    The best point by the metric that points are judged by has a star; one that could not be tuned,
    an exclamation mark.
    `perf_train` is left out if the table would be wider than `width` characters; the columns
    diverged and failed appear only if there are any.  `places` are those of the points to show, in
    this order; None: all, as asked for.
    """
    summary = results.summary()
    points = summary.points
    best = _best(results)
    columns: dict[str, list[str]] = {
        "": [_mark(place in best, flag) for place, flag in enumerate(results.flags)],
        "params": [name_point(point.params) for point in points],
        **{name: list(map(clean_line, cells)) for name, cells in labels_of(points).items()},
    }
    if not results.of_program:
        columns["learning rate"] = [_rates(found) for found in results.settings]
        columns["batch"] = [_batches(found) for found in results.settings]
        for name in results.tuned_options:
            columns[name.replace("_", " ")] = [_values(found, name) for found in results.settings]
    columns["n"] = [str(point.n) for point in points]
    for name in _metric_columns(results, summary):
        columns[name] = [show_interval(point.intervals[name]) for point in points]
    for name, counts in (("diverged", _diverged(points)), ("failed", _failed(points))):
        if any(counts):
            columns[name] = [str(count or "-") for count in counts]
    if not results.of_program and width is not None and _width(columns) > width:
        del columns["perf_train"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(
            Text(name),
            justify="right" if name in _NUMBERS else "left",
            style="dim" if name == "perf_train" else "",
        )
    rows = list(zip(*columns.values(), strict=True))
    for place in range(len(rows)) if places is None else places:
        table.add_row(*map(Text, rows[place]), style="bold" * (place in best))
    return table


def _metric_columns(results: SweepResult, summary: Summary) -> list[str]:
    """The metrics that have columns: of a problem `perf_train` beside `perf_val`, if it fits."""
    names = list(summary.columns)
    return names if results.of_program else [names[0], "perf_train", *names[1:]]


def _best(results: SweepResult) -> list[int]:
    """The places of the points that have a star; none if nothing says what is better."""
    has_trials = any(map(len, results.comparable().trial_numbers))
    return results.best_places() if has_trials and results.judged else []


def _mark(is_best: bool, flag: str) -> str:
    """A star for the best point, an exclamation mark for one that could not be tuned."""
    return "!" if flag else STAR if is_best else ""


def _rates(tunings: Sequence[TunedSettings]) -> str:
    """The range of learning rates over a point's tunings."""
    if not tunings or math.isnan(tunings[0].lr_min):
        return "-"
    low, high = min(one.lr_min for one in tunings), max(one.lr_max for one in tunings)
    return f"{low:.3g} to {high:.3g}"


def _batches(tunings: Sequence[TunedSettings]) -> str:
    sizes = sorted({one.batch_size for one in tunings if one.batch_size})
    return ", ".join(map(str, sizes)) or "-"


def _values(tunings: Sequence[TunedSettings], name: str) -> str:
    """The values of an option over a point's tunings."""
    values = {getattr(one, name) for one in tunings} - {None}
    return ", ".join(f"{value:.3g}" for value in sorted(values)) or "-"


def _diverged(points: Sequence[PointSummary]) -> list[int]:
    return [point.diverged for point in points]


def _failed(points: Sequence[PointSummary]) -> list[int]:
    return [point.failed for point in points]


def _width(columns: dict[str, list[str]]) -> int:
    widths = [max(map(cell_len, (name, *cells))) for name, cells in columns.items()]
    return sum(widths) + 3 * len(widths)


# -- what can be said -----------------------------------------------------------------------------


def findings(results: SweepResult) -> list[str]:
    """The verdict on the best point (see `SweepResult.compare`), and its test."""
    lines = results.compare().lines() if len(results) > 1 and results.judged else []
    on_test = results.on_test()
    return [clean(line) for line in [*lines, *([] if on_test is None else [str(on_test)])]]


# -- what failed ----------------------------------------------------------------------------------


def failure_lines(results: SweepResult, folder: str | Path, most: int = 5) -> list[str]:
    """The first failures, one line each, and how to see their tracebacks."""
    failures = results.failures
    if not failures:
        return []
    lines = [f"{plural(len(failures), 'failure')}:"]
    lines += [f"  {line}" for line in _headings(results)[:most]]
    if len(failures) > most:
        lines.append(f"  and {len(failures) - most:,} more")
    lines.append(f"  tracebacks: sweeper show {shlex.quote(clean_line(str(folder)))} --failures")
    return lines


def failures_in_full(results: SweepResult) -> str:
    """Every failure with its traceback, or its likely cause and where to look."""
    if not results.failures:
        return "nothing failed"
    parts = []
    for heading, failure in zip(_headings(results), results.failures, strict=True):
        detail = clean(failure.detail).strip()
        parts.append("\n".join([heading, *(f"    {line}" for line in detail.splitlines())]))
    return "\n\n".join(parts)


def _headings(results: SweepResult) -> list[str]:
    found = []
    for failure in results.failures:
        whole = REFUSED if failure.stage == REFUSED else "tuning"
        what = whole if failure.number is None else f"{failure.stage} {failure.number}"
        line = f"{show_params(failure.params)} · {what}: {failure.message}"
        found.append(clean_line(line, _LONGEST_MESSAGE))
    return found
