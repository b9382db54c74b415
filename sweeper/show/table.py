"""Results for people: the table, what can be said of the differences, and what failed."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from sweeper.results import PointResult, PointSummary, SweepResult, show_params
from sweeper.show.clean import clean, clean_line
from sweeper.stats import Difference, Interval, mean_difference
from sweeper.types import Params

STAR = "★"

_LONGEST_MESSAGE = 200


def plural(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def name_point(params: Params) -> str:
    """A point's parameters as one clean line."""
    return clean_line(show_params(params))


# -- the table ------------------------------------------------------------------------------------


def results_table(results: SweepResult, width: int | None = None) -> Table:
    """One row a point: what tuning found, its trials and their mean with the 95 % interval.

    The best point by mean `perf_val` has a star.  `perf_train` is left out where the table would
    be wider than `width` characters; diverged and failed are there when there are any.
    """
    points = results.summary().points
    best = _best(results)
    columns: dict[str, list[str]] = {
        "": [STAR if point is best else "" for point in results],
        "params": [name_point(point.params) for point in points],
        "learning rate": [_rates(point) for point in results],
        "batch": [str(point.batch_size) if point.batch_size else "-" for point in results],
        "n": [str(point.n) for point in points],
        "perf_val": [show_interval(point.perf_val) for point in points],
        "perf_train": [show_interval(point.perf_train) for point in points],
    }
    for name, counts in (("diverged", _diverged(points)), ("failed", _failed(points))):
        if any(counts):
            columns[name] = [str(count or "-") for count in counts]
    if width is not None and _width(columns) > width:
        del columns["perf_train"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(
            Text(name),
            justify="right" if name in {"batch", "n", "diverged", "failed"} else "left",
            style="dim" if name == "perf_train" else "",
        )
    for point, cells in zip(results, zip(*columns.values(), strict=True), strict=True):
        table.add_row(*(Text(cell) for cell in cells), style="bold" * (point is best))
    return table


def show_interval(interval: Interval) -> str:
    """A mean with the half width of its interval, as far as they are known."""
    if interval.n == 0:
        return "-"
    if math.isnan(interval.half_width):
        return f"{interval.mean:.4f}"
    return f"{interval.mean:.4f} ± {interval.half_width:.4f}"


def _best(results: SweepResult) -> PointResult | None:
    return results.best() if any(len(point.perf_val) for point in results) else None


def _rates(point: PointResult) -> str:
    if math.isnan(point.lr_min):
        return "-"
    return f"{point.lr_min:.3g} to {point.lr_max:.3g}"


def _diverged(points: Sequence[PointSummary]) -> list[int]:
    return [point.diverged for point in points]


def _failed(points: Sequence[PointSummary]) -> list[int]:
    return [point.failed for point in points]


def _width(columns: dict[str, list[str]]) -> int:
    widths = [max(map(cell_len, (name, *cells))) for name, cells in columns.items()]
    return sum(widths) + 3 * len(widths)


# -- what can be said -----------------------------------------------------------------------------


def findings(results: SweepResult, most: int = 10) -> list[str]:
    """Which differences to the best point are larger than their intervals, as lines of words.

    The best point is compared with each other one by Welch's t, at 95 % for all together by
    Bonferroni's inequality (O. J. Dunn, 1961).  It counts every pair of points, since the data
    that compares the best is also what made it the best.  A point is tuned once, and all its
    trials share that tuning: the lines say so.  After `most` comparisons, the nearest first, the
    rest is counted.
    """
    best = _best(results)
    others = [point for point in results if point is not best and len(point.perf_val)]
    if best is None or not others:
        return []
    leader = name_point(best.params)
    compared = [point for point in others if len(point.perf_val) > 1]
    if len(best.perf_val) < 2 or not compared:
        why = "one trial of a point shows no spread; two or more of each (--trials) would tell"
        return [f"What can be said: {leader} leads, but {why}"]
    pairs = len(compared) * (len(compared) + 1) // 2
    confidence = 1 - 0.05 / pairs
    differences = [
        (mean_difference(best.perf_val, point.perf_val, confidence), name_point(point.params))
        for point in compared
    ]
    differences.sort(key=lambda difference: difference[0].mean)
    over = f", Bonferroni over {pairs} pairs" if pairs > 1 else ""
    lines = [
        f"What can be said of these points as tuned (95 %, Welch's t{over});",
        "how much another tuning of a point would change is not counted:",
    ]
    lines += [f"  {_sentence(leader, other, found)}" for found, other in differences[:most]]
    lines += _rest([found for found, _ in differences[most:]])
    untold = len(others) - len(compared)
    if untold:
        lines.append(f"  {plural(untold, 'point')} with a single trial cannot be compared")
    return lines


def _is_told_apart(difference: Difference) -> bool:
    return difference.mean > difference.half_width


def _sentence(leader: str, other: str, found: Difference) -> str:
    if math.isnan(found.half_width):
        return (
            f"{leader} and {other} ({found.mean:.4f}) cannot be compared, since the trials of "
            "neither differ: more trials would help"
        )
    size = f"{found.mean:.4f} ± {found.half_width:.4f}"
    if _is_told_apart(found):
        return f"{leader} is better than {other} by {size}"
    return f"{leader} cannot be told apart from {other} ({size}): more trials would help"


def _rest(left: Sequence[Difference]) -> Iterator[str]:
    if left:
        better = sum(map(_is_told_apart, left))
        yield (
            f"  and {plural(len(left), 'more comparison')}: better than {better}, cannot be told "
            f"apart from {len(left) - better}"
        )


# -- what failed ----------------------------------------------------------------------------------


def failure_lines(results: SweepResult, folder: str | Path, most: int = 5) -> list[str]:
    """The first failures, a line each, and how to see their tracebacks."""
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
        what = "tuning" if failure.number is None else f"{failure.stage} {failure.number}"
        line = f"{show_params(failure.params)} · {what}: {failure.message}"
        found.append(clean_line(line, _LONGEST_MESSAGE))
    return found
