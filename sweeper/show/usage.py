"""What each trial of a program used, as lines for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sweeper.errors import UsageError, suggestion
from sweeper.records import Usage
from sweeper.results import SweepResult
from sweeper.show.clean import clean_line
from sweeper.show.columns import in_columns
from sweeper.summary import show_params

_HEAD = ("trial", "started", "seconds", "cpu seconds", "peak memory", "host", "cores", "params")

_COLUMNS: Mapping[str, Callable[[Usage], Any]] = MappingProxyType(
    {
        "started": lambda used: used.started,
        "seconds": lambda used: used.ended - used.started,
        "cpu_seconds": lambda used: used.cpu_seconds,
        "peak_memory": lambda used: used.peak_bytes,
    }
)
"""What the table can be ordered by."""


def usage_lines(results: SweepResult, sort: str | None = None, top: int | None = None) -> list[str]:
    """A line for each trial of which it was recorded, below a heading.

    Args:
        results: The results.
        sort: The column to order by, the largest (or latest) first; None: as the points were asked
            for.
        top: How many trials to show; None: all.

    Raises:
        UsageError: there is no such column to order by, or `top` is given without one.
    """
    rank = _rank(sort, top)
    trials = [
        (number, used, point.params)
        for place, point in enumerate(results)
        for number, used in zip(results.trial_numbers[place], results.usage[place], strict=True)
        if used is not None
    ]
    if not trials:
        return ["nothing is recorded of what trials used: it is for programs"]
    if rank is not None:
        trials.sort(key=lambda trial: rank(trial[1]), reverse=True)
    rows = [
        (str(number), *_cells(used), clean_line(show_params(params)))
        for number, used, params in trials[:top]
    ]
    return in_columns([_HEAD, *rows])


def _rank(sort: str | None, top: int | None) -> Callable[[Usage], Any] | None:
    """What to order by; None: nothing."""
    choices = ", ".join(_COLUMNS)
    if sort is None:
        if top is not None:
            raise UsageError(f"--usage --top {top}: by what? Give --sort with one of {choices}")
        return None
    if sort not in _COLUMNS:
        raise UsageError(
            f"--usage --sort {sort}: it orders by {choices}{suggestion(sort, _COLUMNS)}; without "
            "--usage the points are ordered by a metric"
        )
    return _COLUMNS[sort]


def _cells(used: Usage) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(used.started)),
        f"{used.ended - used.started:.2f}",
        f"{used.cpu_seconds:.2f}",
        f"{used.peak_bytes / 2**20:,.1f} MiB",
        clean_line(used.host),
        ",".join(map(str, used.cores)),
    )
