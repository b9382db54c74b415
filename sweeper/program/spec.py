"""What is known of a program: plain data that crosses processes."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.program.command.command import Command
from sweeper.program.objective.locate import ObjectiveRef, Takes
from sweeper.program.records.redirect import NONE
from sweeper.workload import Source


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What the driver knows of a program."""

    ref: ObjectiveRef | Command
    takes: Takes
    yields: bool
    """Whether it is a generator function, or its `run` is."""
    sources: tuple[Source, ...]
    own_label: str
    stale: tuple[str, ...]
    """Labels of sources of which the process that read it had imported an earlier version."""
    uses_torch: bool
    is_class: bool = False
    """Whether it is a class whose trials share what `setup` built."""


RAISE, RECORD = ON_ERROR = ("raise", "record")
"""What an exception in one iteration of a generator does: it fails the trial; or the trial ends
there, with what it has yielded before as its result, and the exception is stored with it."""


@dataclass(frozen=True, slots=True)
class ProgramContext:
    """What all trials of a sweep share."""

    ref: ObjectiveRef | Command
    takes: Takes
    sources: tuple[tuple[str, str], ...]
    """Path and SHA-256 of the program's files when it was read."""
    seed: int
    devices: int
    """How many each trial gets."""
    metrics: tuple[str, ...]
    """The names of the declared metrics."""
    on_error: str
    """What an exception in an iteration of a generator does (see `ON_ERROR`)."""
    checkpoints: str
    """The folder of checkpoints."""
    folder: str
    """The path of a trial's own folder, with placeholders for `id` and `number`."""
    uses_torch: bool
    redirect: str = NONE
    """Where a trial's output goes (see `redirect.CHOICES`)."""
    shared: str = ""
    """The folder of the sweep's files of output."""
    profile: bool = False
    """Whether trials are profiled."""
