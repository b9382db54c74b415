"""Where a trial's output goes: caught on the level of file descriptors.

So output of C libraries and of child processes is caught, too.  Standard output and standard error
go into files of their own.

A worker has two files, open from its first trial on, and what a trial has printed moves from there
into the trial's folder when it ends.  So a trial that prints nothing costs no file, and the driver
finds what one that dies has printed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sweeper.errors import SettingsError
from sweeper.files import explained, last_lines, make_folder
from sweeper.records import PRINTED

TRIAL, SWEEP, BOTH, NONE = CHOICES = ("trial", "sweep", "both", "none")
"""What `redirect=` takes: into files of the trial's folder, into two files of the sweep's, into
both, or where the worker's own output goes."""

OUTPUT, ERRORS = NAMES = ("stdout.txt", "stderr.txt")
"""The files' names in a trial's folder and in the folder of logs."""

MOST_KEPT = 1 << 26
"""Bytes that a trial may print into each file, above which only the end is kept."""

_END_KEPT = 1 << 20


def check_redirect(redirect: str | None, *, own_processes: bool) -> str:
    """The choice; None: as suits a backend with or without processes of its own.

    Raises:
        SettingsError: it is none of the choices, or trials run in the driver's own process.
    """
    if redirect is None:
        return TRIAL if own_processes else NONE
    if redirect not in CHOICES:
        choices = ", ".join(map(repr, CHOICES))
        raise SettingsError(f"redirect={redirect!r}: choose one of {choices}")
    if redirect != NONE and not own_processes:
        raise SettingsError(
            f"redirect={redirect!r}: this backend runs trials in the sweep's own process, whose "
            f"output stays where it is: give {NONE!r}, or another backend"
        )
    return redirect


@dataclass(slots=True)
class Printed:
    """What a trial has printed into files of its own, once it has ended."""

    files: tuple[tuple[Path, int], ...] = ()
    """Each file, and where in it this begins: a trial that is tried again adds to it."""

    def end(self) -> str:
        """The last lines of each file, each under its path."""
        return "".join(
            f"\nlast lines of {path}:\n{last_lines(path, begin)}\n" for path, begin in self.files
        )


@contextlib.contextmanager
def redirected(redirect: str, own: str, shared: str) -> Iterator[Printed]:
    """Have this process's output go into files, and then where it went before.

    Args:
        redirect: One of `CHOICES`.
        own: The trial's folder; it is made if something is printed.
        shared: The folder of logs, for the sweep's two files and those of this process.

    Raises:
        FolderError: the path to a folder contains a symbolic link.
        DiskError: a file cannot be written.
    """
    if redirect == NONE:
        yield Printed()
        return
    files, begun = _open_files(shared, own=redirect != SWEEP)
    pid = os.getpid()
    printed = Printed()
    with files.in_place():
        try:
            yield printed
        finally:
            _flush()
            if redirect != SWEEP and os.getpid() == pid:  # else it is a fork that came back
                printed.files = files.move(begun, own, shared if redirect == BOTH else None)


@dataclass(frozen=True, slots=True)
class _Files:
    """Two open files for the descriptors 1 and 2."""

    paths: tuple[str, str]
    """Texts: the methods of `Path` would take a third of the time of a trial that does nothing."""
    fds: tuple[int, int]

    @classmethod
    def open(cls, out: Path, err: Path) -> _Files:
        return cls((str(out), str(err)), (_open_to_append(out), _open_to_append(err)))

    def sizes(self) -> tuple[int, int] | None:
        """How long they are; None: a trial has closed them, or their paths lead elsewhere."""
        try:
            (out, err), (own_out, own_err) = map(os.fstat, self.fds), map(os.stat, self.paths)
        except OSError:
            return None
        same = os.path.samestat(out, own_out) and os.path.samestat(err, own_err)
        return (out.st_size, err.st_size) if same else None

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the descriptors 1 and 2 mean these files."""
        before = [os.dup(stream) for stream in (1, 2)]
        _flush()
        _mend()
        for stream, fd in zip((1, 2), self.fds, strict=True):
            os.dup2(fd, stream)
        try:
            yield
        finally:
            for stream, fd in zip((1, 2), before, strict=True):
                with contextlib.suppress(OSError):  # a trial has closed whatever was open
                    os.dup2(fd, stream)
                    os.close(fd)

    def move(
        self, begun: tuple[int, int], own: str, more: str | None
    ) -> tuple[tuple[Path, int], ...]:
        """Move what was printed since these sizes to `own`, and copy it to `more`."""
        # By path: a trial may have closed the descriptors, and opened others of the same number.
        moved = []
        for name, path, begin in zip(NAMES, self.paths, begun, strict=True):
            if os.stat(path).st_size > begin:  # noqa: PTH116 - as `paths` says
                text, into = _read_end(Path(path), begin), Path(own, name)
                moved.append((into, _append(into, text)))
                if more is not None:
                    _append(Path(more, name), text)
                os.truncate(path, begin)
        return tuple(moved)


@lru_cache(maxsize=1)
def _opened(shared: str, pid: int, *, own: bool) -> _Files:
    out, err = [f"{_name(pid)}{end}" for end in PRINTED] if own else NAMES
    return _Files.open(Path(shared, out), Path(shared, err))


def _open_files(shared: str, *, own: bool) -> tuple[_Files, tuple[int, int]]:
    """This process's files, or the sweep's, and how long they are; anew if a trial closed them."""
    files = _opened(shared, os.getpid(), own=own)
    sizes = files.sizes()
    if sizes is None:
        _opened.cache_clear()
        files = _opened(shared, os.getpid(), own=own)
        sizes = files.sizes()
    return files, sizes or (0, 0)


def _name(pid: int) -> str:
    """As the worker's log is named, which its errors go to otherwise."""
    with contextlib.suppress(OSError):
        log = Path("/proc/self/fd/2").readlink()
        if log.suffix == ".log":
            return log.stem
    return f"process-{pid}"


def _open_to_append(path: Path) -> int:
    with explained(path):
        make_folder(path.parent)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)


def _append(path: Path, text: bytes) -> int:
    """Append to a file; returns how long it was before."""
    fd = _open_to_append(path)
    try:
        with explained(path), open(fd, "ab", buffering=0, closefd=False) as file:
            begin = os.fstat(fd).st_size
            file.write(text)
            return begin
    finally:
        os.close(fd)


def _read_end(path: Path, begin: int) -> bytes:
    """What stands in a file from there on; of very much, the end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        dropped = size - begin - _END_KEPT if size - begin > MOST_KEPT else 0
        file.seek(begin + dropped)
        note = b"[%d bytes before this were too many to be kept]\n" % dropped if dropped else b""
        return note + file.read()


def _flush() -> None:
    """Write what Python and C libraries have kept back."""
    for stream in (sys.stdout, sys.stderr):
        # A trial may have closed or replaced it, or its disk may be full.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    _C.fflush(None)


_C = ctypes.CDLL(None)


def _mend() -> None:
    """Have standard output and error again where a trial has closed them."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(fd, "w", buffering=1, closefd=False))  # noqa: SIM115 - it stays
