"""Files: atomic writes, and disk errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sweeper.errors import DiskError, FolderError

if TYPE_CHECKING:
    from concurrent.futures import Future


def write_swapped(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write `data` to a temporary file and rename it: readers see the old file or the new one.

    Only one process may write a path at a time: the driver, or the worker of a trial's own files.

    `sync` makes the file durable before this returns: for files that cannot be rebuilt.

    Raises:
        FolderError: the path to its folder contains a symbolic link.
        DiskError: it could not be written; the old file is unchanged.
    """
    with explained(path):
        _write_swapped(path, data, sync=sync)


def _write_swapped(path: Path, data: bytes, *, sync: bool) -> None:
    made = [folder for folder in path.parents if not folder.exists()] if sync else []
    make_folder(path.parent)
    prefix = f".{path.name}."
    for left in path.parent.iterdir():
        if left.name.startswith(prefix):  # by a writer that was killed
            left.unlink(missing_ok=True)
    aside = path.with_name(f"{prefix}{os.getpid()}")
    handle = _create(aside)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if sync:
        for folder in (path.parent, *(folder.parent for folder in made)):
            _sync_folder(folder)


def _create(path: Path) -> int:
    """A new file, opened for writing; the umask holds, as for any file."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


Write: TypeAlias = Callable[[Path, bytes], None]
"""Writes a file."""


@contextlib.contextmanager
def writing_many() -> Iterator[Write]:
    """Write files as `write_swapped` does, several at a time; all are written at the end.

    Making a folder and a file in it takes the file system half a millisecond, which passes while
    the next file's data is made.

    Raises:
        FolderError, DiskError: as `write_swapped`, for the first file that could not be written;
            others that were given may have been.
    """
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(_WRITERS)
    begun: dict[Path, Future[None]] = {}

    def write(path: Path, data: bytes) -> None:
        if path in begun:  # what is given last is what remains
            begun.pop(path).result()
        begun[path] = pool.submit(write_swapped, path, data)
        if len(begun) > _MOST_BEGUN:
            begun.pop(next(iter(begun))).result()

    try:
        yield write
        for one in begun.values():
            one.result()
    finally:
        pool.shutdown(cancel_futures=True)


_WRITERS = 2
"""More gain nothing: they wait for the same file system."""

_MOST_BEGUN = 32
"""Files whose data is in memory."""


def add_numbered(folder: Path, suffix: str, data: bytes) -> Path:
    """Write `data` to a new file, `000001`, `000002`, … with `suffix`; durable on return.

    Several processes may add at the same time, and readers never see a part of a file.

    Raises:
        FolderError: the path to the folder contains a symbolic link.
        DiskError: it could not be written.
    """
    with explained(folder):
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        make_folder(folder)
        handle, aside = tempfile.mkstemp(prefix=".", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o666 & ~_umask())
                file.flush()
                os.fsync(file.fileno())
            path = _link_next(Path(aside), folder, suffix)
        finally:
            Path(aside).unlink(missing_ok=True)
        for each in (folder, *(parent.parent for parent in made)):
            _sync_folder(each)
        return path


def _link_next(file: Path, folder: Path, suffix: str) -> Path:
    """Give `file` the next number as a further name: of several processes, one gets it."""
    number = max(numbered(folder, suffix), default=0)
    while True:
        number += 1
        path = folder / f"{number:06}{suffix}"
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(file)
            return path


def numbered(folder: Path, suffix: str) -> list[int]:
    """The numbers of the files that `add_numbered` has added, in order; [] without the folder."""
    with contextlib.suppress(FileNotFoundError):
        names = [path.stem for path in folder.iterdir() if path.suffix == suffix]
        return sorted(int(name) for name in names if name.isdecimal() and name.isascii())
    return []


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    The sweep's own folder is given by its resolved path, so any link on the way lies inside it,
    where whoever sent the folder may have aimed it at other files.

    Raises:
        FolderError: the path contains a symbolic link.
    """
    if path.is_absolute() and path.resolve() != path:
        raise FolderError(_is_link(path))
    path.mkdir(parents=True, exist_ok=True)


def refuse_link(path: Path) -> None:
    """Refuse to write through a link.

    Raises:
        FolderError: `path` is a symbolic link.
    """
    if path.is_symlink():
        raise FolderError(_is_link(path))


def _is_link(path: Path) -> str:
    return (
        f"{path} is, or is reached through, a symbolic link, and nothing is written through "
        "links inside a sweep's folder: replace it with what it points to, or remove it"
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


def json_text(value: Any) -> bytes:
    """`value` as the text of a JSON file, indented."""
    return (json.dumps(value, indent=2) + "\n").encode()


def open_standard_streams() -> None:
    """Open the null device in place of any of the file descriptors 0, 1 and 2 that is closed.

    A service or a shell (`2>&-`) may start a program without them.  The next file opened would get
    such a number, and output of this process or its children would be written into that file.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        os.set_inheritable(fd, True)  # noqa: FBT003 - positional alone
    os.close(fd)


_STANDARD_ERROR = 2


def mend_standard_streams() -> None:
    """Have `sys.stdout` and `sys.stderr` print to the descriptors 1 and 2, which are open, again.

    Code that was run may have closed or replaced them.
    """
    for fd, name in ((1, "stdout"), (2, "stderr")):
        first = getattr(sys, f"__{name}__")
        if first is None or first.closed:
            first = open(fd, "w", buffering=1, closefd=False, encoding="utf-8")  # noqa: SIM115
            setattr(sys, f"__{name}__", first)
        setattr(sys, name, first)


def current_folder() -> Path | None:
    """The current folder; None where it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def nameless_file() -> int:
    """The descriptor of a nameless file to share; it disappears when all its processes ended."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("sweeper-data")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_LINES, _MOST_TOLD = 20, 4_000
"""Lines, and characters, that `last_lines` gives at most."""


def last_lines(path: Path, begin: int = 0) -> str:
    """The last lines of a text file, or of what stands in it from `begin` on; "" without one."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begin, size - 4 * _MOST_TOLD))
        lines = file.read().decode(errors="replace").rstrip().splitlines()
        return "\n".join(lines[-_LINES:])[-_MOST_TOLD:]
    return ""


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` about `path` into an error that says what to do.

    Raises:
        FolderError: no file can have this path.
        DiskError: any other `OSError`.
    """
    try:
        if "\0" in str(path):
            raise FolderError(f"{str(path)!r} contains a NUL byte: choose another folder")
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
    """The error that says what went wrong with `path`, and what to do.

    `number` is the system's error number, if known; it selects the advice if none is given.
    """
    advice = advice or _ADVICE.get(number, "check the disk")
    error = DiskError(
        f"{path} cannot be used: {reason}: {advice}, then give the same command again; "
        "finished work is kept"
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
