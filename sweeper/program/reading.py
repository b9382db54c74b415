"""Reads a program for the driver, an objective in a helper process: the driver imports none."""

from __future__ import annotations

import inspect
import sys

from sweeper.program.command import Command
from sweeper.program.command_reading import read_command
from sweeper.program.objective import ObjectiveRef, Takes, load_objective
from sweeper.program.spec import ProgramSpec
from sweeper.sources import imported_by, read_sources, stale_sources


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
    sources = read_sources(module, [name for name in list(sys.modules) if name not in before])
    own = inspect.getfile(module)
    return ProgramSpec(
        ref,
        Takes.of(objective, ref.name),
        inspect.isgeneratorfunction(objective),
        sources,
        next(one.label for one in sources if one.label == own.rpartition("/")[2]),
        stale_sources(sources),
        # One that imports torch while it runs must find it seeded, too.
        uses_torch="torch" in sys.modules or "torch" in imported_by(sources),
    )
