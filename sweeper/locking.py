"""Locks of files: one driver a folder, one compiler at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from sweeper.errors import FolderError
from sweeper.files import explained, refuse_link

if sys.platform != "win32":
    import fcntl

_TRIES, _BETWEEN_TRIES = 5, 0.02
"""How often a folder's lock is tried, and the seconds between."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who drives a folder."""

    host: str
    pid: int
    start: float
    """When the process started, in seconds since the epoch: a pid alone may be somebody else's."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.start))
        return f"process {self.pid} on {self.host}, started {since}"


@contextlib.contextmanager
def folder_lock(path: Path) -> Iterator[Holder | None]:
    """Hold the lock of a folder; gives the holder that died with it, if there was one.

    The system's lock on the file decides and ends with its process, however that ends; what the
    file says is for people.

    Raises:
        FolderError: another process holds it, and the message says which; or the lock is not a
            file, or the file system has no locks.
        DiskError: the lock cannot be written.
    """
    with _taken(path) as handle:
        dead = _read_holder(path)
        me = Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time())
        with explained(path):
            _rewrite(handle, json.dumps(asdict(me)))
        try:
            yield dead
        finally:
            # A disk that has no room for this has said so before, and the lock ends all the same.
            with contextlib.suppress(OSError):
                _rewrite(handle, "")


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
            # Somebody may have removed it in between: then another would get a lock of its own.
            if _is_at(handle, path):
                yield handle
                return
        finally:
            os.close(handle)


def _open_lock(path: Path) -> int:
    refuse_link(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A pipe or a device in its place must neither hold this up nor be written to.
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | safely, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FolderError(f"{path} is no file: remove it, or use another folder")
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _take_lock(handle: int, path: Path) -> bool:
    """Whether it could be had; tried a few times, since a reader may hold it for a moment."""
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
                "no working locks, as some network file systems have none, so nothing would keep "
                "two sweeps apart: use a folder on a disk of this machine"
            ) from error
        else:
            return True
    return False


def read_lock(path: Path) -> Holder | None:
    """Who drives the folder at the moment, if somebody does.

    It goes by what the file says and does not touch the lock: a driver that starts just now must
    not find it taken.  Of another host nothing can be known, and it is believed.
    """
    holder = _read_holder(path)
    if holder is None or holder.host != socket.gethostname():
        return holder
    try:
        alive = psutil.Process(holder.pid).create_time() == holder.start
    except psutil.NoSuchProcess:
        alive = False
    return holder if alive else None


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same file, and keep others waiting."""
    with path.open("a") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


_LONGEST_HOLDER = 4096
"""The most bytes that are read of a lock, which comes from anywhere."""


def _read_holder(path: Path) -> Holder | None:
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            said = json.loads(file.read(_LONGEST_HOLDER))
        holder = Holder(str(said["host"]), int(said["pid"]), float(said["start"]))
        str(holder)  # that its time is one
    except (OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return holder if 0 < holder.pid < _MOST_PID else None


_MOST_PID = 2**31


def _rewrite(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
