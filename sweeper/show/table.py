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

from sweeper.records import REFUSED, Params, TunedSettings
from sweeper.results import SweepResult
from sweeper.show.clean import clean, clean_line
from sweeper.stats.comparison import plural
from sweeper.summary import PointSummary, labels_of, show_interval, show_params

STAR = "★"

_LONGEST_MESSAGE = 200


def name_point(params: Params) -> str:
    """A point's parameters as one clean line."""
    return clean_line(show_params(params))


# -- the table ------------------------------------------------------------------------------------


def results_table(
    results: SweepResult, width: int | None = None, places: Sequence[int] | None = None
) -> Table:
    """One row per point: its tuned settings, its trials and their mean with the 95 % interval.

    The best point by mean `perf_val` has a star; one that could not be tuned, an exclamation mark.
    `perf_train` is left out if the table would be wider than `width` characters; the columns
    diverged and failed appear only if there are any.  `places` are those of the points to show, in
    this order; None: all, as asked for.
    """
    points = results.summary().points
    best = _best(results)
    columns: dict[str, list[str]] = {
        "": [_mark(place in best, flag) for place, flag in enumerate(results.flags)],
        "params": [name_point(point.params) for point in points],
        **{name: list(map(clean_line, cells)) for name, cells in labels_of(points).items()},
        "learning rate": [_rates(found) for found in results.settings],
        "batch": [_batches(found) for found in results.settings],
        "n": [str(point.n) for point in points],
        "perf_val": [show_interval(point.perf_val) for point in points],
        "perf_train": [show_interval(point.perf_train) for point in points],
    }
    for name in points[0].declared if points else ():
        columns[name] = [show_interval(point.declared[name]) for point in points]
    for name, counts in (("diverged", _diverged(points)), ("failed", _failed(points))):
        if any(counts):
            columns[name] = [str(count or "-") for count in counts]
    if width is not None and _width(columns) > width:
        del columns["perf_train"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(
            Text(name),
            justify="right" if name in {"budget", "batch", "n", "diverged", "failed"} else "left",
            style="dim" if name == "perf_train" else "",
        )
    rows = list(zip(*columns.values(), strict=True))
    for place in range(len(rows)) if places is None else places:
        table.add_row(*map(Text, rows[place]), style="bold" * (place in best))
    return table


def _best(results: SweepResult) -> list[int]:
    """The places of the points that have a star."""
    has_trials = any(len(point.perf_val) for point in results.comparable())
    return results.best_places() if has_trials else []


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


def _diverged(points: Sequence[PointSummary]) -> list[int]:
    return [point.diverged for point in points]


def _failed(points: Sequence[PointSummary]) -> list[int]:
    return [point.failed for point in points]


def _width(columns: dict[str, list[str]]) -> int:
    widths = [max(map(cell_len, (name, *cells))) for name, cells in columns.items()]
    return sum(widths) + 3 * len(widths)


# -- what can be said -----------------------------------------------------------------------------


def findings(results: SweepResult) -> list[str]:
    """The verdict on the best point by `perf_val` (see `SweepResult.compare`), and its test."""
    lines = results.compare().lines() if len(results) > 1 else []
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
