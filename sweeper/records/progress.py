"""How far a sweep has come: what a person sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.records.points import Params


@dataclass(frozen=True, slots=True)
class Best:
    """The best point so far."""

    params: Params
    mean: float
    """Of the metric that points are judged by: of a problem `perf_val`."""
    trials: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep has come."""

    tuning: int
    training: int
    done: int
    failed: int
    waiting: int
    """Points asked for whose tuning has not begun."""
    trials_done: int
    trials_failed: int
    trials_asked: int
    running: tuple[tuple[int, str, float], ...]
    """For each busy slot: its number, what it does, and since when."""
    slots: int
    best: Best | None
    seconds_left: float | None
    """From observed speeds; None while too little is known."""

    @property
    def points(self) -> int:
        """All points asked for."""
        return self.tuning + self.training + self.done + self.failed + self.waiting


@dataclass(frozen=True, slots=True)
class FolderProgress(Progress):
    """How far a sweep has come, as any process finds it in its folder."""

    folder: str
    workload: str
    """What is swept, by name."""
    state: Literal["running", "resting", "finished"]
    """running: a process drives it.  finished: nothing is left to train, and no points are awaited.
    resting: any other; the same call goes on."""
    driver: str | None
    """The process that drives the folder."""
    seen: float
    """When the folder was read."""
    last: float | None
    """When the last replica ended."""
    trials_per_hour: float | None
    """Of the run that goes on, or else of the last one; None: no trial has ended in it."""

    @property
    def ends(self) -> float | None:
        """The estimated end, in seconds since the epoch; None: it does not run, or is not known."""
        running = self.state == "running" and self.seconds_left is not None
        return self.seen + (self.seconds_left or 0.0) if running else None


@dataclass(frozen=True, slots=True)
class Status:
    """How far a folder has come, whether its sweep runs or not."""

    folder: str
    identity: Mapping[str, Any]
    """Problem, seed, curve_samples, and the settings by name."""
    phases: Mapping[str, int]
    """Points by phase: waiting, tuning, training, done, failed."""
    trials_done: int
    trials_failed: int
    """Included in `trials_done`."""
    trials_asked: int
    driver: str | None
    """The process that drives the folder at the moment."""
    began: float | None
    """When the first replica started, in seconds since the epoch."""
    last: float | None
    """When the last replica ended."""
