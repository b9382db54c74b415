"""Runs a command for a trial, and reads what it came to.

The command runs under `supervisor.py`, which ends it and all that it started when this worker
ends, however that happens.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from sweeper.code.sources import check_sources
from sweeper.errors import ParamError
from sweeper.program.command import supervisor
from sweeper.program.command.command import Command, inherited
from sweeper.program.command.printed import metrics_by_patterns, metrics_in_json, metrics_in_lines
from sweeper.program.trial.trial import Trial
from sweeper.records import Failure

GRACE = 1.0
"""Seconds that a command has to end after SIGTERM."""

MOST_READ = 1 << 22
"""Bytes at the end of an output in which metrics are looked for."""

_LINES = 20
"""Last lines of the output that a failure shows, of at most 500 characters each."""


class CommandFailed(Exception):
    """A command has not come to metrics."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Ended:
    """What the supervisor has told."""

    status: int | None = None
    """The wait status; None: it was not started, or the supervisor was killed."""
    refused: tuple[int, str] | None = None
    """Why it was not started: the system's error number, and the path that it is about."""


def run_command(
    command: Command, trial: Trial, sources: Sequence[tuple[str, str]], declared: Sequence[str]
) -> dict[str, float]:
    """The metrics of one run of a command.

    Raises:
        CommandFailed: it could not be started, has failed, or gave no metrics.
        ParamError: it cannot have the trial's parameters or its budget.
        ChangedCodeError: a file of the command has changed since the sweep began.
    """
    check_sources(sources)
    folder = trial.folder
    given = _given(command, trial, folder)
    argv = command.arguments(trial.params, given)
    environment = inherited(os.environ) | command.environment(trial.params, given)
    ended = _supervised(argv, folder, environment)
    out, err = (_tail(folder / name) for name in (supervisor.OUTPUT, supervisor.ERRORS))
    if ended.status != 0:
        raise CommandFailed(_why(argv[0], ended, _last_lines(err, out), folder))
    found = _metrics(command, out, err, folder, declared)
    if not found:
        raise CommandFailed(_without_metrics(command, _last_lines(out, err), folder))
    return found


def _given(command: Command, trial: Trial, folder: Path) -> dict[str, int | str | None]:
    """What the trial gives to placeholders and environment.

    Raises:
        ParamError: a budget is asked for and the command takes none, or the other way round; or a
            parent that it takes no account of.
    """
    takes = "budget" in command.placeholders and "budget" not in trial.params
    if takes != (trial.budget is not None):
        raise ParamError(
            f"budget={trial.budget}: the command takes {'' if takes else 'no '}{{budget}}: "
            + ("let the selector ask with a budget" if takes else "put {budget} where it goes")
        )
    parent = trial.parent_folder
    if parent is not None and "parent_folder" not in command.placeholders:
        raise ParamError(
            "the trial begins from a parent, and the command takes no {parent_folder}: put "
            "{parent_folder} where it goes; it is empty for a trial without a parent"
        )
    return {
        "seed": trial.seed,
        "trial": trial.number,
        "folder": str(folder),
        "cores": trial.cores,
        "budget": trial.budget,
        "parent_folder": None if parent is None else str(parent),
    }


def _supervised(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> _Ended:
    """Run a command under a supervisor, and wait until nothing of it is left."""
    own = [sys.executable, "-I", "-S", str(supervisor.__file__), str(folder), str(GRACE)]
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user gave to be run
            [*own, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:  # arguments that are too long, no more processes
        return _Ended(refused=(error.errno or 0, argv[0]))
    told, lifeline = process.stdout, process.stdin
    assert told is not None  # noqa: S101 - both are pipes
    assert lifeline is not None  # noqa: S101
    try:
        ended = _read(told.read())
    finally:
        # Whatever was raised here, the command ends with its supervisor.
        lifeline.close()
        told.close()
        process.wait()
    if ended == _Ended():
        _kill_session(process.pid)
    return ended


def _read(told: bytes) -> _Ended:
    """What a supervisor has told, once it has ended."""
    for line in os.fsdecode(told).splitlines():
        what, _, rest = line.partition(" ")
        if what == "refused":
            number, _, path = rest.partition(" ")
            return _Ended(refused=(int(number), path))
        if what == "ended":
            return _Ended(status=int(rest))
    return _Ended()


def _kill_session(session: int) -> None:
    """Kill what goes on after its supervisor was killed."""
    for pid in psutil.pids():
        with contextlib.suppress(OSError):  # it has ended
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


# -- what it printed ------------------------------------------------------------------------------


def _tail(path: Path) -> str:
    """The last `MOST_READ` bytes of a file as text, from the beginning of a line.

    Empty: there is no such file, or the command has put something else in its place.
    """
    try:
        # It would wait for the writer of a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return ""
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return ""
        skipped = max(0, about.st_size - MOST_READ)
        file.seek(skipped)
        text = file.read(MOST_READ).decode(errors="replace")
    return text.partition("\n")[2] if skipped else text


def _metrics(
    command: Command, out: str, err: str, folder: Path, declared: Sequence[str]
) -> dict[str, float]:
    if command.metrics is not None:
        return metrics_by_patterns(command.metrics, (out, err))
    printed = metrics_in_lines(out, declared)
    return printed or metrics_in_json(_tail(folder / supervisor.METRICS), declared)


# -- why it failed --------------------------------------------------------------------------------

_TOLD: Mapping[str, Literal["disk", "memory"]] = {
    "No space left on device": "disk",
    "Disk quota exceeded": "disk",
    "MemoryError": "memory",
    "can't allocate memory": "memory",
    "Cannot allocate memory": "memory",
}
"""What the last lines of an output say, and what has then failed."""


def _why(program: str, ended: _Ended, last: Sequence[str], folder: Path) -> Failure:
    """The failure of a command that did not end with exit code 0."""
    if ended.refused is not None:
        return _refused(program, *ended.refused)
    detail = _detail(last, folder)
    if ended.status is None:
        return Failure("crash", "the process that supervised the command was killed", detail)
    code = os.waitstatus_to_exitcode(ended.status)
    said = f": {last[-1]}" if last else ""
    if code >= 0:
        kinds = [kind for words, kind in _TOLD.items() if any(words in line for line in last)]
        message = f"the command ended with exit code {code}{said}"
        return Failure(kinds[0] if kinds else "exception", message, detail)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "?"
    message = f"the command was ended by signal {-code} ({name}){said}"
    if -code == signal.SIGKILL:
        likely = "likely cause: the system ran out of memory, or someone killed it"
        return Failure("memory", message, f"{likely}\n{detail}")
    return Failure("crash", message, detail)


def _refused(program: str, number: int, path: str) -> Failure:
    """The failure of a command that could not be started."""
    if path not in (program, str(None)) or number == errno.ENOSPC:
        full = number in (errno.ENOSPC, errno.EDQUOT)
        message = f"{path} cannot be written: {os.strerror(number)}"
        return Failure("disk" if full else "exception", message)
    return Failure("exception", start_fault(program, number))


def start_fault(program: str, number: int) -> str:
    """Why a program cannot be started, and what to do; `number` is the system's error number."""
    if number == errno.ENOENT and shutil.which(program):
        return f"the command {program!r} cannot be started: its first line names no interpreter"
    advice = {
        errno.ENOENT: "there is no such program: give its path, or put its folder into PATH",
        errno.EACCES: "it is not executable: make it so (chmod +x), or put its interpreter, such "
        "as python, before it",
        errno.ENOEXEC: "its format is unknown: begin it with #! and its interpreter, or put the "
        "interpreter, such as bash, before it",
    }
    return f"the command {program!r} cannot be started: {advice.get(number, os.strerror(number))}"


def _without_metrics(command: Command, last: Sequence[str], folder: Path) -> Failure:
    """The failure of a command that ended well and gave no metrics."""
    ended = "the command ended with exit code 0, but gave no metrics"
    if command.metrics is None:
        message = (
            f"{ended}: no line of its standard output is a JSON object with a number, and its "
            f"folder has no {supervisor.METRICS} with one: write one, or give regular expressions, "
            r"such as Command(…, metrics={'acc': r'accuracy: ([\d.]+)'})"
        )
    else:
        patterns = " or ".join(repr(pattern) for pattern in command.metrics.values())
        message = f"{ended}: nothing in its output matches {patterns}"
    return Failure("exception", message, _detail(last, folder))


def _last_lines(*texts: str) -> list[str]:
    """The last lines of the first of the outputs that has any."""
    for text in texts:
        lines = [line.rstrip()[:500] for line in text[-(1 << 16) :].splitlines() if line.strip()]
        if lines:
            return lines[-_LINES:]
    return []


def _detail(last: Sequence[str], folder: Path) -> str:
    where = f"what it printed is in {folder / supervisor.OUTPUT} and {supervisor.ERRORS} beside it"
    return "\n".join([*last, where])
