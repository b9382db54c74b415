"""How near a sweep's duration comes to the least possible: simulated, with the real scheduler.

    python benchmarks/makespan.py [--quick]

A made-up sweep of points whose durations are lognormal from point to point; each point is tuned in
two stages and then trained.  The scheduler is told durations as the study tells them: nothing
before a point's first stage has ended, then an estimate that is 20 % off.  The makespan is compared
with its lower bound, max(work / cores, longest chain of stages and a trial).  Simulated time only:
the figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import random
import statistics
from dataclasses import dataclass

from sweeper.run.scheduler import Scheduler
from sweeper.types import TRIAL, Finished, Outcome, Result, Start, Work

STAGES = 2
PROBES = 2
"""In each stage."""
PROBE_SHARE = 0.25
"""The duration of a probe, in trials."""
TRIALS = 6
JOBS = STAGES * PROBES + TRIALS
SPREAD = 0.5
"""Sigma of the logarithm of durations between points."""
JITTER = 0.05
"""Sigma of the logarithm of durations within a point."""
ERROR = 0.2
"""Sigma of the logarithm of an estimate over the truth."""
LONG = 5.0
DRAWS = 5
CORES = (2, 8, 64, 1024)
JOBS_A_CORE = (10, 20)
MOST_CORES = 4
RULES = ("unknown", "estimated", "exact")


@dataclass
class MadeUp:
    """One draw: what every replica of every point takes."""

    probes: list[list[list[float]]]
    trials: list[list[float]]

    @classmethod
    def draw(cls, rng: random.Random, points: int, *, one_long: bool) -> MadeUp:
        """Durations of so many points; one of them five times the median, if told so."""
        seconds = [rng.lognormvariate(0, SPREAD) for _ in range(points)]
        if one_long:
            seconds[rng.randrange(points)] = LONG

        def some(count: int, mean: float) -> list[float]:
            return [mean * rng.lognormvariate(0, JITTER) for _ in range(count)]

        return cls(
            [[some(PROBES, PROBE_SHARE * mean) for _ in range(STAGES)] for mean in seconds],
            [some(TRIALS, mean) for mean in seconds],
        )

    def bound(self, cores: int) -> float:
        """No order is faster than this."""
        work = sum(sum(map(sum, stages)) for stages in self.probes) + sum(map(sum, self.trials))
        chains = (
            sum(map(max, stages)) + max(trials)
            for stages, trials in zip(self.probes, self.trials, strict=True)
        )
        return max(work / cores, *chains)


class Sweep:
    """The study's part: releases the stages of a point one after the other, then its trials."""

    def __init__(self, made_up: MadeUp, rule: str, rng: random.Random) -> None:
        self.made_up, self.rule, self.rng = made_up, rule, rng
        self.open = [0] * len(made_up.trials)
        self.stage = [0] * len(made_up.trials)

    def release(self, point: int) -> Work:
        """The point's next stage, with what is expected of it."""
        stage = self.stage[point]
        trial = statistics.fmean(self.made_up.trials[point])
        if self.rule == "estimated":
            trial *= self.rng.lognormvariate(0, ERROR)
        probe = PROBE_SHARE * trial
        work = Work(str(point), point, "tuning", str(stage), tuple(range(PROBES)))
        if stage < STAGES:
            later = (STAGES - 1 - stage) * probe + trial
            work = dataclasses.replace(work, expected=probe, after=later, most_cores=MOST_CORES)
        else:
            numbers = tuple(range(TRIALS))
            work = Work(str(point), point, "trial", TRIAL, numbers, expected=trial, after=0.0)
        if self.rule == "unknown" or (self.rule == "estimated" and stage == 0):
            work = dataclasses.replace(work, expected=None, after=None)
        self.open[point] = len(work.numbers)
        return work

    def seconds(self, start: Start) -> float:
        """What the job's one replica takes."""
        point, (number,) = int(start.job.point), start.job.numbers
        if start.job.stage == TRIAL:
            return self.made_up.trials[point][number]
        return self.made_up.probes[point][int(start.job.stage)][number]

    def take(self, outcome: Outcome) -> list[Work]:
        """What follows from an outcome."""
        point = int(outcome.point)
        self.open[point] -= 1
        if self.open[point] or outcome.stage == TRIAL:
            return []
        self.stage[point] += 1
        return [self.release(point)]


def makespan(made_up: MadeUp, cores: int, rule: str, seed: int) -> float:
    """Simulated seconds from the first start to the last end."""
    sweep = Sweep(made_up, rule, random.Random(seed))  # noqa: S311 - draws durations
    scheduler = Scheduler(cores)
    scheduler.add([sweep.release(point) for point in range(len(made_up.trials))])
    ends: list[tuple[float, int, Start]] = []
    now = 0.0
    while True:
        for start in scheduler.starts():
            heapq.heappush(ends, (now + sweep.seconds(start), start.slot, start))
        if not ends:
            return now
        now, slot, start = heapq.heappop(ends)
        job = start.job
        # With its duration: the scheduler hands jobs ahead where they take no time, as none here.
        begun = now - sweep.seconds(start)
        outcome = Outcome(job.point, job.stage, job.numbers[0], begun, now)
        for event in scheduler.react([Result(slot, outcome)], now):
            if isinstance(event, Finished):
                scheduler.add(sweep.take(event.outcome))


def ratios(cores: int, jobs_a_core: int, rule: str, *, one_long: bool) -> list[float]:
    """Makespan over its lower bound, for each draw, sorted."""
    points = max(1, cores * jobs_a_core // JOBS)
    found = []
    for seed in range(DRAWS):
        rng = random.Random(f"{seed} {points}")  # noqa: S311 - draws durations
        made_up = MadeUp.draw(rng, points, one_long=one_long)
        ratio = makespan(made_up, cores, rule, seed) / made_up.bound(cores)
        if ratio < 1 - 1e-9:
            raise SystemExit(f"a makespan of {ratio:.3f} lower bounds: the simulation is wrong")
        found.append(ratio)
    return sorted(found)


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 64 cores")
    most = 64 if parser.parse_args().quick else max(CORES)
    print("## Makespan over its lower bound (simulated)\n")
    print(
        "Lower bound: max(work / cores, longest chain of stages and a trial). Points are lognormal "
        f"(σ {SPREAD}), with {STAGES} × {PROBES} probes, each as long as {PROBE_SHARE} trials, and "
        f"{TRIALS} trials, ± {JITTER:.0%} within a point. Min / **median** / max of {DRAWS} draws. "
        f"*Estimated* is what a sweep does: durations from a point's first stage on, {ERROR:.0%} "
        "off. Goal, of the medians: at most 1.05 at 10 jobs a core, 1.03 at 20.\n"
    )
    print("| cores | jobs a core | one point 5 × as long | durations " + " | ".join(RULES) + " |")
    print("| --- " * (3 + len(RULES)) + "|")
    worst = dict.fromkeys(JOBS_A_CORE, 0.0)
    cases = itertools.product((c for c in CORES if c <= most), JOBS_A_CORE, (False, True))
    for cores, jobs, one_long in cases:
        cells = []
        for rule in RULES:
            found = ratios(cores, jobs, rule, one_long=one_long)
            middle = statistics.median(found)
            cells.append(f"{found[0]:.3f} / **{middle:.3f}** / {found[-1]:.3f}")
            if rule == "estimated":
                worst[jobs] = max(worst[jobs], middle)
        yes = "yes" if one_long else "no"
        print(f"| {cores} | {jobs} | {yes} | " + " | ".join(cells) + " |", flush=True)
    shown = ", ".join(f"{middle:.3f} at {jobs} jobs a core" for jobs, middle in worst.items())
    print(f"\nThe worst medians of *estimated*: {shown}.")


if __name__ == "__main__":
    main()
