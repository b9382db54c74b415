"""File locks: one driver per folder, one compiler at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sweeper.disk.files import explained, refuse_link
from sweeper.errors import FolderError

if sys.platform != "win32":
    import fcntl

_TRIES, _BETWEEN_TRIES = 5, 0.02
"""Attempts at taking a folder's lock, and the seconds between them."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that drives a folder."""

    host: str
    pid: int
    start: float
    """When the process started, in seconds since the epoch: pids are reused."""
    heeds_signals: bool = True
    """Whether a signal stops its sweep alone; one that does not run in the main thread would not
    see it, and the process would end."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.start))
        return f"process {self.pid} on {self.host}, started {since}"


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[Holder | None]:
    """Hold the lock of a folder; yields the previous holder, if it died while holding it.

    The system's lock on the file decides, and is released when its process ends, however it ends.
    The file's text says who holds it (see `read_lock`).

    Raises:
        FolderError: another process holds it (the message says which), the lock is not a file, or
            the file system has no locks.
        DiskError: the lock cannot be written.
    """
    with _taken(path) as handle:
        dead = _read_holder(path)
        me = _this_process()
        with explained(path):
            _rewrite(handle, json.dumps(asdict(me)))
        try:
            yield dead
        finally:
            # A full disk was reported before, and the lock is released all the same.
            with contextlib.suppress(OSError):
                _rewrite(handle, "")


def _this_process() -> Holder:
    is_main = threading.current_thread() is threading.main_thread()
    return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time(), is_main)


@contextlib.contextmanager
def _taken(path: Path) -> Iterator[int]:
    """The lock's file, held."""
    while True:
        with explained(path):
            handle = _open_lock(path)
        try:
            if not _take_lock(handle, path):
                holder = _read_holder(path)
                raise FolderError(
                    f"{path.parent} is being swept by {holder or 'another process'}: wait for it, "
                    "stop it, or use another folder"
                )
            # If the file was removed meanwhile, another process could lock a new one.
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _open_lock(path: Path) -> int:
    refuse_link(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A pipe or a device in its place must neither block this nor be written to.
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | safely, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FolderError(f"{path} is not a file: remove it, or use another folder")
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _take_lock(handle: int, path: Path) -> bool:
    """Whether the lock was taken; tried a few times, since a reader may hold it for a moment."""
    if sys.platform == "win32":
        return True
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries_left:
                time.sleep(_BETWEEN_TRIES)
        except OSError as error:
            raise FolderError(
                f"{path} cannot be locked ({error.strerror}): the file system of {path.parent} has "
                "no working locks (as some network file systems), so two sweeps could write the "
                "same folder: use a folder on a disk of this machine"
            ) from error
        else:
            return True
    return False


def read_lock(path: Path) -> Holder | None:
    """The process that drives the folder at the moment; None: no process does.

    It reads the file and does not touch the lock: a driver that is just starting must not find it
    taken.  A holder on another host cannot be checked and is taken to be alive.
    """
    holder = _read_holder(path)
    if holder is None or holder.host != socket.gethostname():
        return holder
    return holder if is_alive(holder) else None


def is_alive(holder: Holder) -> bool:
    """Whether this process runs: on this host, with this start, and is no zombie."""
    try:
        process = psutil.Process(holder.pid)
        same = process.create_time() == holder.start
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_held(path: Path) -> bool:
    """Whether a process of this host holds a folder's lock, whatever the file says.

    It takes the lock for a moment; whoever wants it meanwhile tries again.
    """
    if sys.platform == "win32" or not path.is_file():
        return False
    handle = _open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; waits until no other process holds it."""
    with path.open("a") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


_LONGEST_HOLDER = 4096
"""Maximum number of bytes read from a lock file, which may come from anywhere."""


def _read_holder(path: Path) -> Holder | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            said = json.loads(file.read(_LONGEST_HOLDER))
        which = (str(said["host"]), int(said["pid"]), float(said["start"]))
        # Earlier releases do not say.
        holder = Holder(*which, heeds_signals=said.get("heeds_signals") is not False)
        str(holder)  # raises if its time is not a valid one
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return holder if 0 < holder.pid < _MOST_PID else None


_MOST_PID = 2**31


def _rewrite(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
