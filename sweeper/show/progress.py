"""Progress of a running sweep: a live table on a terminal, plain lines elsewhere.

Both write to standard error: standard output belongs to the caller.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeper.records import FolderProgress, Progress
from sweeper.show.clean import clean, clean_line
from sweeper.summary import show_params

LINE_EVERY = 10.0
"""Seconds between plain lines."""


class View(Protocol):
    """Shows the progress of a sweep."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """Show how far the sweep has come."""

    def note(self, text: str) -> None:
        """Show a message once."""


def make_view(
    progress: bool | None, stream: TextIO | None = None, clock: Callable[[], float] = time.time
) -> View:
    """The view for `stream` (default: standard error); a `NoView` if `progress` is False."""
    stream = stream or sys.stderr
    if progress is False or stream is None:  # None: standard error is closed
        return NoView()
    console = Console(file=stream)
    return LiveView(console, clock) if console.is_terminal else LineView(stream, clock)


class NoView:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: Progress) -> None:
        """See `View`."""

    def note(self, text: str) -> None:
        """See `View`."""


class LineView(NoView):
    """Plain lines with time stamps, at intervals and at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream, self._clock = stream, clock
        self._due = 0.0
        self._last: Progress | None = None
        self._shown: str | None = None

    def __exit__(self, *_: object) -> None:
        if self._last is not None and describe(self._last) != self._shown:
            self._show(self._last)

    def update(self, progress: Progress) -> None:
        """See `View`."""
        self._last = progress
        if self._clock() >= self._due:
            self._show(progress)

    def note(self, text: str) -> None:
        """See `View`."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock()))
        # A closed standard error must not end the sweep.
        with contextlib.suppress(OSError, ValueError):
            print(f"{stamp}  {clean(text)}", file=self._stream, flush=True)

    def _show(self, progress: Progress) -> None:
        self._due = self._clock() + LINE_EVERY
        self._shown = describe(progress)
        self.note(self._shown)


UNFINISHED = "unfinished"
"""What points are that were begun in a sweep that does not run now."""


def describe(progress: Progress) -> str:
    """Progress in one line."""
    parts = [
        f"trials {progress.trials_done}/{progress.trials_asked}",
        (f"points: {_busy(progress)}{progress.done} done of {progress.points}"),
    ]
    if progress.failed or progress.trials_failed:
        parts.append(f"failed: {progress.failed} points, {progress.trials_failed} trials")
    if progress.best is not None:
        shown = clean_line(show_params(progress.best.params))
        parts.append(f"best {shown} {progress.best.mean:.4f}")
    if progress.seconds_left:
        parts.append(f"about {show_duration(progress.seconds_left)} left")
    return "; ".join(parts)


def _busy(progress: Progress) -> str:
    """The points that are tuned, if any, and those whose trials run; a program is not tuned."""
    if isinstance(progress, FolderProgress) and progress.state != "running":
        unfinished = progress.tuning + progress.training
        return f"{unfinished} {UNFINISHED}, " if unfinished else ""
    tuning = f"{progress.tuning} tuning, " if progress.tuning else ""
    return f"{tuning}{progress.training} running, "


def show_duration(seconds: float) -> str:
    """A duration for people: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._progress: Progress | None = None
        # Redrawn at intervals, so that the durations advance while nothing happens.
        self._live = Live(
            # Leave alone what the caller prints into a file.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            console=console,
            get_renderable=self._render,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)
        if self._progress is not None:
            self._live.console.print(describe(self._progress), highlight=False, markup=False)

    def update(self, progress: Progress) -> None:
        """See `View`."""
        self._progress = progress

    def note(self, text: str) -> None:
        """See `View`."""
        self._live.console.print(clean(text), highlight=False, markup=False)

    def _render(self) -> RenderableType:
        if self._progress is None:
            return Text("reading what is swept …", style="dim")
        return draw(self._progress, self._clock())


def draw(progress: Progress, now: float) -> RenderableType:
    """Progress as a table: totals, what each slot does, best so far, time left."""
    totals = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(progress.trials_asked, 1), completed=progress.trials_done, width=40)
    totals.add_row("trials", bar, f"{progress.trials_done} of {progress.trials_asked}")
    totals.add_row(
        "points",
        f"{progress.waiting} waiting, {_busy(progress)}{progress.done} done",
        f"of {progress.points}",
    )
    if progress.failed or progress.trials_failed:
        failed = f"{progress.failed} points, {progress.trials_failed} trials"
        totals.add_row(Text("failed", style="red"), failed, "")
    if progress.best is not None:
        best = progress.best
        shown = f"{best.mean:.4f} over {best.trials} trials"
        name = Text(clean_line(show_params(best.params)), style="green")
        totals.add_row("best so far", name, shown)
    left = progress.seconds_left
    totals.add_row("time left", "…" if left is None else f"about {show_duration(left)}", "")
    slots = Table(box=None, header_style="dim", padding=(0, 2))
    for header in ("worker", "does", "for"):
        slots.add_column(header)
    busy = {slot: (shown, since) for slot, shown, since in progress.running}
    for slot in range(min(progress.slots, 32)):
        doing, since = busy.get(slot, ("idle", now))
        slots.add_row(str(slot), Text(clean_line(doing)), show_duration(max(0.0, now - since)))
    return Group(totals, slots)
