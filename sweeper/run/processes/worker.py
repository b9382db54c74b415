"""A worker: one process on its own cores, which executes jobs until its driver is gone."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import io
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeper.disk.files import (
    current_folder,
    explained,
    mend_standard_streams,
    open_standard_streams,
)
from sweeper.errors import BackendError, DiskError, SweeperError
from sweeper.records import Job, Outcome, Target
from sweeper.run.processes.channel import Channel

FIXED_ENVIRONMENT = {
    # Each worker sets its own threads; more than one in the server would make forking unsafe.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Iteration over a set of strings must have the same order in every worker of every run.
    "PYTHONHASHSEED": "0",
}
"""Environment variables that are set for every worker, whatever the driver's are."""

MOST_LOGGED = 1 << 26
"""Size of a worker's log, in bytes, above which it is truncated before the next job."""

Execute = Callable[[Any, int | None, Job], Iterator[Outcome]]


@dataclass(frozen=True, slots=True)
class Unfit:
    """The only message of a worker that could not be set up."""

    error: SweeperError

    @classmethod
    def because(cls, error: Exception) -> Unfit:
        """The message for an unexpected `error` during set-up, with its traceback."""
        if isinstance(error, DiskError):
            return cls(error)
        text = "".join(traceback.format_exception(error))
        return cls(BackendError(f"a worker could not be set up:\n{text}"))


@dataclass(frozen=True, slots=True)
class Bound:
    """A message to a worker: from now on it has these cores."""

    cores: tuple[int, ...]
    """Logical CPUs."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a worker."""

    sys_path: tuple[str, ...]
    argv: tuple[str, ...]
    """The driver's arguments: a script that is imported as a problem may read them."""
    environment: dict[str, str]
    """The driver's environment, without the variables that are set for every worker."""
    folder: str | None
    """The driver's current folder; None if it has been removed."""
    cores: tuple[int, ...]
    """Logical CPUs to bind to; empty: all."""
    log: str | None
    """The file for the worker's output; None: where the driver's output goes."""
    target: Target

    @classmethod
    def here(
        cls,
        target: Target,
        cores: tuple[int, ...] = (),
        log: str | None = None,
        own: Mapping[str, str] | None = None,
    ) -> Setup:
        """The set-up that reproduces this process's environment, with `own` variables besides."""
        here = current_folder()
        return cls(
            sys_path=tuple(sys.path),
            argv=tuple(sys.argv),
            environment={
                name: value
                for name, value in {**target.environment, **os.environ, **(own or {})}.items()
                if name not in FIXED_ENVIRONMENT
            },
            folder=None if here is None else str(here),
            cores=cores,
            log=log,
            target=target,
        )


def command(program: str, told: tuple[Any, ...]) -> list[str]:
    """The command line of a Python process with the same module search path as this one.

    `program` is executed with the variable `told`, a tuple of literals.  A process started with
    `-c` searches the current folder first, so its path is set before it imports anything.
    """
    # Python, too, skips entries that are not strings.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return [sys.executable, "-c", _BEGINNING + program, ascii((path, told))]


_BEGINNING = "import sys; sys.path[:], told = eval(sys.argv.pop(1))"


def starting_folder() -> str | None:
    """The folder in which to start a process: torch cannot be imported in a removed folder."""
    return os.sep if current_folder() is None else None


def prints_to(fd: int) -> bool:
    """Whether `fd`, 1 or 2, is this process's output.

    If the process was started without it, or has closed it, the number may belong to another file.
    """
    stream = sys.__stdout__ if fd == 1 else sys.__stderr__
    if stream is None or stream.closed:
        return False
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def serve(connection: int, lifeline: int, fd: int | None) -> None:
    """Execute jobs from the socket `connection` until it is closed.

    `lifeline` is the reading end of a pipe whose other end only the driver holds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_driver, args=(lifeline,), daemon=True).start()
    channel = Channel(socket.socket(fileno=connection))
    try:
        try:
            setup: Setup = channel.receive()
            _settle(setup)
            execute: Execute = resolve(setup.target.execute)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # noqa: BLE001 - the driver raises it: no job is to blame
            channel.send(Unfit.because(error))
            return
        while True:
            job: Job | Bound = channel.receive()
            if isinstance(job, Bound):
                setup = replace(setup, cores=job.cores)
                _bind(job.cores)
                continue
            if setup.log is not None:
                with contextlib.suppress(OSError):  # the log's folder is gone
                    _print_again_to(setup.log)
            _settle_again(setup)
            for outcome in execute(setup.target.context, fd, job):
                channel.send(outcome)
                _settle_again(setup)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def resolve(path: str) -> Callable[..., Any]:
    """The function given as `"module:name"`."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _settle(setup: Setup) -> None:
    sys.path[:] = setup.sys_path
    sys.argv[:] = setup.argv
    for name in set(os.environ) - set(setup.environment) - set(FIXED_ENVIRONMENT):
        del os.environ[name]
    os.environ.update(setup.environment)
    go_to(setup.folder)
    if setup.cores:
        _bind(setup.cores)
    if setup.log is not None:
        with explained(Path(setup.log)):
            _print_to(setup.log)
        # Line buffering, so that output before a crash is kept.
        for text in (sys.stdout, sys.stderr):
            if isinstance(text, io.TextIOWrapper):  # a module may have replaced it
                text.reconfigure(line_buffering=True)
        faulthandler.enable(2)


def _bind(cores: Collection[int]) -> None:
    """Bind the process to these cores, with the compute threads that earlier jobs have started."""
    os.sched_setaffinity(0, cores)
    with contextlib.suppress(OSError):  # a thread ends, or the system does not list them
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _settle_again(setup: Setup) -> None:
    """Undo what a replica has changed in the process, so that the next one does not see it."""
    go_to(setup.folder)
    if setup.cores:
        with contextlib.suppress(OSError):  # the system has taken these cores away
            os.sched_setaffinity(0, setup.cores)


def _print_to(log: str) -> None:
    """Let the descriptors 1 and 2 be the end of this file."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _print_again_to(log: str) -> None:
    """Undo what the last job did to the output: closed it, redirected it, or filled the log."""
    if not _prints_to(log):
        open_standard_streams()
        _print_to(log)
    mend_standard_streams()
    if os.fstat(1).st_size > MOST_LOGGED:
        os.ftruncate(1, 0)


def _prints_to(log: str) -> bool:
    """Whether the descriptors 1 and 2 are this file, and 0 is open."""
    try:
        os.fstat(0)
        out, err, file = os.fstat(1), os.fstat(2), os.stat(log)  # noqa: PTH116 - before each job
    except OSError:
        return False
    return os.path.samestat(out, file) and os.path.samestat(err, file)


def go_to(folder: str | None) -> None:
    """Change to `folder`, or to the root if it is gone.

    torch cannot be imported in a folder that has been removed.
    """
    try:
        os.chdir(os.sep if folder is None else folder)
    except OSError:
        os.chdir(os.sep)


def _die_with_driver(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the last writing end is closed: the driver is gone
    os.killpg(0, signal.SIGKILL)  # includes processes that the model started
