"""Stops a sweep from another process, and waits until it has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from sweeper.disk.locking import Holder, is_alive, is_held, read_lock
from sweeper.errors import FolderError, StillRunningError

_LOOK_EVERY = 0.02
"""Seconds between looks at a folder's lock."""


def stop(lock: Path, timeout: float) -> bool:
    """Ask the process that drives a folder to stop, and wait until it does not any more.

    Args:
        lock: The folder's lock.
        timeout: How many seconds to wait.

    Returns:
        False: no process drove it.

    Raises:
        FolderError: the process is on another host, or no signal can stop its sweep alone.
        StillRunningError: it has not stopped in this time.
    """
    holder = read_lock(lock)
    if holder is None:
        return False
    _check_reach(holder, lock.parent)
    if not is_held(lock):  # what the file says is not so: it may come from anywhere
        return False
    _signal(holder, lock.parent)
    if not wait_for_end(lock, holder, timeout):
        raise StillRunningError(
            f"{lock.parent} is still being swept by {holder}, {timeout:g} s after it was asked to "
            "stop: wait longer, or ask again, which ends that process at once (finished work is "
            "kept)"
        )
    return True


def wait_for_end(lock: Path, holder: Holder, timeout: float) -> bool:
    """Wait until `holder` no longer drives the folder; returns whether that came in time."""
    deadline = time.monotonic() + timeout
    while read_lock(lock) == holder:
        if time.monotonic() >= deadline:
            return False
        time.sleep(min(_LOOK_EVERY, timeout))
    return True


def _check_reach(holder: Holder, folder: Path) -> None:
    """Check that a signal from here stops the sweep, and nothing else."""
    if holder.host != socket.gethostname():
        raise FolderError(
            f"{folder} is being swept by {holder}, and this is {socket.gethostname()}: stop it "
            f"there, with: sweeper stop {folder}"
        )
    if not holder.heeds_signals:
        raise FolderError(
            f"{folder} is being swept by {holder}, in a thread that no signal reaches, so only "
            "that program can stop it"
        )


def _signal(holder: Holder, folder: Path) -> None:
    """Send the signal to stop: SIGTERM, since a shell's `&` has SIGINT ignored."""
    try:
        with _same_process(holder) as same:
            if same is not None:
                signal.pidfd_send_signal(same, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise FolderError(
            f"{folder} is being swept by {holder}, which is another user's: they must stop it"
        ) from error


@contextlib.contextmanager
def _same_process(holder: Holder) -> Iterator[int | None]:
    """A descriptor of the holder's process; None: it is gone.

    The descriptor keeps to its process, so that a signal never reaches another one that was given
    the same pid between the look at its start and the signal.
    """
    process = os.pidfd_open(holder.pid)
    try:
        yield process if is_alive(holder) else None
    finally:
        os.close(process)
