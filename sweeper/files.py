"""Files that are never seen half written."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import io
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.errors import DiskError, FolderError

if sys.platform != "win32":
    pass


def write_swapped(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write `data` aside and swap it in: a reader sees the old file or the new one.

    One at a time may write a path: the driver or, of a trial's own files, its worker.

    `sync` makes it durable before this returns: for what cannot be rebuilt.

    Raises:
        FolderError: its folder is reached through a symbolic link.
        DiskError: it could not be written; the old file is as it was.
    """
    with explained(path):
        _write_swapped(path, data, sync=sync)


def _write_swapped(path: Path, data: bytes, *, sync: bool) -> None:
    made = [folder for folder in path.parents if not folder.exists()]
    make_folder(path.parent)
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


def make_folder(path: Path) -> None:
    """Make a folder, and those above it.

    The folder of a sweep is known by its resolved path, so that a link on the way to something in
    it is a link inside: whoever packed it may have had other files in mind.

    Raises:
        FolderError: the way there leads through a symbolic link.
    """
    if path.is_absolute() and path.resolve() != path:
        raise FolderError(_is_link(path))
    path.mkdir(parents=True, exist_ok=True)


def refuse_link(path: Path) -> None:
    """Say no where something would be written through a link.

    Raises:
        FolderError: `path` is a symbolic link.
    """
    if path.is_symlink():
        raise FolderError(_is_link(path))


def _is_link(path: Path) -> str:
    return (
        f"{path} is, or is reached through, a symbolic link, and nothing is written through "
        "links inside of a sweep's folder: put what it points to in its place, or remove it"
    )


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
    """The arrays that `pack_arrays` wrote.

    Raises:
        ValueError: the bytes are something else, or damaged.
    """
    if not data:
        return {}
    try:
        return _read_npz(data)
    except Exception as error:  # whatever reading a zip or a header raises
        raise ValueError(f"arrays cannot be read: {error}") from error


def add_texts(data: bytes, texts: Mapping[str, str | Sequence[str]]) -> bytes:
    """What `pack_arrays` gave, with texts beside the arrays: one text, or several, a name.

    The bytes are those that `pack_arrays` gives where the texts are its last arrays.
    """
    arrays = {name: np.array(text) for name, text in texts.items()}
    if not data or not arrays:
        return data or pack_arrays(arrays)
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def read_texts(data: bytes) -> dict[str, str | list[str]]:
    """The texts among the arrays that `pack_arrays` wrote, or `add_texts`.

    Raises:
        ValueError: the bytes are something else, or damaged.
    """
    if b"'<U" not in data and b"'>U" not in data:  # no header says so: most have none
        return {}
    found = unpack_arrays(data)
    return {name: array.tolist() for name, array in found.items() if array.dtype.kind == "U"}


def _read_npz(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        parts = packed.infolist()
    # Nothing of ours is compressed: what says that it is larger than its bytes is a bomb.
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    if not stored or sum(part.file_size for part in parts) > len(data):
        raise ValueError("it would unpack to more than it is")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) for array in found.values()):
        raise ValueError("something in it is no array")
    return found


def open_standard_streams() -> None:
    """Open on nothing what is closed of the file descriptors 0, 1 and 2.

    A service or a shell (`2>&-`) may start a program without them.  What is opened next would get
    their numbers, and whatever is printed, here or in a process that is started, would go there.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(fd, True)  # noqa: FBT003 - positional alone
    os.close(fd)


_STANDARD_ERROR = 2


def current_folder() -> Path | None:
    """The current folder; None where it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def nameless_file() -> int:
    """The descriptor of a file for several processes; nothing is left of it when all have ended."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sweeper-data")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the system refuses about `path`, as an error that says what to do.

    Raises:
        FolderError: no such file can be.
        DiskError: instead of another `OSError`.
    """
    try:
        if "\0" in str(path):
            raise FolderError(f"{str(path)!r} has a zero byte in it: choose another folder")
        yield
    except DiskError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_SUCH_NAME:
            raise FolderError(f"{path} cannot be used: {reason}: choose another folder") from error
        raise disk_error(path, reason, error.errno) from error


_NO_SUCH_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP)


def disk_error(
    path: Path, reason: str, number: int | None = None, advice: str | None = None
) -> DiskError:
    """The error that says what the disk refused about `path`, and what to do.

    `number` is the system's, where it is known; it says what to do where `advice` does not.
    """
    advice = advice or _ADVICE.get(number, "see to the disk")
    error = DiskError(
        f"{path} cannot be used: {reason}: {advice}, then give the same command again; what had "
        "finished is kept"
    )
    error.errno = number
    return error


_NO_ROOM = "make room on its disk"
_ADVICE: dict[int | None, str] = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "lift the limit on the size of files",
    errno.EROFS: "make its disk writable",
    errno.EACCES: "see that you may write there",
    errno.EPERM: "see that you may write there",
    errno.ENOENT: "put the folder back where it was",
    errno.EIO: "see whether its disk is failing",
}
"""What to do, by the system's error number."""
