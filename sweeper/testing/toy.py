"""A made-up problem without training, and its workers in fake time.

A replica's outcome is a pure function of its point, stage and number, so that histories and results
can be compared between any number of slots, any durations and deaths.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from sweeper.code.references import find_importable
from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import (
    CHECK,
    METRICS,
    TRIAL,
    Died,
    Failure,
    Job,
    Message,
    Outcome,
    Params,
    Planned,
    Point,
    Result,
    Start,
    Step,
    TunedSettings,
    is_trial,
)
from sweeper.settings import Limits, SweepSettings
from sweeper.signature import decode, make_point, without_aliases

BOOM = Failure("exception", "ValueError: boom", "Traceback: …")
CRASH = Failure("crash", "the worker was killed by signal 9")

Which: TypeAlias = Callable[[Any, str, int], bool]
"""Whether something happens to a replica, given its parameters, stage and number."""


Measured: TypeAlias = Callable[[Any, int, str], dict[str, float]]
"""Gives a trial's metrics, given its parameters, number and stage."""


_SETTINGS = SweepSettings()


def never(_params: Any, _stage: str, _number: int) -> bool:
    """Happens to no replica."""
    return False


def point_of(params: Any) -> Point:
    """The point of the made-up problem with these params."""
    return make_point(params, "toy", _SETTINGS, 0)


def draw(params: Any, stage: str, number: int, what: str) -> float:
    """A number from 0 to 1 that depends only on the arguments."""
    return _drawn(f"{params!r} {stage} {number} {what}")


@functools.cache
def _drawn(seed: str) -> float:
    return random.Random(seed).random()  # noqa: S311 - no secret


def metrics_of(params: Any, number: int, stage: str = TRIAL) -> dict[str, float]:
    """The metrics of a trial; one in ten diverges."""
    values = {name: draw(params, stage, number, name) for name in METRICS}
    if draw(params, stage, number, "diverges") < 0.1:
        values |= {"loss_train": math.nan, "loss_val": math.nan, "perf_val": 0.0}
    return values


@functools.cache
def perf_arrays(perf: float) -> bytes:
    """The arrays of a probe."""
    return pack_arrays({"perf": perf})


@functools.cache
def perfs_arrays(perfs: tuple[float, ...]) -> bytes:
    """The arrays behind a decision."""
    return pack_arrays({"perf": perfs})


@functools.cache
def perf_in(arrays: bytes) -> float:
    """The performance in the arrays of a probe."""
    return float(unpack_arrays(arrays)["perf"])


def replica_of(
    job: Job, number: int, started: float, ended: float, measured: Measured | None = None
) -> Outcome:
    """The outcome of a replica of the job."""
    params = params_of(job)
    outcome = Outcome(job.point, job.stage, number, started, ended)
    if is_trial(job.stage):
        metrics = (measured or metrics_of)(params, number, job.stage)
        return dataclasses.replace(outcome, metrics=metrics)
    return dataclasses.replace(outcome, arrays=perf_arrays(draw(params, job.stage, number, "perf")))


def params_of(job: Job) -> Params:
    """The parameters of the job's point."""
    return without_aliases(decode(job.payload["params"], find_importable))


class ToyPlan:
    """check -> lr_range (perhaps twice) -> batch_range -> trial; each step depends on outcomes."""

    tunings = 1

    def first(self, point: Point, *, check: bool) -> Planned:
        """A point's first step."""
        step = Step(CHECK, 1, {"steps": 1}) if check else Step("lr_range", 3, {"steps": 10})
        return Planned(point.signature, step)

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`."""
        assert [outcome.number for outcome in outcomes] == list(range(step.replicas))
        for outcome in outcomes:
            assert (outcome.point, outcome.stage) == (point.signature, step.stage)
            if outcome.failure is not None:
                error = f"{step.stage} {outcome.number}: {outcome.failure.message}"
                return Planned(point.signature, Step(step.stage, error=error), step.stage)
        if step.stage == CHECK:
            return Planned(point.signature, self.first(point, check=False).step, CHECK)
        perfs = [perf_in(outcome.arrays) for outcome in outcomes]
        mean = sum(perfs) / len(perfs)
        choice = {"mean": mean}
        if step.stage == "lr_range" and mean > 0.5:
            then = Step("lr_range.1", 2, {"steps": 10})
        elif step.stage != "batch_range":
            then = Step("batch_range", 2, {"steps": 5, "low": mean})
        else:
            low = step.payload["low"]
            found = TunedSettings(low, 10 * low, 16 + int(np.argmax(perfs)))
            length = {"steps": 20, "cycle_epochs": 1, "cycles": 2}
            then = Step(TRIAL, payload=length, found=found)
        return Planned(point.signature, then, step.stage, choice, perfs_arrays(tuple(perfs)))

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """Training steps of a replica."""
        return float(10 * budget if budget else step.payload.get("steps", math.nan))

    def in_packs(self, step: Step) -> bool:  # noqa: ARG002 - the protocol
        """Nothing is trained in packs."""
        return False

    def steps_after(self, step: Step) -> float:
        """Training steps after a stage."""
        return {CHECK: 35, "lr_range": 25, "batch_range": 20}.get(step.stage.partition(".")[0], 0)


@dataclasses.dataclass
class ToyBackend:
    """Workers in fake time, with random durations and deaths.

    Random deaths hit a replica less often than it is tried, so that no result depends on them;
    replicas in `doomed` kill their worker every time.
    """

    seed: int = 0
    deaths: float = 0.0
    """The probability that a worker dies while running a replica."""
    failing: Which = never
    doomed: Which = never
    died: Counter[tuple[str, str, int]] = dataclasses.field(default_factory=Counter)
    """The number of random deaths for each replica, over all runs of a folder."""
    now: float = 1e9
    seconds: tuple[float, ...] = (1.0, 2.0, 5.0)
    stuck: Which = never
    failure: Failure = BOOM
    """The failure of replicas that are `failing`."""
    measured: Measured | None = None
    """The metrics of trials; None: `metrics_of`."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - no secret
        self.lives: Counter[int] = Counter()
        """How often each slot's worker has died: messages of a dead worker are dropped."""
        self.free_at: dict[int, float] = defaultdict(float)
        self.messages: list[tuple[float, int, Message, int]] = []
        self.sequence = itertools.count()
        self.ticks = 0

    def clock(self) -> float:
        """The time."""
        return self.now

    def start(self, starts: Sequence[Start]) -> None:
        """See `Backend`."""
        for start in starts:
            self.start_one(start)

    def start_one(self, start: Start) -> None:
        """Schedule the messages of the job."""
        job, now = start.job, max(self.now, self.free_at[start.slot])
        params = params_of(job)
        for number in job.numbers:
            seconds = self.rng.choice(self.seconds)
            replica = (job.point, job.stage, number)
            if self.stuck(params, job.stage, number):
                return
            if self.doomed(params, job.stage, number):
                self.push(now + seconds, Died(start.slot, CRASH))
                return
            if self.rng.random() < self.deaths and self.died[replica] < Limits().max_tries - 1:
                self.died[replica] += 1
                self.push(now + seconds, Died(start.slot, CRASH))
                return
            outcome = self.outcome(job, params, number, now, now + seconds)
            now += seconds
            self.push(now, Result(start.slot, outcome))
        self.free_at[start.slot] = now

    def outcome(
        self, job: Job, params: Params, number: int, started: float, ended: float
    ) -> Outcome:
        """The outcome of a replica."""
        if self.failing(params, job.stage, number):
            return Outcome(job.point, job.stage, number, started, ended, failure=self.failure)
        return replica_of(job, number, started, ended, self.measured)

    def stop(self, slot: int) -> None:
        """See `Backend`."""
        self.push(self.now, Died(slot, CRASH))

    def push(self, time: float, message: Message) -> None:
        """Schedule a message at a time."""
        life = self.lives[message.slot]
        heapq.heappush(self.messages, (time, next(self.sequence), message, life))

    def wait(self, timeout: float | None, _interrupts: object) -> list[Message]:
        """See `Backend`; advances the time to that of the messages."""
        if timeout is None:
            assert self.messages, "waits for ever"
        until = math.inf if timeout is None else self.now + timeout
        if not self.messages or self.messages[0][0] > until:
            self.now = until
            self.ticks += 1
            assert self.ticks < 10_000, "waits for ever"
            return []
        self.now = max(self.now, self.messages[0][0])
        ready: list[Message] = []
        while self.messages and self.messages[0][0] <= self.now:
            _, _, message, life = heapq.heappop(self.messages)
            if life != self.lives[message.slot]:
                continue
            ready.append(message)
            if isinstance(message, Died):
                self.lives[message.slot] += 1
                self.free_at[message.slot] = self.now
        return ready

    def close(self) -> None:
        """See `Backend`: there is no worker."""
