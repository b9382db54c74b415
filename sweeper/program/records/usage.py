"""What a trial used: processor time and memory, with those of its child processes, and where."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

EVERY = 0.2
"""Seconds between looks at the memory of the whole tree of processes."""

_PAGE = resource.getpagesize()


class Meter:
    """Measures one trial, from here on.

    Peak memory is that of this process since the trial began, or since an earlier trial if it has
    not risen meanwhile; or, if that is more, the largest sum of the resident memory of this process
    and its children that was seen, so pages that they share count more than once.  Children that
    lived between two looks count with the largest of them.
    """

    def __init__(self, where: str) -> None:
        """`where` is what `read_place` gave in this process."""
        self._where = where
        self._watch = _watch()
        self._seconds, own, self._largest_child = _used()
        if own > self._watch.least:
            _forget_peak()
            self._watch.least = _used()[1]
        self._watch.peak = 0

    def text(self) -> str:
        """What was used since, as JSON: cpu_seconds, peak_bytes, host, cores."""
        seconds, own, largest = _used()
        with_child = own + largest if largest > self._largest_child else own
        # Put together here: for each of a million short trials, `json.dumps` takes longer.
        return (
            f'{{"cpu_seconds": {round(seconds - self._seconds, 6)}, '
            f'"peak_bytes": {max(with_child, self._watch.peak)}, '
            f"{self._where}}}"
        )


def _used() -> tuple[float, int, int]:
    """Processor seconds and peak bytes of this process, and the peak of its largest child.

    Children are those that have ended; their seconds are added.
    """
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    # The same number as VmHWM in /proc/self/status, at a fiftieth of the time.
    return seconds, own.ru_maxrss * 1024, children.ru_maxrss * 1024


def read_place() -> str:
    """Where this process runs, as JSON without its braces: host, cores."""
    host = json.dumps(socket.gethostname())
    return f'"host": {host}, "cores": {sorted(os.sched_getaffinity(0))}'


def _forget_peak() -> None:
    """Have the kernel measure this process's peak memory anew, where it can."""
    with contextlib.suppress(OSError):
        fd = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(fd, b"5")
        finally:
            os.close(fd)


# -- children, while they live --------------------------------------------------------------------


class _Watch:
    """A thread that looks at the memory of this process and its children at intervals."""

    def __init__(self) -> None:
        self.peak = 0
        """The largest sum seen while there was a child, in bytes."""
        self.least = 0
        """The peak of this process alone just after it was last reset, in bytes."""
        self._ended = threading.Event()
        threading.Thread(target=self._go_on, daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def look(self) -> None:
        """Look now."""
        children = list(_descendants(os.getpid()))
        if children:
            self.peak = max(self.peak, sum(map(_resident, [os.getpid(), *children])))

    def _go_on(self) -> None:
        while not self._ended.wait(EVERY):
            self.look()


@lru_cache(maxsize=1)
def _watch_of(_pid: int) -> _Watch:
    return _Watch()


def _watch() -> _Watch:
    """This process's; a fork has no thread of its parent's."""
    return _watch_of(os.getpid())


def close() -> None:
    """Look at no memory any more."""
    if _watch_of.cache_info().currsize:
        _watch().end()
        _watch_of.cache_clear()


def _descendants(pid: int) -> Iterator[int]:
    """The processes below this one, where the kernel lists them."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _resident(pid: int) -> int:
    """A process's resident memory in bytes; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
