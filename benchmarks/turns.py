"""Runs taken in turn, each in a process of its own, and how their figures are shown.

Needs the standard library alone: a benchmark runs also under an interpreter that has only a peer.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CACHE = "SWEEPER_CACHE"
"""The environment variable that names the folder of what is compiled."""


@dataclass(frozen=True)
class Run:
    """One run of a program."""

    seconds: float
    """From its start to its end, imports and all."""
    processor: float
    """Seconds of processors that it took, where it waited for its children."""
    found: Mapping[str, Any]
    """What it printed last, which is JSON."""


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Run:
    """Run a program to its end; where it fails, what it said, and the end of this one."""
    spent = _processor()
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - the benchmarks' own programs
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(f"{' '.join(map(str, command))} ended with code {done.returncode}")
    return Run(seconds, _processor() - spent, json.loads(done.stdout.splitlines()[-1]))


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_turn(ways: Mapping[str, Callable[[int], Run]], rounds: int) -> dict[str, list[Run]]:
    """A B C, A B C: each way is called with the number of the round."""
    found: dict[str, list[Run]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, start in ways.items():
            found[way].append(start(number))
            last = found[way][-1]
            took = f"{last.seconds:.1f} s, {last.processor:.1f} s of processors"
            load = f"load {os.getloadavg()[0]:.1f}"
            print(f"  round {number}: {way}: {took}, {load}", file=sys.stderr, flush=True)
    return found


def seconds(runs: Iterable[Run]) -> list[float]:
    """Of each run."""
    return [one.seconds for one in runs]


def ratios(peer: Sequence[float], ours: Sequence[float]) -> list[float]:
    """How many times as long the peer took, round by round."""
    return [theirs / own for theirs, own in zip(peer, ours, strict=True)]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Min / **median** / max; one value alone as it is."""
    if len(values) == 1:
        return f"**{values[0]:.{digits}f}** (one run)"
    least, middle, most = min(values), statistics.median(values), max(values)
    return f"{least:.{digits}f} / **{middle:.{digits}f}** / {most:.{digits}f}"


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> str:
    """The first two lines of a table."""
    return f"{row(*cells)}\n{row(*['---'] * len(cells))}"


def version(python: str, package: str) -> str:
    """The version of a package under `python`; empty where it is not installed."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(  # noqa: S603 - an interpreter that the caller names
        [python, "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
