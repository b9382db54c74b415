"""Opens a problem or a program as a workload, in a helper process.

The driver imports neither the problem nor torch, nor a program.  A helper process, forked by the
fork server, does so and ends when the problem or program is read.  So a sweep imports torch once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.api.early import begin_import, modules_before
from sweeper.code.importing import ModuleRef, find_ref
from sweeper.disk.files import current_folder, nameless_file, open_standard_streams
from sweeper.errors import FolderError, SettingsError
from sweeper.program import workload as program
from sweeper.program.command.command import Command
from sweeper.program.metrics import read_metrics
from sweeper.program.objective.locate import ObjectiveRef, find_objective
from sweeper.program.records.redirect import TRIAL, check_redirect
from sweeper.program.spec import RAISE, RECORD
from sweeper.program.workload import ProgramWorkload
from sweeper.records import NUMERICS
from sweeper.run.backends import find_backend, names_of
from sweeper.run.backends.local import prepare
from sweeper.run.processes.helper import HelperProcess
from sweeper.run.processes.worker import resolve
from sweeper.train.problem.spec import environment_of
from sweeper.train.workload import PRELOAD, TRAINING, Place, ProblemWorkload


class _Here:
    """Calls functions in this process, for a backend that starts no other."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def call(self, function: str, *arguments: Any) -> Any:
        """See `Place`."""
        return resolve(function)(self._fd, *arguments)

    def load(self, modules: Sequence[str]) -> None:
        """See `Place`."""

    def close(self) -> None:
        """See `Place`."""


@contextlib.contextmanager
def read_problem(
    given: ModuleType | str | Path | ModuleRef, backend: str
) -> Iterator[ProblemWorkload]:
    """Begin to import a problem (a module, a dotted name, `__name__` or a `.py` file).

    Starts importing the modules that the problem imports; the problem itself is imported when its
    spec is asked for.

    Raises:
        ProblemError: the problem cannot be found.
        UsageError: it is in no file, and uses something that no worker could be given.
    """
    ref = find_ref(given)
    open_standard_streams()
    fd = nameless_file()
    try:
        with contextlib.closing(_place(ref, backend, fd)) as place:
            yield ProblemWorkload(ref, place, fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def read_program(
    given: object,
    backend: str,
    metrics: object = None,
    on_error: str = RAISE,
    redirect: str | None = None,
    *,
    profile: bool = False,
) -> Iterator[ProgramWorkload]:
    """Begin to import a program: a function, a generator function, or `"pkg.module:name"`.

    Args:
        given: The objective; or a `Command`, of which nothing is imported.
        backend: As `sweep`; one without processes of its own imports it here.
        metrics: As `sweep`.
        on_error: As `sweep`.
        redirect: As `sweep`.
        profile: As `sweep`.

    Raises:
        UsageError: it cannot be found, or `metrics`, `on_error` or `redirect` is invalid, or
            a command has no use for what is given.
    """
    ref = given if isinstance(given, Command) else find_objective(given)
    if isinstance(given, Command):
        _check_of_command(on_error, redirect, profile=profile)
    declared = read_metrics(metrics)
    redirect = check_redirect(redirect, own_processes=find_backend(backend).own_processes)
    open_standard_streams()
    fd = nameless_file()
    try:
        with contextlib.closing(_place_of_program(ref, backend, fd)) as place:
            yield ProgramWorkload(ref, place, declared, on_error, redirect, profile=profile)
    finally:
        os.close(fd)


def _check_of_command(on_error: str, redirect: str | None, *, profile: bool) -> None:
    """Refuse what no command has, instead of doing nothing.

    Raises:
        SettingsError: one of these is given.
    """
    why = ""
    if profile:
        why = "profile=True: a command is a process of its own, which cProfile does not see"
    elif on_error == RECORD:
        why = f"on_error={RECORD!r}: a command has no iterations"
    elif redirect not in (None, TRIAL):
        why = f"redirect={redirect!r}: what a command prints is always kept in its trial's folder"
    if why:
        raise SettingsError(f"{why}: leave it out")


def _place_of_program(ref: ObjectiveRef | Command, backend: str, fd: int) -> Place:
    if not find_backend(backend).own_processes:
        # As workers have it, before the first matrix product reads it; so it stays set.
        for name, value in program.ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        return _Here(fd)
    if isinstance(ref, Command):
        prepare(program.PRELOAD)
        return _Here(fd)
    prepare(program.PRELOAD, modules_before(ref.module) if ref.carried is None else ())
    return HelperProcess("reading the program", fd, program.PRELOAD, program.ENVIRONMENT)


def _place(ref: ModuleRef, backend: str, fd: int) -> Place:
    if not find_backend(backend).own_processes:
        if "torch" not in sys.modules and current_folder() is None:
            raise FolderError(
                "the current folder is gone, where torch cannot be imported: change to an existing "
                f"one, or choose backend={names_of(own_processes=True)}"
            )
        return _Here(fd)
    begin_import(ref)
    environment = environment_of(NUMERICS)
    return HelperProcess("reading the problem", fd, PRELOAD, environment, TRAINING)
