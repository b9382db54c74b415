"""Files that are never seen half written, and the lock of a folder."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import psutil

from sweeper.errors import FolderError

if sys.platform != "win32":
    import fcntl


def write_swapped(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write `data` aside and swap it in: a reader sees the old file or the new one.

    One at a time may write a path: the driver or, of a trial's own files, its worker.

    `sync` makes it durable before this returns: for what cannot be rebuilt.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}."
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):  # by a writer that was killed
        left.unlink(missing_ok=True)
    handle, aside = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(aside).unlink()
        raise
    if sync:
        for folder in (path.parent, *(folder.parent for folder in made)):
            _sync_folder(folder)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, swapped in."""
    write_swapped(path, (json.dumps(value, indent=2) + "\n").encode())


def pack_arrays(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an `.npz` without pickled objects; nothing as no bytes.

    Raises:
        ValueError: an array holds objects.
    """
    if not arrays:
        return b""
    # By hand, since older numpy would save `allow_pickle=False` as one more array.
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"array {name!r} holds objects, which only pickle could save")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack_arrays(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that `pack_arrays` wrote."""
    if not data:
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- the lock -------------------------------------------------------------------------------------


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
        FolderError: another process holds it; the message says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _take_lock(file):
            holder = _read_holder(path)
            raise FolderError(
                f"{path.parent} is being swept by {holder or 'another process'}: wait for it, "
                "stop it, or use another folder"
            )
        dead = _read_holder(path)
        me = Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time())
        _rewrite(file.fileno(), json.dumps(asdict(me)))
        try:
            yield dead
        finally:
            _rewrite(file.fileno(), "")


def _take_lock(file: TextIO) -> bool:
    """Whether it could be had; tried a few times, since `read_lock` holds it for a moment."""
    if sys.platform == "win32":
        return True
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries_left:
                time.sleep(_BETWEEN_TRIES)
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


def _read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _rewrite(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
