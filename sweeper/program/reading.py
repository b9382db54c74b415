"""Reads a program for the driver, in a helper process: the driver does not import it."""

from __future__ import annotations

import inspect
import sys

from sweeper.program.branches import takes_of
from sweeper.program.objective import RUN, ObjectiveRef, load_objective
from sweeper.program.spec import ProgramSpec
from sweeper.sources import imported_by, read_sources, stale_sources


def read_spec(fd: int, ref: ObjectiveRef) -> ProgramSpec:
    """Import the objective, and find what the driver must know of it.

    Raises:
        UsageError: it cannot be imported, or cannot be called with named parameters.
    """
    del fd
    before = set(sys.modules)
    module, objective = load_objective(ref)
    sources = read_sources(module, [name for name in list(sys.modules) if name not in before])
    own = inspect.getfile(module)
    is_class = isinstance(objective, type)
    return ProgramSpec(
        ref,
        takes_of(objective, ref.name),
        inspect.isgeneratorfunction(getattr(objective, RUN) if is_class else objective),
        sources,
        next(one.label for one in sources if one.label == own.rpartition("/")[2]),
        stale_sources(sources),
        # One that imports torch while it runs must find it seeded, too.
        is_class=is_class,
        uses_torch="torch" in sys.modules or "torch" in imported_by(sources),
    )
