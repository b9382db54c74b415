"""What is known of a program: plain data that crosses processes."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.program.objective import ObjectiveRef, Takes
from sweeper.program.redirect import NONE
from sweeper.workload import Source


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What the driver knows of a program."""

    ref: ObjectiveRef
    takes: Takes
    yields: bool
    """Whether it is a generator function."""
    sources: tuple[Source, ...]
    own_label: str
    stale: tuple[str, ...]
    """Labels of sources of which the process that read it had imported an earlier version."""
    uses_torch: bool


@dataclass(frozen=True, slots=True)
class ProgramContext:
    """What all trials of a sweep share."""

    ref: ObjectiveRef
    takes: Takes
    sources: tuple[tuple[str, str], ...]
    """Path and SHA-256 of the program's files when it was read."""
    seed: int
    cores: int
    metrics: tuple[str, ...]
    """The names of the declared metrics."""
    folder: str
    """The path of a trial's own folder, with placeholders for `id` and `number`."""
    uses_torch: bool
    redirect: str = NONE
    """Where a trial's output goes (see `redirect.CHOICES`)."""
    shared: str = ""
    """The folder of the sweep's files of output."""
    profile: bool = False
    """Whether trials are profiled."""
