"""Judges a worker for `doctor`: whether its cores and threads are as assigned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sweeper.errors import plural


@dataclass(frozen=True, slots=True)
class Examined:
    """What a worker was assigned, and what it reports."""

    slot: int
    cores: tuple[int, ...]
    """Assigned logical CPUs, one per core; empty if workers are not pinned."""
    threads_promised: int
    mask: frozenset[int]
    """Its affinity mask; empty if the system has none."""
    threads: int
    """Number of torch's compute threads."""
    ran_on: frozenset[int]
    """The CPUs on which it ran during a burst of work."""


def judge(examined: Examined) -> tuple[str, bool]:
    """A line for people, and whether everything is as assigned."""
    faults = []
    if examined.cores:
        if examined.mask != set(examined.cores):
            faults.append(f"it was promised {_cpus(examined.cores)} alone")
        elif not examined.ran_on <= examined.mask:
            faults.append(f"it ran on {_cpus(examined.ran_on)}")
        noun = "core" if len(examined.cores) == 1 else "cores"
        numbers = ", ".join(map(str, examined.cores))
        where = f"pinned to {noun} {numbers} (mask {_cpus(examined.mask)})"
    else:
        where = "not pinned (this system has no affinity masks)"
    if examined.threads != examined.threads_promised:
        faults.append(f"it was promised {plural(examined.threads_promised, 'thread')}")
    verdict = "ok" if not faults else f"NOT AS PROMISED: {'; '.join(faults)}"
    line = f"worker {examined.slot}: {where}, {plural(examined.threads, 'thread')} - {verdict}"
    return line, not faults


def _cpus(numbers: Collection[int]) -> str:
    return f"{{{', '.join(map(str, sorted(numbers)))}}}"
