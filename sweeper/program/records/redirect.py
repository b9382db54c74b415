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
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sweeper.disk.files import (
    explained,
    last_lines,
    make_folder,
    mend_standard_streams,
    open_standard_streams,
)
from sweeper.errors import SettingsError
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


class Output:
    """Where this process's output goes during a job, trial by trial.

    The files stay in place from one trial to the next: only a trial that has printed, or has
    changed where its output goes, costs more than a look.
    """

    def __init__(self, redirect: str, shared: str) -> None:
        """`redirect` is one of `CHOICES`.

        `shared` is the folder of logs, for the sweep's two files and those of this process.
        """
        self._redirect, self._shared = redirect, shared
        self._before: list[int] = []
        """Descriptors of where the output went before the first trial; empty: it goes there."""
        self._seen = _UNKNOWN
        """What the last trial left in place; unknown: it may have changed that."""

    @contextlib.contextmanager
    def of(self, own: str) -> Iterator[Printed]:
        """Have the output go into files while a trial runs, whose folder is `own`.

        That folder is made if something is printed.

        Raises:
            FolderError: the path to a folder contains a symbolic link.
            DiskError: a file cannot be written.
        """
        printed = Printed()
        if self._redirect == NONE:
            try:
                yield printed
            finally:
                _flush()  # a worker ends without it
            return
        files, begun, pid = self._put(), self._seen, os.getpid()
        try:
            yield printed
        finally:
            _flush()
            if os.getpid() == pid and _look() != begun:  # a fork that came back leaves it alone
                self._seen = _UNKNOWN
                if self._redirect != SWEEP:
                    more = self._shared if self._redirect == BOTH else None
                    printed.files = files.move([int(seen[-1]) for seen in begun[1:]], own, more)

    def _put(self) -> _Files:
        """Have the descriptors 1 and 2 mean the files, unless they do."""
        files = _opened(self._shared, os.getpid(), own=self._redirect != SWEEP)
        if self._seen == _UNKNOWN:
            if not files.in_order:
                _opened.cache_clear()
                files = _opened(self._shared, os.getpid(), own=self._redirect != SWEEP)
            open_standard_streams()
            self._before = self._before or [os.dup(stream) for stream in (1, 2)]
            _flush()
            for stream, fd in zip((1, 2), files.fds, strict=True):
                os.dup2(fd, stream)
            self._seen = _look()
        mend_standard_streams()
        return files

    def close(self) -> None:
        """Have the output go where it went before."""
        for stream, fd in zip((1, 2), self._before, strict=False):
            with contextlib.suppress(OSError):  # a trial has closed whatever was open
                os.dup2(fd, stream)
                os.close(fd)
        self._before, self._seen = [], _UNKNOWN


_UNKNOWN: list[tuple[float, ...]] = []


def _look() -> list[tuple[float, ...]]:
    """What the descriptors 0, 1 and 2 mean, from inode to size; unknown: one is closed."""
    try:
        return [os.fstat(stream)[stat.ST_INO : stat.ST_SIZE + 1] for stream in (0, 1, 2)]
    except OSError:
        return _UNKNOWN


@dataclass(frozen=True, slots=True)
class _Files:
    """Two open files for the descriptors 1 and 2."""

    paths: tuple[str, str]
    """Texts: the methods of `Path` would take a third of the time of a trial that does nothing."""
    fds: tuple[int, int]

    @classmethod
    def open(cls, out: Path, err: Path) -> _Files:
        return cls((str(out), str(err)), (_open_to_append(out), _open_to_append(err)))

    @property
    def in_order(self) -> bool:
        """Whether they are open, and their paths lead to them: a trial may have changed that."""
        try:
            return all(
                os.path.samestat(os.fstat(fd), os.stat(path))  # noqa: PTH116 - as `paths` says
                for fd, path in zip(self.fds, self.paths, strict=True)
            )
        except OSError:
            return False

    def move(
        self, begun: Sequence[int], own: str, more: str | None
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


@lru_cache(maxsize=1)
def _name(pid: int) -> str:
    """As the worker's log is named, which its errors go to before its first trial."""
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
