"""The sweeps below a folder, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper.records import FolderProgress
from sweeper.show.clean import clean_line
from sweeper.show.columns import in_columns
from sweeper.show.progress import show_duration

_HEAD = ("folder", "sweeps", "state", "trials", "failed", "left", "last result")


def folders_table(read: Sequence[tuple[Path, FolderProgress | str]], now: float) -> list[str]:
    """A line for each sweep, below a heading; of one that cannot be read, the reason.

    `now` is in seconds since the epoch.
    """
    return in_columns([_HEAD, *(_row(folder, found, now) for folder, found in read)])


def _row(folder: Path, found: FolderProgress | str, now: float) -> tuple[str, ...]:
    name = clean_line(str(folder))
    if isinstance(found, str):
        return (name, "-", "unreadable", clean_line(found, 80))
    left = found.seconds_left if found.state == "running" else None
    return (
        name,
        clean_line(found.workload),
        found.state,
        f"{found.trials_done:,} of {found.trials_asked:,}",
        f"{found.trials_failed + found.failed:,}",
        "-" if left is None else show_duration(left),
        "-" if found.last is None else f"{show_duration(max(0.0, now - found.last))} ago",
    )
