"""A problem as the driver sees it: what is known of it, and its data for all workers.

The driver imports neither the problem nor torch: a process beside it does, which the fork server
makes from itself, and which ends when the data is there.  So a sweep imports torch once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.files import nameless_file
from sweeper.run.aside import Aside
from sweeper.run.backends.local import load, prepare
from sweeper.run.worker import resolve
from sweeper.train.context import Brief, DataRef
from sweeper.train.loading import find_ref, installed_imports

PRELOAD = ("sweeper.train.job", "sweeper.train.reading")

TUNING = ("torch._dynamo",)
"""The first optimiser of torch that is made imports it, which takes as long as torch itself."""


class _Here:
    """This process, where nothing is made for it: the backend `inline`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def call(self, function: str, *arguments: Any) -> Any:
        """See `Aside`."""
        return resolve(function)(self._fd, *arguments)

    def close(self) -> None:
        """See `Aside`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A problem that has been imported, and whose data can be read, once."""

    brief: Brief
    _place: Aside | _Here
    _fd: int

    def read_data(self, seed: int) -> tuple[DataRef, int | None]:
        """What workers need to know of the data, and the file that they share, if they do.

        Raises:
            ProblemError: the data cannot be made or read.
        """
        try:
            ref: DataRef = self._place.call(
                "sweeper.train.reading:read_shared", self.brief.ref, seed
            )
        finally:
            self._place.close()  # with its own copy of the data
        return ref, self._fd if ref.layouts else None

    def expect_tuning(self) -> None:
        """Have what tuning needs imported once for all workers, while other things go on."""
        if isinstance(self._place, Aside):
            load(PRELOAD, TUNING)


@contextlib.contextmanager
def read_problem(given: ModuleType | str | Path, backend: str) -> Iterator[Reading]:
    """Import a problem (a module, a dotted name, `__name__` or a `.py` file) and check it.

    Raises:
        ProblemError: it cannot be found or imported, or lacks something.
    """
    ref = find_ref(given)
    fd = nameless_file()
    try:
        with contextlib.closing(_place(given, backend, fd)) as place:
            brief: Brief = place.call("sweeper.train.reading:read_brief", ref)
            yield Reading(brief, place, fd)
    finally:
        os.close(fd)


def _place(given: ModuleType | str | Path, backend: str, fd: int) -> Aside | _Here:
    if backend == "inline":
        return _Here(fd)
    prepare(PRELOAD, installed_imports(given))
    return Aside("reading the problem", fd, PRELOAD)
