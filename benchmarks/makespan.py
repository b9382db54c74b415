"""How near a sweep's duration comes to the least possible: simulated, and on two real cores.

    python benchmarks/makespan.py [--quick] [--only simulated|real]

A made-up sweep of points whose durations are lognormal from point to point; each point is tuned in
two stages and then trained.  The scheduler is told durations as the study tells them: nothing
before a point's first stage has ended, then an estimate that is 20 % off.  The makespan is compared
with its lower bound, max(work / cores, longest chain of stages and a trial).  In the second table
the points of a program, which are not tuned, differ in width; work is in core-seconds.  Simulated
with the real scheduler, the figures are the same on every machine.  On real cores it is the study,
the scheduler, pinned workers and the database of a sweep; its jobs keep a core busy for as long as
they were made up to take.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.records import (
    TRIAL,
    Finished,
    Job,
    Outcome,
    Planned,
    Point,
    Result,
    Start,
    Step,
    Target,
    TunedSettings,
    Work,
)
from sweeper.run.backends.local import LocalBackend, prepare
from sweeper.run.dispatch import dispatch
from sweeper.run.machine.cores import slots
from sweeper.run.machine.topology import usable_cores
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.search import FixedSweep
from sweeper.settings import SweepSettings
from sweeper.signature import make_point
from sweeper.store.database.store import Store
from sweeper.study import Study

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
WIDTHS = {
    "1": lambda _cores: (1,),
    "1, 1, 2, 4, 8": lambda cores: [width for width in (1, 1, 2, 4, 8) if width <= cores],
    "1, 3": lambda cores: (1, min(3, cores)),
    "1, 1, 1, cores / 2": lambda cores: (1, 1, 1, max(2, cores // 2)),
}
"""The widths of points, drawn alike often, by how they are shown."""
RULES = ("unknown", "estimated", "exact")
REAL_CORES = 2
REAL_DRAWS = 10
REAL_SECONDS = 0.04
"""What a trial of the median point takes on a real core."""
STEPS = 1000
"""Training steps of a trial, so that the study can tell durations from those of probes."""


@dataclass
class MadeUp:
    """One draw: what every replica of every point takes."""

    probes: list[list[list[float]]]
    trials: list[list[float]]
    widths: list[int]

    @classmethod
    def draw(
        cls, rng: random.Random, points: int, *, one_long: bool, widths: Sequence[int] = ()
    ) -> MadeUp:
        """Durations of so many points; one of them five times the median, if told so.

        With `widths` they are those of a program, without stages of tuning, and the widths of all
        points but that one are drawn from these, alike often.
        """
        drawn = rng.choices(widths, k=points) if widths else [1] * points
        stages = 0 if widths else STAGES
        seconds = [rng.lognormvariate(0, SPREAD) for _ in range(points)]
        if one_long:
            long = rng.randrange(points)
            seconds[long], drawn[long] = LONG, 1

        def some(count: int, mean: float) -> list[float]:
            return [mean * rng.lognormvariate(0, JITTER) for _ in range(count)]

        return cls(
            [[some(PROBES, PROBE_SHARE * mean) for _ in range(stages)] for mean in seconds],
            [some(TRIALS, mean) for mean in seconds],
            drawn,
        )

    def bound(self, cores: int) -> float:
        """No order is faster than this."""
        work = sum(
            width * (sum(map(sum, stages)) + sum(trials))
            for width, stages, trials in zip(self.widths, self.probes, self.trials, strict=True)
        )
        chains = (
            sum(map(max, stages)) + max(trials)
            for stages, trials in zip(self.probes, self.trials, strict=True)
        )
        return max(work / cores, *chains, *(self._beside(width, cores) for width in self.widths))

    def _beside(self, width: int, cores: int) -> float:
        """What all jobs as wide as that, or wider, take if as many run at once as fit."""
        seconds = sum(
            sum(map(sum, stages)) + sum(trials)
            for own, stages, trials in zip(self.widths, self.probes, self.trials, strict=True)
            if own >= width
        )
        return seconds / (cores // width)


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
        stages = len(self.made_up.probes[point])
        if stage < stages:
            later = (stages - 1 - stage) * probe + trial
            work = dataclasses.replace(work, expected=probe, after=later, most_cores=MOST_CORES)
        else:
            numbers = tuple(range(TRIALS))
            work = Work(str(point), point, "trial", TRIAL, numbers, expected=trial, after=0.0)
        if self.rule == "unknown" or (self.rule == "estimated" and stages and stage == 0):
            work = dataclasses.replace(work, expected=None, after=None)
        self.open[point] = len(work.numbers)
        return dataclasses.replace(work, width=self.made_up.widths[point])

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


def ratios(
    cores: int, jobs_a_core: int, rule: str, *, one_long: bool, widths: Sequence[int] = ()
) -> list[float]:
    """Makespan over its lower bound, for each draw, sorted; see `MadeUp.draw`."""
    points = max(1, cores * jobs_a_core // JOBS)
    if widths:  # a job of two cores counts as two
        points = round(cores * jobs_a_core / TRIALS / statistics.fmean(widths))
    found = []
    for seed in range(DRAWS):
        rng = random.Random(f"{seed} {points}")  # noqa: S311 - draws durations
        made_up = MadeUp.draw(rng, points, one_long=one_long, widths=widths)
        ratio = makespan(made_up, cores, rule, seed) / made_up.bound(cores)
        if ratio < 1 - 1e-9:
            raise SystemExit(f"a makespan of {ratio:.3f} lower bounds: the simulation is wrong")
        found.append(ratio)
    return sorted(found)


def report_simulated(most: int) -> None:
    """Print the table of simulated cores up to `most`, as Markdown."""
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


def report_widths() -> None:
    """Print the table of points that differ in width, as Markdown."""
    print("\n## Makespan over its lower bound, wide and narrow trials (simulated)\n")
    print(
        f"As above, but the points of a program, which are not tuned: {TRIALS} trials each. "
        f"{JOBS_A_CORE[-1]} jobs a core, where a job of two cores counts as two; widths are drawn "
        "from those shown, alike often, and lower than the number of cores or equal. The bound "
        "is also, for each width, the time of all jobs as wide or wider over how many fit beside "
        "each other. *Estimated* is what a sweep does once a trial of each point has ended. Goal, "
        "of its medians: at most 1.1.\n"
    )
    print("| cores | widths | one point 5 × as long | durations " + " | ".join(RULES) + " |")
    print("| --- " * (3 + len(RULES)) + "|")
    worst = 0.0
    for cores, shown, one_long in itertools.product(CORES[:3], WIDTHS, (False, True)):
        cells = []
        for rule in RULES:
            widths = WIDTHS[shown](cores)
            found = ratios(cores, JOBS_A_CORE[-1], rule, one_long=one_long, widths=widths)
            middle = statistics.median(found)
            cells.append(f"{found[0]:.3f} / **{middle:.3f}** / {found[-1]:.3f}")
            worst = max(worst, middle) if rule == "estimated" else worst
        yes = "yes" if one_long else "no"
        print(f"| {cores} | {shown} | {yes} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nThe worst median of *estimated*: {worst:.3f}.")


# -- on real cores --------------------------------------------------------------------------------


def execute(_context: object, _fd: int | None, job: Job) -> Iterator[Outcome]:
    """What a worker does: keep its core busy until the time is over."""
    metrics = {"perf_train": 1.0, "loss_train": 0.5, "perf_val": 1.0, "loss_val": 0.5}
    for number in job.numbers:
        began = time.time()
        until = time.perf_counter() + job.payload["seconds"][number]
        while time.perf_counter() < until:
            pass
        yield Outcome(job.point, job.stage, number, began, time.time(), metrics)


@dataclass(frozen=True)
class Planner:
    """Releases the stages of each point, and tells every replica how long it takes."""

    made_up: MadeUp

    tunings = 1

    def first(self, point: Point, *, check: bool) -> Planned:  # noqa: ARG002 - the protocol
        """See `sweeper.study.Planner`."""
        return Planned(point.signature, self._probes(point, 0))

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:  # noqa: ARG002
        """See `sweeper.study.Planner`."""
        stage = int(step.stage) + 1
        if stage < STAGES:
            return Planned(point.signature, self._probes(point, stage), step.stage)
        seconds = [REAL_SECONDS * units for units in self.made_up.trials[point.params[0]]]
        payload = {"steps": STEPS, "seconds": seconds, "cycle_epochs": 1, "cycles": 1}
        trials = Step(TRIAL, payload=payload, found=TunedSettings(0.1, 0.2, 32))
        return Planned(point.signature, trials, step.stage)

    def steps_of(self, step: Step, budget: int | None = None) -> float:  # noqa: ARG002
        """See `Planner`."""
        return float(step.payload["steps"])

    def in_packs(self, step: Step) -> bool:  # noqa: ARG002 - the protocol
        """See `Planner`."""
        return False

    def steps_after(self, step: Step) -> float:
        """See `sweeper.study.Planner`."""
        if step.found is not None:
            return 0.0
        return STEPS * ((STAGES - 1 - int(step.stage)) * PROBE_SHARE + 1)

    def _probes(self, point: Point, stage: int) -> Step:
        seconds = [REAL_SECONDS * units for units in self.made_up.probes[point.params[0]][stage]]
        return Step(str(stage), PROBES, {"steps": STEPS * PROBE_SHARE, "seconds": seconds})


def busy_point(params: Any) -> Point:
    """A point of the made-up sweep."""
    return make_point(params, "busy", SweepSettings(), 0)


def as_it_was(made_up: MadeUp, outcomes: Sequence[Outcome], order: Sequence[str]) -> MadeUp:
    """What the replicas really took: where others want the cores, too, it is longer."""
    took = {(one.point, one.stage, one.number): one.ended - one.started for one in outcomes}
    return MadeUp(
        [
            [
                [took[point, str(stage), number] for number in range(len(probes))]
                for stage, probes in enumerate(stages)
            ]
            for point, stages in zip(order, made_up.probes, strict=True)
        ],
        [
            [took[point, TRIAL, number] for number in range(len(trials))]
            for point, trials in zip(order, made_up.trials, strict=True)
        ],
        made_up.widths,
    )


def real_ratios(made_up: MadeUp) -> tuple[float, float, float]:
    """One draw on real cores: see the columns of `report_real`."""
    points = [(number,) for number in range(len(made_up.trials))]
    cores = slots(usable_cores(REAL_CORES), 1)
    if len(cores) < REAL_CORES:
        raise SystemExit(f"there are {len(cores)} cores; {REAL_CORES} are needed")
    target = Target("makespan:execute", preload=("makespan",))
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, Interrupts() as interrupts:
        folder = Path(name)
        with Store.open(folder / "sweep.db") as store:
            began = time.time()
            backend = LocalBackend(cores, pinned=True, target=target, logs=folder / "logs")
            study = Study(
                FixedSweep.with_fixed_trials(points, TRIALS),
                Planner(made_up),
                busy_point,
                most_cores=MOST_CORES,
                slots=len(cores),
                recorded=store.recorded("busy"),
            )
            store.begin(study.begin(), "busy", keep_log=False)
            for events in dispatch(study, Scheduler(len(cores)), backend, interrupts, time.time):
                store.append(events)
                store.decide(study.tell(events))
                outcomes += [event.outcome for event in events if isinstance(event, Finished)]
            store.append(())
            whole = time.time() - began
        backend.close()
    if len(outcomes) != len(points) * JOBS:
        raise SystemExit("not every replica has ended")
    seconds = max(one.ended for one in outcomes) - min(one.started for one in outcomes)
    really = as_it_was(made_up, outcomes, [busy_point(params).signature for params in points])
    bound = REAL_SECONDS * made_up.bound(REAL_CORES)
    return seconds / really.bound(REAL_CORES), seconds / bound, whole / bound


def report_real() -> None:
    """Print the table of real cores, as Markdown."""
    prepare(("makespan",))
    real_ratios(MadeUp.draw(random.Random(0), 1, one_long=False))  # noqa: S311 - the warm-up
    print("## Makespan over its lower bound (real cores)\n")
    print(
        f"The same draws on {REAL_CORES} pinned workers, every outcome durable; a trial of the "
        f"median point keeps its core busy for {1000 * REAL_SECONDS:.0f} ms, a probe for a quarter "
        "of that. The makespan, from the first replica's start to the last one's end, over the "
        "lower bound of what the replicas *really took* (on a machine that has other work, too, "
        "it is longer) and of what they were *made up* to take; *whole sweep*: over the latter, "
        f"with the start of its workers. Min / **median** / max of {REAL_DRAWS} draws. Goal, of "
        "the medians of the first: at most 1.05.\n"
    )
    print("| jobs a core | one point 5 × as long | really took | made up | whole sweep |")
    print("| --- | --- | --- | --- | --- |")
    for jobs, one_long in itertools.product(JOBS_A_CORE, (False, True)):
        points = REAL_CORES * jobs // JOBS
        found = []
        for seed in range(REAL_DRAWS):
            rng = random.Random(f"{seed} {points}")  # noqa: S311 - draws durations
            made_up = MadeUp.draw(rng, points, one_long=one_long)
            found.append(real_ratios(made_up))
        cells = [
            f"{min(column):.3f} / **{statistics.median(column):.3f}** / {max(column):.3f}"
            for column in zip(*found, strict=True)
        ]
        yes = "yes" if one_long else "no"
        print(f"| {jobs} | {yes} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="simulate up to 64 cores")
    parser.add_argument("--only", choices=("simulated", "real"))
    options = parser.parse_args()
    if options.only != "real":
        report_simulated(64 if options.quick else max(CORES))
        report_widths()
    if options.only is None:
        print()
    if options.only != "simulated":
        report_real()


if __name__ == "__main__":
    main()
