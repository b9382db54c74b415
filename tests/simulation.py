"""Whole made-up sweeps, driven through the scheduler without a clock, a process or a file.

`Simulation` joins a scheduler, a study (anything with `releases` and `tell`) and a `World`, which
decides how long replicas take and when workers die.  A `Ledger` keeps its own books of what was
released and started; `check_invariants` compares the scheduler with them after every step.  Time
is a number that jumps from one end to the next.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from sweeper.records import (
    TRIAL,
    Died,
    Event,
    Failure,
    Finished,
    Job,
    Lost,
    Message,
    Outcome,
    Result,
    Start,
    Work,
)
from sweeper.run.queue import OVERTAKEN
from sweeper.run.scheduler import HANDED_REPLICAS, Scheduler

CRASH = Failure("crash", "the worker was killed by signal 9")

Replica = tuple[str, str, int]
"""Point, stage, number."""


# -- small helpers --------------------------------------------------------------------------------


def tuning(
    point: int,
    replicas: int | Sequence[int],
    stage: str = "lr_range",
    most_cores: int | None = None,
    expected: float | None = None,
    after: float | None = None,
) -> Work:
    numbers = tuple(range(replicas)) if isinstance(replicas, int) else tuple(replicas)
    work = Work(name(point), point, "tuning", stage, numbers)
    return replace(work, expected=expected, after=after, most_cores=most_cores)


def trials(point: int, replicas: int | Sequence[int], expected: float | None = None) -> Work:
    numbers = tuple(range(replicas)) if isinstance(replicas, int) else tuple(replicas)
    return Work(name(point), point, "trial", TRIAL, numbers, expected=expected)


def name(point: int) -> str:
    # Names sort against the order of asking, so that a mix-up of the two shows.
    return f"p{999_999 - point:06d}"


def outcome(job: Job, number: int, now: float = 0.0, seconds: float = 1.0) -> Outcome:
    return Outcome(job.point, job.stage, number, started=now - seconds, ended=now)


# -- the books, and the rules ---------------------------------------------------------------------


@dataclass
class Entry:
    """What the ledger knows of one point."""

    tuning: deque[tuple[str, int]] = field(default_factory=deque)
    """Replicas that wait, by stage and number."""
    trials: deque[tuple[str, int]] = field(default_factory=deque)
    running: int = 0
    """Its tuning jobs that run."""
    paths: dict[str, float] = field(default_factory=dict)
    """Seconds from the start of what waits to the end of the point, by kind."""
    most_cores: int | None = None
    taken: int = 1
    """How many slots its jobs take."""
    ahead: bool = False
    tuned: bool = False


class Ledger:
    """What was released and started, kept in the plainest way, apart from the queue's own books."""

    def __init__(self, slots: int, width: int = 1) -> None:
        self.slots = slots
        self.width = width
        self.most_ahead = max(4, 2 * slots)
        self.most_ahead_seen = 0
        self.owned: dict[int, tuple[int, ...]] = {}
        """The slots that the jobs in each busy slot own, itself among them."""
        self.overtaken: dict[tuple[str, int], int] = {}
        """By kind and slots: how many jobs have started since one of these that wait."""
        self.mixed = False
        """Whether any job takes several slots: the order of widths goes before that of paths."""
        self.busy: dict[int, deque[Job]] = {}
        """What each slot was handed, in order: the first one runs."""
        self.idle = set(range(slots))
        """The slots that no job owns."""
        self.returned: deque[Job] = deque()
        """Handed ahead to a worker that died before."""
        self.handed_ahead = 0
        """How often a job was."""
        self.waiting = 0
        self.entries: dict[str, Entry] = {}
        self.ahead: set[str] = set()
        # Points of which something waits, by what it needs besides a slot.
        self.begun_tuning: set[str] = set()
        self.fresh_tuning: set[str] = set()
        self.waiting_trials: set[str] = set()
        self.widths: Counter[tuple[str, int]] = Counter()
        """How many of these points there are, by the name of the set and slots."""

    def released(self, releases: Iterable[Work]) -> None:
        for release in releases:
            entry = self.entries.setdefault(release.point, Entry(taken=self.taken_by(release)))
            self.mixed |= entry.taken > 1
            waiting = entry.tuning if release.kind == "tuning" else entry.trials
            if not waiting:
                entry.paths[release.kind] = math.inf
            if release.expected is not None:
                entry.paths[release.kind] = release.expected + (release.after or 0.0)
            waiting.extend((release.stage, number) for number in release.numbers)
            self.waiting += len(release.numbers)
            if release.kind == "tuning":
                entry.most_cores = release.most_cores
            else:
                entry.tuned = True
            self._settle(release.point)

    def started(self, job: Job) -> None:
        entry = self.entries[job.point]
        waiting = entry.tuning if job.kind == "tuning" else entry.trials
        for number in job.numbers:
            replica = (job.stage, number)
            assert replica in waiting, f"{job.point} {replica} does not wait: started twice?"
            assert replica == waiting[0], f"{job.point} {replica} before its turn"
            waiting.popleft()
            self.waiting -= 1
        if job.kind == "tuning":
            entry.running += 1
            entry.ahead = True
        self._settle(job.point)

    def taken_by(self, work: Work | Job) -> int:
        """How many slots a job takes."""
        return min(self.slots, math.ceil(work.width / self.width))

    def handed(self, start: Start) -> None:
        slots = (start.slot, *start.others)
        assert len(slots) == self.taken_by(start.job), "not as many slots as its cores need"
        if start.slot not in self.busy:
            assert self.idle.issuperset(slots), "a slot is given twice"
            self.owned[start.slot] = slots
            self.idle.difference_update(slots)
        assert self.owned[start.slot] == slots, "handed ahead to other slots"
        jobs = self.busy.setdefault(start.slot, deque())
        self.handed_ahead += bool(jobs)
        jobs.append(start.job)

    def waiting_widths(self) -> set[tuple[str, int]]:
        """What may start as far as slots go: by kind and slots."""
        ahead = len(self.ahead) < self.most_ahead
        kinds = {"begun": "tuning", "trials": "trial"} | ({"fresh": "tuning"} if ahead else {})
        return {
            (kinds[name], taken)
            for (name, taken), count in self.widths.items()
            if count and name in kinds
        }

    def count_overtaken(self, job: Job) -> None:
        """Note which widths a job that starts has overtaken."""
        waiting = self.waiting_widths()
        self.overtaken = {one: self.overtaken.get(one, 0) + 1 for one in waiting}
        self.overtaken[job.kind, self.taken_by(job)] = 0

    def ended(self, slot: int, *, died: bool = False) -> None:
        """The job that ran there is over; with its worker, what it was handed ahead comes back."""
        job = self.busy[slot].popleft()
        if died:
            self.returned += self.busy[slot]
            self.waiting += sum(len(other.numbers) for other in self.busy[slot])
            self.busy[slot].clear()
        if not self.busy[slot]:
            self.idle.update(self.owned.pop(slot))
            del self.busy[slot]
        if job.kind == "tuning":
            self.entries[job.point].running -= 1
        self._settle(job.point)

    def keeps_most_cores(self, entry: Entry, more: int = 0) -> bool:
        """Whether the point's tuning, with so many jobs more, owns no more cores than it may."""
        if entry.most_cores is None:
            return True
        width = entry.taken * self.width
        return (entry.running + more) * width <= max(width, entry.most_cores)

    @property
    def tuning_may_start(self) -> bool:
        """Whether a tuning job may start, a slot being free."""
        return bool(self.begun_tuning or (self.fresh_tuning and len(self.ahead) < self.most_ahead))

    def is_longest(self, job: Job) -> bool:
        """Whether no replica that could start in place of the job has a longer way to go."""
        if job.kind == "trial":
            rivals = self.waiting_trials
        else:
            begun = self.entries[job.point].ahead
            rivals = self.begun_tuning if begun else self.fresh_tuning
        paths = (self.entries[rival].paths[job.kind] for rival in islice(rivals, 50))
        return self.entries[job.point].paths[job.kind] >= max(paths, default=0.0)

    def _settle(self, point: str) -> None:
        entry = self.entries[point]
        if entry.tuned and not entry.trials:
            entry.ahead = entry.tuned = False
        may_tune = bool(entry.tuning) and self.keeps_most_cores(entry, 1)
        for name, points, belongs in (
            ("ahead", self.ahead, entry.ahead),
            ("begun", self.begun_tuning, may_tune and entry.ahead),
            ("fresh", self.fresh_tuning, may_tune and not entry.ahead),
            ("trials", self.waiting_trials, bool(entry.trials)),
        ):
            self.widths[name, entry.taken] += belongs - (point in points)
            (points.add if belongs else points.discard)(point)
        self.most_ahead_seen = max(self.most_ahead_seen, len(self.ahead))


def check_invariants(ledger: Ledger, scheduler: Scheduler, starts: Sequence[Start]) -> None:
    """Everything that must hold of `starts`, which the scheduler has just decided.

    Enters them into the ledger on the way.
    """
    idle = sorted(ledger.idle)
    first, ahead = starts[: len(idle)], starts[len(idle) :]
    if not ledger.mixed:
        assert [start.slot for start in first] == idle[: len(first)], "a busy slot, or out of order"
    for start in starts:
        job, entry = start.job, ledger.entries[start.job.point]
        ledger.handed(start)
        if ledger.returned:
            assert job in ledger.returned, "another before one that came back"
            ledger.returned.remove(job)
            ledger.waiting -= len(job.numbers)
            continue
        ledger.count_overtaken(job)
        if ledger.mixed:
            pass  # what fits goes before what does not
        elif job.kind == "trial":
            assert not ledger.tuning_may_start, "a trial before tuning"
        elif not entry.ahead:
            assert not ledger.begun_tuning, "a new point before one whose tuning has begun"
        assert ledger.mixed or ledger.is_longest(job), "a shorter path before a longer one"
        assert job.numbers, "a job without replicas"
        ledger.started(job)  # each replica once, in its turn
        assert len(ledger.ahead) <= ledger.most_ahead, "too many points tuned ahead"
        assert job.kind == "trial" or ledger.keeps_most_cores(entry), "more than most_cores"
    assert dict(scheduler.running) == {slot: jobs[0] for slot, jobs in ledger.busy.items()}
    for slot in {start.slot for start in ahead} & set(ledger.busy):
        replicas = sum(len(job.numbers) for job in list(ledger.busy[slot])[:-1])
        assert replicas <= HANDED_REPLICAS, "too much handed ahead"
    assert scheduler.idle_slots == len(ledger.idle)
    assert scheduler.queued == ledger.waiting
    if ledger.mixed:
        fitting = any(taken <= scheduler.idle_slots for _, taken in ledger.waiting_widths())
        kept = any(count >= OVERTAKEN * ledger.slots for count in ledger.overtaken.values())
        assert not fitting or kept or ledger.returned, "idle while something waits that fits"
    elif scheduler.idle_slots:
        assert not ledger.waiting_trials, "idle while trials wait"
        assert not ledger.tuning_may_start, "idle while tuning waits"
        packs = [start for start in starts if len(start.job.numbers) > 1]
        assert all(start.job.kind == "tuning" for start in packs), "idle while trials share a job"


# -- a made-up study ------------------------------------------------------------------------------


class Study(Protocol):
    """What a simulation asks of a study."""

    def releases(self) -> list[Work]:
        """What was decided since the last call."""

    def tell(self, events: Sequence[Event]) -> None:
        """What happened."""


@dataclass(frozen=True)
class Plan:
    """What is to be done for one point."""

    stages: tuple[int, ...]
    """How many probes each stage of tuning has; none: tuned in an earlier run."""
    trials: int
    expected: float | None = None
    width: int = 1


class MadeUpStudy:
    """Tunes every point stage by stage, then releases its trials; gives up after three tries."""

    TRIES = 3

    def __init__(
        self, plans: Sequence[Plan], most_cores: int | None = None, look_ahead: int | None = None
    ) -> None:
        self._plans = plans
        self._most_cores = most_cores
        self._look_ahead = look_ahead or len(plans)
        self._asked = 0
        self._unsettled: set[int] = set()
        self._open: dict[int, set[Replica]] = {}
        self._stage: dict[int, int] = {}
        self._pending: list[Work] = []
        self._points = {name(point): point for point in range(len(plans))}
        self.tries: dict[Replica, int] = {}
        self.finished: list[Replica] = []
        self.given_up: set[Replica] = set()
        self.failed: dict[int, int] = {}
        """Points whose tuning failed, and at which stage."""
        self._ask()

    @property
    def done(self) -> bool:
        return self._asked == len(self._plans) and not self._unsettled

    def releases(self) -> list[Work]:
        pending, self._pending = self._pending, []
        return pending

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Finished(_, ended):
                    self._settle((ended.point, ended.stage, ended.number))
                    self.finished.append((ended.point, ended.stage, ended.number))
                case Lost(_, job, numbers, _):
                    self._retry(job, numbers)

    def _ask(self) -> None:
        while self._asked < len(self._plans) and len(self._unsettled) < self._look_ahead:
            self._unsettled.add(self._asked)
            self._release(self._asked, stage=0)
            self._asked += 1

    def _release(self, point: int, stage: int) -> None:
        plan = self._plans[point]
        self._stage[point] = stage
        if stage < len(plan.stages):
            expected = plan.expected if stage else None
            replicas, label = plan.stages[stage], f"stage.{stage}"
            work = tuning(point, replicas, label, self._most_cores, expected, expected)
        else:
            work = trials(point, plan.trials, plan.expected)
        work = replace(work, width=plan.width)
        self._open[point] = {(work.point, work.stage, number) for number in work.numbers}
        self._pending.append(work)
        if not work.numbers:
            self._unsettled.discard(point)

    def _settle(self, replica: Replica) -> None:
        point = self._points[replica[0]]
        self._open[point].remove(replica)
        if self._open[point]:
            return
        if point in self.failed:
            self._unsettled.discard(point)
            self._pending.append(trials(point, 0))
        elif self._stage[point] < len(self._plans[point].stages):
            self._release(point, self._stage[point] + 1)
        else:
            self._unsettled.discard(point)
        self._ask()

    def _retry(self, job: Job, numbers: tuple[int, ...]) -> None:
        point = self._points[job.point]
        begun = (job.point, job.stage, numbers[0])
        self.tries[begun] = self.tries.get(begun, 0) + 1
        if self.tries[begun] == self.TRIES:
            self.given_up.add(begun)
            numbers = numbers[1:]
            if job.kind == "tuning":
                self.failed[point] = self._stage[point]
            self._settle(begun)
        if not numbers:
            return
        again = tuning(point, numbers, job.stage, self._most_cores)
        if job.kind == "trial":
            again = trials(point, numbers, self._plans[point].expected)
        self._pending.append(replace(again, width=job.width))


# -- a made-up world ------------------------------------------------------------------------------


@dataclass
class World:
    """How long replicas take, and what goes wrong; drawn from a seeded generator."""

    seed: int = 0
    deaths: float = 0.0
    """The probability that a job's worker dies under it."""
    noise: float = 0.0
    """The probability of a message that means nothing: a result twice, an idle worker's death."""
    seconds: Callable[[random.Random], float] = lambda rng: rng.choice((1.0, 2.0, 5.0))
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def course(self, job: Job, now: float) -> list[tuple[float, int | None]]:
        """When each replica of the job ends; None in place of a number: its worker's death."""
        doomed = self.rng.random() < self.deaths
        last = self.rng.randrange(len(job.numbers)) if doomed else None
        ends: list[tuple[float, int | None]] = []
        for place, number in enumerate(job.numbers):
            seconds = self.seconds(self.rng)
            if place == last:
                return [*ends, (now + seconds / 2, None)]
            now += seconds
            ends.append((now, number))
        return ends


@dataclass
class Simulation:
    """One sweep in made-up time."""

    study: Study
    slots: int
    width: int = 1
    per_job: int = 1
    world: World = field(default_factory=World)
    now: float = 0.0
    busy_seconds: float = 0.0
    """Summed over slots."""
    starts: list[tuple[float, Start]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.slots, self.width, self.per_job)
        self.ledger = Ledger(self.slots, self.width)
        self._ends: list[tuple[float, int, Start, int | None, float, int]] = []
        self._sequence = 0
        self._free_at = [0.0] * self.slots
        """When each worker has done all that it was handed."""
        self._lives = [0] * self.slots
        """How often each has died: what a dead one would have done does not happen."""

    def run(self) -> Simulation:
        """Until nothing runs and nothing can start; the invariants hold at every step."""
        self._advance()
        while self._ends:
            self.step()
        return self

    @property
    def use(self) -> float:
        """The share of the slots' time in which they were busy."""
        return self.busy_seconds / (self.now * self.slots)

    def step(self) -> None:
        """To the next moment at which something ends."""
        before, self.now = self.now, self._ends[0][0]
        self.busy_seconds += (self.now - before) * len(self.ledger.busy)
        messages: list[Message] = []
        while self._ends and self._ends[0][0] == self.now:
            messages += self._messages(*heapq.heappop(self._ends)[2:])
        # What changes in any other slot is seen by `check_invariants`.
        running = self.scheduler.running
        before = {one.slot: running[one.slot] for one in messages if one.slot in running}
        events = self.scheduler.react(messages, self.now)
        self.events += events
        dead = {id(event.job) for event in events if isinstance(event, Lost)}
        for slot, job in before.items():
            if running.get(slot) is not job:
                self.ledger.ended(slot, died=id(job) in dead)
        self.study.tell(events)
        self._advance()

    def _messages(
        self, start: Start, number: int | None, seconds: float, life: int
    ) -> list[Message]:
        if life != self._lives[start.slot]:
            return []
        if number is None:
            self._lives[start.slot] += 1
            self._free_at[start.slot] = self.now
            return [Died(start.slot, CRASH)]
        result = Result(start.slot, outcome(start.job, number, self.now, seconds))
        messages: list[Message] = [result]
        if self.world.rng.random() < self.world.noise:
            # A result for a second time, and one that arrives under another slot's number.
            messages += [result, Result((start.slot + 1) % self.slots, result.outcome)]
        idle = number == start.job.numbers[-1] and len(self.ledger.busy[start.slot]) == 1
        if idle and self.world.rng.random() < self.world.noise:
            messages.append(Died(start.slot, CRASH))
        return messages

    def _advance(self) -> None:
        releases = self.study.releases()
        self.ledger.released(releases)
        self.scheduler.add(releases)
        starts = self.scheduler.starts()
        check_invariants(self.ledger, self.scheduler, starts)
        for start in starts:
            self.starts.append((self.now, start))
            begun = max(self.now, self._free_at[start.slot])
            for time, number in self.world.course(start.job, begun):
                end = (time, self._sequence, start, number, time - begun)
                heapq.heappush(self._ends, (*end, self._lives[start.slot]))
                self._sequence += 1
                begun = self._free_at[start.slot] = time
