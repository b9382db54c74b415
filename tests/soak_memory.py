"""Whether memory stays flat: the long sweeps of `tests.soak`."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.soak_driver import HANGS, Driver, each, must

SAMPLE = 2.0
"""Seconds between two looks at the memory."""

KILLED_EVERY = 18.0
"""Mean seconds between two kills of the youngest worker."""

ALLOWED = {"driver": 0.5, "server": 0.1, "oldest worker": 0.1}
"""MiB by which each may grow for 1,000 trials.  Measured: 0.27 in the driver, which remembers them,
none in the server, and 0.05 in a worker."""

SLACK = 24.0
"""MiB by which each may grow besides: the first eager trial imports ignite, 10 MiB."""

Sizes = dict[str, float]
"""MiB by process."""


@dataclass
class Watched:
    """What was seen of one long sweep."""

    samples: list[tuple[int, Sizes]] = field(default_factory=list)
    """How many trials had ended, and what each process occupied."""
    killed: int = 0


def watch(
    driver: Driver, seconds: float, rng: random.Random, say: Callable[[str], None]
) -> Watched:
    """Look at its memory for so long from its first trial on; kill its youngest worker at times."""
    while not driver.trials():
        must(not driver.wait(SAMPLE), "the driver has ended before a trial has")
    until = time.monotonic() + seconds
    strike_at = time.monotonic() + rng.expovariate(1 / KILLED_EVERY)
    workers = driver.workers()
    must(workers, "there are outcomes and no worker")
    oldest, seen = workers[0], Watched()
    while time.monotonic() < until and not driver.wait(SAMPLE):
        sizes = occupied(driver, oldest)
        if sizes is None:
            # All trials are done: workers end first, and the driver writes its files.
            must(driver.wait(HANGS), "a process that nobody killed has ended")
            break
        seen.samples.append((driver.trials(), sizes))
        if len(seen.samples) % 30 == 0:
            say(f"{seen.samples[-1][0]:,} trials; {described(sizes)}")
        others = [one for one in driver.workers() if one.pid != oldest.pid]
        if time.monotonic() >= strike_at and others:
            strike_at = time.monotonic() + rng.expovariate(1 / KILLED_EVERY)
            seen.killed += 1
            each(others[-1:], "kill")
    return seen


def occupied(driver: Driver, oldest: psutil.Process) -> Sizes | None:
    """MiB of resident memory; None once one of the processes has ended."""
    server = driver.server()
    if server is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = {
            "driver": psutil.Process(driver.process.pid),
            "server": server,
            "oldest worker": oldest,
        }
        return {name: one.memory_info().rss / 2**20 for name, one in processes.items()}
    return None


def judge(samples: list[tuple[int, Sizes]], say: Callable[[str], None]) -> None:
    """Say how much memory grew, and see that it did not."""
    must(samples, "the long sweep was over before anybody could look at its memory")
    # Allocators, caches and pages that a fork shares settle at first.
    warm = samples[len(samples) // 5 :]
    part = max(1, len(warm) // 8)
    ends = []
    for few in (warm[:part], warm[-part:]):
        trials = sum(count for count, _ in few) / part
        ends.append((trials, {name: mean(few, name) for name in ALLOWED}))
    (first, start), (last, end) = ends
    thousands = max(last - first, 1) / 1000
    say(f"memory over {last - first:,.0f} trials, after as many as {first:,.0f}:")
    grown = {}
    for name, allowed in ALLOWED.items():
        growth = end[name] - start[name]
        grown[name] = growth - SLACK - allowed * thousands
        say(
            f"  {name:13s}  {start[name]:7.1f} to {end[name]:7.1f} MiB: "
            f"{growth / thousands:+.3f} MiB per 1,000 trials "
            f"(allowed: {allowed:g}, and {SLACK:g} MiB besides)"
        )
    too_much = [name for name, over in grown.items() if over > 0]
    must(not too_much, f"memory is not flat: {', '.join(too_much)}")


def mean(samples: list[tuple[int, Sizes]], name: str) -> float:
    return sum(sizes[name] for _, sizes in samples) / len(samples)


def described(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size:.1f} MiB" for name, size in sizes.items())
