"""Starts a sweep in a process that goes on without its caller's terminal.

The process is in a session of its own, so that no closed terminal ends it.  Until its sweep has
begun, the caller waits: an error up to then is raised there.  What it prints goes into a nameless
file first, since there is no folder yet, and into a log in the folder from then on.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from sweeper.disk.files import explained, open_standard_streams, refuse_link
from sweeper.errors import BackendError, SweeperError, SweepInterrupted, UsageError
from sweeper.run.processes import worker
from sweeper.run.processes.channel import Channel
from sweeper.run.processes.helper import Reply, ThereError, raised

_caller: Channel | None = None
"""Where a caller waits for the start of this process's sweep."""


def start(function: str, arguments: Sequence[Any]) -> Path:
    """Have another process call `"module:function"`, which runs a sweep, and wait for its start.

    Args:
        function: What to call; it is imported there.
        arguments: Its arguments, which can be pickled.

    Returns:
        The sweep's folder.

    Raises:
        BackendError: the process ended before the sweep began, without an error of its own.
        BaseException: what was raised there before the sweep began.
    """
    open_standard_streams()
    ours, theirs = socket.socketpair()
    with contextlib.closing(Channel(ours)) as channel, tempfile.TemporaryFile() as printed:
        with theirs:
            process = _launch(theirs.fileno(), printed)
        try:
            channel.send(((sys.argv, sys.orig_argv), function, tuple(arguments)))
            reply: Reply | None = channel.receive()
        except (EOFError, OSError):
            reply = None
        except BaseException:  # nobody waits any more
            process.kill()
            raise
        finally:
            # It is buried when it ends, whenever that is.
            threading.Thread(target=process.wait, daemon=True).start()
        if reply is None or reply.raised is not None:
            code = process.wait()
            _print_again(printed)
            raise _failure(reply, code)
    return Path(reply.returned)


def _launch(connection: int, printed: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this interpreter
        worker.command(_PROGRAM, (connection,)),
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=(connection,),
        start_new_session=True,
    )


_PROGRAM = """
from sweeper.run.processes.detached import main
main(*told)
"""


def _print_again(printed: IO[bytes]) -> None:
    """Show the caller what the process had printed until it failed."""
    text = os.pread(printed.fileno(), _MOST_PRINTED, 0).decode(errors="replace")
    if sys.stderr is not None:
        sys.stderr.write(text)


_MOST_PRINTED = 1 << 20


def _failure(reply: Reply | None, code: int) -> BaseException:
    if reply is None or reply.raised is None:
        return BackendError(
            f"the process that was to run the sweep ended with code {code} before the sweep had "
            "begun; what it printed is above"
        )
    reply.raised.__cause__ = ThereError(reply.text, reply.frames)
    return reply.raised


# -- in the process -------------------------------------------------------------------------------


def main(connection: int) -> None:
    """The main function of the process: calls what it is told."""
    global _caller  # noqa: PLW0603 - a process has one caller
    _caller = Channel(socket.socket(fileno=connection))
    try:
        function, arguments = _receive(_caller)
        worker.resolve(function)(*arguments)
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        if not _told(raised(error)):
            _exit_with(error)
        sys.exit(1)


def _receive(channel: Channel) -> tuple[str, tuple[Any, ...]]:
    try:
        (sys.argv[:], sys.orig_argv[:]), function, arguments = channel.receive()
    except (AttributeError, ImportError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"an argument cannot be carried to another process ({error}): put the classes and "
            "functions that it is made of into a module"
        ) from error
    return function, arguments


def _exit_with(error: BaseException) -> None:
    """End as the command line does."""
    if isinstance(error, SweeperError | SweepInterrupted):
        sys.exit(f"sweeper: {error}")
    raise error


def confirm(folder: Path, log: Path) -> None:
    """Tell a caller that waits for it that this process's sweep has begun; then print into `log`.

    Nothing happens in a process that nobody waits for.

    Raises:
        FolderError: the log is a symbolic link.
        DiskError: the log cannot be written.
    """
    if _caller is None:
        return
    _print_into(log)
    _told(Reply(str(folder)))


def _told(reply: Reply) -> bool:
    """Tell the caller, if it waits; it waits for one reply."""
    global _caller  # noqa: PLW0603
    if _caller is None:
        return False
    _flush()
    with contextlib.suppress(OSError):  # the caller is gone
        _caller.send(reply)
    _caller.close()
    _caller = None
    return True


def _print_into(log: Path) -> None:
    _flush()
    early = os.pread(1, _MOST_PRINTED, 0)
    refuse_link(log)
    with explained(log), log.open("ab", buffering=0) as file:
        file.write(early)
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
