"""What each trial of a program used, as lines for people."""

from __future__ import annotations

import time

from sweeper.records import Usage
from sweeper.results import SweepResult
from sweeper.show.clean import clean_line
from sweeper.show.columns import in_columns
from sweeper.summary import show_params

_HEAD = ("trial", "started", "seconds", "cpu seconds", "peak memory", "host", "cores", "params")


def usage_lines(results: SweepResult) -> list[str]:
    """A line for each trial of which it was recorded, below a heading."""
    rows = [
        (str(number), *_cells(used), clean_line(show_params(point.params)))
        for place, point in enumerate(results)
        for number, used in zip(results.trial_numbers[place], results.usage[place], strict=True)
        if used is not None
    ]
    if not rows:
        return ["nothing is recorded of what trials used: it is for programs"]
    return in_columns([_HEAD, *rows])


def _cells(used: Usage) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(used.started)),
        f"{used.ended - used.started:.2f}",
        f"{used.cpu_seconds:.2f}",
        f"{used.peak_bytes / 2**20:,.1f} MiB",
        clean_line(used.host),
        ",".join(map(str, used.cores)),
    )
