"""A problem as the driver sees it: what is known of it, and its data for all workers.

The driver imports neither the problem nor torch: a process beside it does, which the fork server
makes from itself, and which ends when the data is there.  So a sweep imports torch once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.errors import FolderError
from sweeper.files import current_folder, nameless_file, open_standard_streams
from sweeper.records import NUMERICS
from sweeper.run.aside import Aside
from sweeper.run.backends.local import load, prepare
from sweeper.run.worker import resolve
from sweeper.train.problem.importing import ProblemRef, find_ref, installed_imports
from sweeper.train.problem.spec import Brief, DataRef, environment_of

PRELOAD = ("sweeper.train.job", "sweeper.train.problem.reading")

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


class Reading:
    """A problem that is imported when it is asked for, and whose data can be read, once."""

    def __init__(self, ref: ProblemRef, place: Aside | _Here, fd: int) -> None:
        """Of the problem found at `ref`; `fd` is the file that holds the data for all workers."""
        self._ref, self._place, self._fd = ref, place, fd

    @functools.cached_property
    def brief(self) -> Brief:
        """What is known of it; waits until it is imported and checked.

        Raises:
            ProblemError: it cannot be imported, or lacks something.
            BackendError: the process that imports it cannot be made, or ends over it.
        """
        brief: Brief = self._place.call("sweeper.train.problem.reading:read_brief", self._ref)
        return brief

    def read_data(self, seed: int, threads: int = 1) -> tuple[DataRef, int | None]:
        """What workers need to know of the data, and the file that they share, if they do.

        It is made with as many `threads` as workers compute with.

        Raises:
            ProblemError: the data cannot be made or read.
        """
        ref: DataRef = self._place.call(
            "sweeper.train.problem.reading:read_shared", self.brief.ref, seed, threads
        )
        return ref, self._fd if ref.size else None

    def take_fingerprints(
        self, data: DataRef, threads: int, points: Sequence[tuple[str, str]]
    ) -> Sequence[str | None]:
        """How points behave, of which these are the signatures and encoded parameters."""
        taken: Sequence[str | None] = self._place.call(
            "sweeper.train.problem.reading:take_fingerprints", self.brief.ref, data, threads, points
        )
        return taken

    def release(self) -> None:
        """End what reads the problem, with its own copy of the data."""
        self._place.close()

    def expect_tuning(self) -> None:
        """Have what tuning needs imported once for all workers, while other things go on."""
        if isinstance(self._place, Aside):
            load(PRELOAD, TUNING)


@contextlib.contextmanager
def read_problem(given: ModuleType | str | Path, backend: str) -> Iterator[Reading]:
    """Begin to import a problem (a module, a dotted name, `__name__` or a `.py` file).

    What it imports itself is imported meanwhile; the problem is when its `brief` is asked for.

    Raises:
        ProblemError: it cannot be found.
    """
    ref = find_ref(given)
    open_standard_streams()
    fd = nameless_file()
    try:
        found = given if ref.path is None else Path(ref.path)
        with contextlib.closing(_place(found, backend, fd)) as place:
            yield Reading(ref, place, fd)
    finally:
        os.close(fd)


def _place(given: ModuleType | str | Path, backend: str, fd: int) -> Aside | _Here:
    if backend == "inline":
        if "torch" not in sys.modules and current_folder() is None:
            raise FolderError(
                "the current folder is gone, where torch cannot be imported: change to one that "
                "is there, or choose backend='local'"
            )
        return _Here(fd)
    prepare(PRELOAD, installed_imports(given))
    return Aside("reading the problem", fd, PRELOAD, environment_of(NUMERICS))
