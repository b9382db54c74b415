"""Reads a program for the driver, an objective in a helper process: the driver imports none."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from sweeper.code.carried import NO_FILE
from sweeper.code.sources import imported_by, read_carried, read_sources, stale_sources
from sweeper.program.command.command import Command
from sweeper.program.command.reading import read_command
from sweeper.program.objective.branches import takes_of
from sweeper.program.objective.locate import RUN, ObjectiveRef, load_objective
from sweeper.program.spec import ProgramSpec


def read_spec(fd: int, ref: ObjectiveRef | Command) -> ProgramSpec:
    """Import the objective, or look at the command, for what the driver must know of it.

    Raises:
        UsageError: it cannot be imported, cannot be called with named parameters, or cannot be
            started.
    """
    del fd
    if isinstance(ref, Command):
        return read_command(ref)
    before = set(sys.modules)
    module, objective = load_objective(ref)
    if ref.carried is not None:
        own = f"{ref.name}{NO_FILE}"
        sources = read_carried(ref.carried, own)
    else:
        own = Path(inspect.getfile(module)).name
        sources = read_sources(module, [name for name in list(sys.modules) if name not in before])
    is_class = isinstance(objective, type)
    return ProgramSpec(
        ref,
        takes_of(objective, ref.name),
        inspect.isgeneratorfunction(getattr(objective, RUN) if is_class else objective),
        sources,
        next(one.label for one in sources if one.label == own),
        # What is typed in again is carried again.
        stale_sources(one for one in sources if ref.carried is None or one.label != own),
        # One that imports torch while it runs must find it seeded, too.
        is_class=is_class,
        uses_torch="torch" in {*sys.modules, *imported_by(sources), *_packages(ref)},
    )


def _packages(ref: ObjectiveRef) -> set[str]:
    """The outermost packages of the modules that a carried objective uses."""
    modules = () if ref.carried is None else ref.carried.modules
    return {name.partition(".")[0] for name in modules}
