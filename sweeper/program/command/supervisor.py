"""Runs one command as the parent of all its processes, and ends all of them.

A program of its own (`python -I -S supervisor.py FOLDER GRACE COMMAND …`), since its worker may be
killed at any moment: standard input is a pipe that only the worker holds, and when it closes, the
command is asked to end by SIGTERM, and killed GRACE seconds later.  However the command ends,
whatever it leaves running is killed.  Standard output has a line for each thing that happened:

    refused ERRNO PATH     it could not be started, or a file of its output not be opened
    started PID
    ended STATUS           its wait status
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time
from pathlib import Path

OUTPUT, ERRORS, METRICS = "stdout.txt", "stderr.txt", "metrics.json"
"""Files in the folder of a trial: what the command prints, and where it may write its metrics."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that are for the command: the supervisor lives until all of it has ended."""

_RESET = {*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ}
"""Signals that a command finds as a shell would leave them."""


def main(folder: str, grace: str, *argv: str) -> None:
    """Run the command `argv`, with its output in `folder`."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    woken = _wake_on_children()
    _adopt_orphans()
    try:
        files = _open_files(Path(folder))
        if select.select([0], [], [], 0)[0]:
            return  # the worker is gone
        pid = _spawn(argv, files)
    except OSError as error:
        _report(f"refused {error.errno} {error.filename}")
        return
    _report(f"started {pid}")
    _wait(pid, woken, float(grace))
    _report(f"ended {_end(pid)}")


def _report(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the worker is gone
        os.write(1, os.fsencode(f"{line}\n"))


def _wake_on_children() -> int:
    """A descriptor that is readable once a child has ended."""
    woken, waker = os.pipe()
    for fd in (woken, waker):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    return woken


def _adopt_orphans() -> None:
    """Become the parent of what the command leaves behind, also in sessions of its own."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


_PR_SET_CHILD_SUBREAPER = 36


def _open_files(folder: Path) -> tuple[int, int]:
    """The files of the output, emptied once nobody of an earlier try writes to them any more."""
    # Held until this process ends: the supervisor of an earlier try may still be ending it.
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
    (folder / METRICS).unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
    out, err = (os.open(folder / name, flags, 0o666) for name in (OUTPUT, ERRORS))
    return out, err


def _spawn(argv: tuple[str, ...], files: tuple[int, int]) -> int:
    """Start the command in a process group of its own; returns its pid."""
    out, err = files
    return os.posix_spawnp(
        argv[0],
        argv,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ],
        setpgroup=0,
        setsigmask=[],
        setsigdef=_RESET,
    )


def _wait(pid: int, woken: int, grace: float) -> None:
    """Wait until the command has ended, or has had its time to do so."""
    until = None
    while not _has_ended(pid):
        if until is None:
            ready, _, _ = select.select([0, woken], [], [])
            if 0 in ready:
                os.killpg(pid, signal.SIGTERM)
                until = time.monotonic() + grace
        elif (left := until - time.monotonic()) > 0:
            select.select([woken], [], [], left)
        else:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 1 << 12)


def _has_ended(pid: int) -> bool:
    """Whether the command has ended; it is not reaped, so that its number stays its own."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if ended.si_pid == pid:
            return True
        os.waitpid(ended.si_pid, 0)  # an orphan
    return False


def _end(pid: int) -> int:
    """Kill what is left of the command; returns its wait status."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while orphans := _children():  # each may have children, which become this process's
        for orphan in orphans:
            with contextlib.suppress(OSError):
                os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
    return status


def _children() -> list[int]:
    """The pids of this process's children."""
    own, found = os.getpid(), []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # PID (NAME) STATE PARENT …, and the name may have anything in it.
            parent = path.read_bytes().rpartition(b")")[2].split()[1]
            if int(parent) == own:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
