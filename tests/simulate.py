"""Whole sweeps under faults that one seed decides, with the driver's real code.

    python -m tests.simulate --seeds 10000     # how many violations there are
    python -m tests.simulate --seed 4711       # one seed again, step by step

Study, scheduler, queue, store (on a real file) and the loop are the product's.  Workers, their
messages and the clock are made up here, and so are the faults: workers that die, hang, run slow or
out of memory, messages that come twice or late, a driver that is killed between any two steps or
interrupted, a write that fails.  A driver that has ended is followed by another, as if the same
command were given again, until one comes to the end.  What must hold is checked on the way and at
the end, where the folder must say the same as that of a sweep to which nothing happened.

Points are those of a problem, which are tuned first, or of a program, which are not.  Trials may
have budgets, and may save (`tests.simulated_trials`): then a fault costs them a segment at most.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import heapq
import itertools
import math
import multiprocessing
import os
import random
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.code.references import find_importable
from sweeper.disk.sealed import PART
from sweeper.engine.drive import drive
from sweeper.errors import DiskError, StoppedError
from sweeper.program.workload import ProgramPlan
from sweeper.records import (
    CHECK,
    NOT_ITS_FAULT,
    TRIAL,
    Died,
    Failure,
    Job,
    Outcome,
    Point,
    Result,
    Start,
    is_trial,
    trial_stage,
)
from sweeper.run.scheduler import MEMORY, SHORT_SECONDS, STREAK, Scheduler
from sweeper.search import Ask, ParamSelector
from sweeper.search.selector import Answer
from sweeper.settings import Limits
from sweeper.show.progress import make_view
from sweeper.signature import decode
from sweeper.store.checkpoints import checkpoint_files, remove_checkpoints
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.asked import asked_trials
from sweeper.store.results.load import read_results
from sweeper.study import Study
from sweeper.testing.toy import ToyPlan, draw, metrics_of, perf_arrays, point_of
from sweeper.workload import Planner
from tests.simulated_trials import Books, Course, Violation, must
from tests.toys import Gambler, Listed, Script, asked_results_in, untunable

CRASH = Failure("crash", "the worker was ended by signal 9 (SIGKILL)", "its log")
GONE = Failure("stopped", "the worker ended together with the fork server", "its log")
BOOM = Failure("exception", "ValueError: boom", "Traceback: …")
NO_MEMORY = Failure("memory", "MemoryError: no room", "Traceback: …")
NO_DISK = Failure("disk", "OSError: no space left on device", "Traceback: …")

ASKS = [((0,), 3), ((1,), 4), ((2,), 0), ((3,), 2), ((0,), 2), ((4,), 1), ((2,), 0), ((5,), 1)]
MANY_ASKS = [((0,), 30), ((1,), 15), ((4,), 1)]
"""Trials enough for workers to be handed jobs ahead."""

BUDGET_ASKS = [
    Ask((0,), 3, 2),
    Ask((1,), 4, 3),
    Ask((0,), 4, 6),
    Ask((3,), 2),
    Ask((1,), 2, 9),
    Ask((4,), 1, 6),
    Ask((2,), 0),
    Ask((0,), 1, 2),
    Ask((4,), 1, 2),
    Ask((0,), 3, 9),
    Ask((1,), 1),
]

MOST_LIVES = 40

Replica = tuple[str, str, int]
"""Point, stage, number."""


def replicas_of(job: Job) -> set[Replica]:
    return {(job.point, job.stage, number) for number in job.numbers}


@functools.cache
def params_in(text: str) -> tuple[int]:
    return decode(text, find_importable)


def average(seconds: list[float]) -> float:
    """Over about the last `MEMORY` of them, as the scheduler takes it."""
    found = 0.0
    for count, one in enumerate(seconds, 1):
        found += (one - found) / min(count, MEMORY)
    return found


class Killed(BaseException):
    """The driver is dead."""


# -- what happens, by the seed --------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """What is asked for, what always fails, and how much goes wrong by chance."""

    adaptive: str
    asks: tuple[Answer, ...]
    slots: int
    widths: int
    """Points have 1 to so many cores."""
    per_job: int
    limits: Limits
    seconds: tuple[float, ...]
    fails: bool
    """Whether some trials always raise, kill their worker or find no memory."""
    hangs: bool
    deaths: float
    """The probability that a replica's worker dies of no fault of its own, or lacks memory."""
    strangers: float
    """The probability of a message that comes twice, late, or for nobody."""
    lives: tuple[str, ...]
    """How the first drivers end, if they do not come to the end before."""
    program: bool
    """Whether nothing is tuned."""
    segment: int
    """Iterations after which trials save; 0: they do not."""
    spare: bool
    """Whether idle slots run spare trials."""

    @classmethod
    def of(cls, rng: random.Random) -> Scenario:
        short = rng.random() < 0.25
        adaptive = "Listed" if short else rng.choice(("Gambler", "Listed", "Script"))
        hangs = rng.random() < 0.3
        budgets = not short and rng.random() < 0.4
        segment = rng.choice((0, 1, 4)) if budgets or rng.random() < 0.2 else 0
        return cls(
            adaptive,
            tuple(MANY_ASKS if short else BUDGET_ASKS if budgets else ASKS),
            slots=rng.choice((1, 2, 3, 8)),
            widths=rng.choice((1, 1, 3)),
            per_job=1 if short else rng.choice((1, 1, 3)),
            limits=Limits(
                rng.choice((1, 2, 3)), rng.choice((None, None, 3)), 20.0 if hangs else None
            ),
            seconds=(0.001, 0.002) if short else rng.choice(((1.0, 2.0, 5.0), (0.01, 0.03, 19.0))),
            fails=rng.random() < 0.6,
            hangs=hangs,
            deaths=rng.choice((0.0, 0.05, 0.3)),
            strangers=rng.choice((0.0, 0.1)),
            lives=tuple(
                rng.choice(("killed", "killed", "killed", "write fails", "interrupted"))
                for _ in range(rng.choice((0, 1, 1, 2, 3)))
            ),
            program=rng.random() < 0.4,
            segment=segment,
            # While one hangs, there would be thousands of short ones.
            spare=rng.random() < 0.4 and not (short and hangs) and not (budgets or segment),
        )

    @property
    def undisturbed(self) -> Scenario:
        """The same with nothing that happens by chance."""
        # What fails says how often it was tried; nothing else depends on that.
        tries = self.limits.max_tries if self.fails else 1
        return dataclasses.replace(
            self,
            slots=1,
            per_job=1,
            limits=Limits(tries, trial_timeout=self.limits.trial_timeout),
            seconds=(1.0,),
            deaths=0.0,
            strangers=0.0,
            lives=(),
            segment=min(self.segment, 1),  # how often trials save is part of no result
            spare=False,
        )

    def planner(self) -> Planner:
        return ProgramPlan() if self.program else ToyPlan()

    def selector(self) -> Gambler | Listed:
        if self.adaptive == "Gambler":
            budgets = self.asks == tuple(BUDGET_ASKS)
            return Gambler(8, budgets=(2, 4, 7, None) if budgets else (None,))
        return {"Listed": Listed, "Script": Script}[self.adaptive](self.asks)

    def point(self, params: tuple[int]) -> Point:
        """The point of these params, with its width."""
        return point_of(params)._replace(width=1 + params[0] % self.widths)

    def fate(self, params: tuple[int], stage: str, number: int) -> str:
        """What always comes of this replica."""
        if stage == CHECK:
            return "ends"
        kind = TRIAL if is_trial(stage) else stage
        if self.hangs and (params, kind, number) in {((1,), TRIAL, 1), ((2,), "lr_range", 1)}:
            return "hangs"
        if self.fails:
            if untunable(params, stage, number):
                return "raises"
            if kind == TRIAL:
                chance = draw(params, stage, number, "fate")
                fates = (("raises", 0.1), ("kills", 0.17), ("no memory", 0.24))
                return next((fate for fate, below in fates if chance < below), "ends")
        return "ends"


class World:
    """What outlives a driver: how much has gone wrong so far, and what has really been computed."""

    def __init__(self, scenario: Scenario, rng: random.Random) -> None:
        self.scenario = scenario
        self.rng = rng
        self.tries: Counter[Replica] = Counter()
        """How often something has gone wrong by chance with each replica."""
        self.gone = 0
        """How often it was nobody's fault."""
        self.trace: list[str] = []
        self.books = Books()

    def chance(self, job: Job, number: int) -> Failure | None:
        """What goes wrong with a replica that would end well; never so often as to end it."""
        if self.rng.random() >= self.scenario.deaths:
            return None
        cause = self.rng.choice((CRASH, CRASH, NO_MEMORY, GONE, NO_DISK))
        if cause.kind in NOT_ITS_FAULT:
            self.gone += 1
            return cause if self.gone <= 3 else None
        replica = (job.point, job.stage, number)
        if self.tries[replica] >= self.scenario.limits.max_tries - 1:
            return None
        self.tries[replica] += 1
        return cause


class Life:
    """One driver's: it counts its steps, and one of them may be the last."""

    def __init__(self, end: str, rng: random.Random) -> None:
        self.end = end
        self.at = int(math.exp(rng.uniform(0.0, math.log(900))))
        self.steps = 0
        self.writes = 0
        self.dead = False
        self.signal: int | None = None
        """As `Interrupts`."""

    def step(self) -> None:
        """Something is about to happen, or has just happened."""
        self.steps += 1
        if self.dead or (self.end == "killed" and self.steps == self.at):
            self.dead = True
            raise Killed
        if self.end == "interrupted" and self.steps == self.at:
            self.signal = 2

    def write(self) -> None:
        """Something is about to be written."""
        self.writes += 1
        if self.end == "write fails" and self.writes == 1 + self.at // 9:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_WRITE"  # as SQLite says it
            raise error


def mortal_connection(life: Life) -> type[sqlite3.Connection]:
    """Connections whose driver may die before and after each statement, and whose writes may fail.

    Whatever is not committed then is gone, as it is when a process is killed.
    """

    class Mortal(sqlite3.Connection):
        def execute(self, sql, *values):
            # Nobody pulls a plug here, and what was committed stays in the file without it.
            sql = sql.replace("synchronous = FULL", "synchronous = OFF")
            return self._between(super().execute, sql, *values)

        def executemany(self, sql, values):
            return self._between(super().executemany, sql, values)

        def _between(self, run, sql, *values):
            life.step()
            if sql.startswith(("INSERT", "COMMIT")):
                life.write()
            found = run(sql, *values)
            life.step()
            return found

    return Mortal


class Workers:
    """The backend: workers in made-up time."""

    def __init__(
        self,
        world: World,
        life: Life,
        durable: Durable,
        study: Study,
        scheduler: Scheduler,
        checkpoints: Path,
    ) -> None:
        self.world, self.life, self.durable = world, life, durable
        self.study, self.scheduler, self.checkpoints = study, scheduler, checkpoints
        self.now = 1e9
        self.messages: list[tuple[float, int, int, Died | Result, bool]] = []
        """By time; with the number of the worker that sends it, and whether it means nothing."""
        self.sequence = itertools.count()
        self.worker = [0] * world.scenario.slots
        """How many workers each slot has had before the one it has."""
        self.open: list[deque[set[Replica]]] = [deque() for _ in self.worker]
        """What each has been handed and has not ended, job by job."""
        self.owned: list[tuple[int, ...]] = [() for _ in self.worker]
        """The slots that each one's jobs own, from when it was last handed some."""
        self.courses: list[deque[Course | None]] = [deque() for _ in self.worker]
        """Of each replica that it has been handed and that has not ended, if it saves."""
        self.free_at = [0.0] * len(self.worker)
        self.took: list[list[float]] = [[] for _ in self.worker]
        """The seconds of each one's replicas since one failed."""
        self.waits = 0
        self.ending: set[int] = set()
        """Slots whose worker the driver has ended."""

    def clock(self) -> float:
        """What time it is; somebody may have set the clock since this was last asked."""
        return self.now + self.world.rng.choice((0.0, -3600.0, 3600.0))

    def ticks(self) -> float:
        return self.now

    def start(self, starts: list[Start]) -> None:
        for start in starts:
            self.life.step()
            self._check(start)
            self.open[start.slot].append(replicas_of(start.job))
            self._run(start)
        self.life.step()

    def _check(self, start: Start) -> None:
        """No core is given twice, and nothing is run again that has ended or runs."""
        took = self.took[start.slot]
        hasty = len(took) >= STREAK and average(took) < SHORT_SECONDS
        must(not self.open[start.slot] or hasty, f"slot {start.slot} is given twice")
        spare = self.study.is_spare(start.job)
        must(self.world.scenario.spare or not spare, f"nobody asked for {start.job}")
        slots = (start.slot, *start.others)
        must(len(slots) == min(start.job.width, len(self.worker)), f"{slots} are not its cores")
        if not self.open[start.slot]:
            self.owned[start.slot] = slots
        must(self.owned[start.slot] == slots, f"handed ahead to {slots}")
        for slot, jobs in enumerate(self.open):
            shared = set(slots) & set(self.owned[slot]) if jobs and slot != start.slot else ()
            must(not shared, f"slots {shared} are given twice")
        for replica in replicas_of(start.job):
            twice = any(replica in job for jobs in self.open for job in jobs)
            must(not twice, f"{replica} runs twice at once")
            must(not self.durable.has(replica), f"{replica} is run again although it has ended")

    def _run(self, start: Start) -> None:
        """Put what comes of the job among the messages to come."""
        job, slot, world = start.job, start.slot, self.world
        now = max(self.now, self.free_at[slot])
        params = params_in(job.payload["params"])
        for number in job.numbers:
            seconds = world.rng.choice(world.scenario.seconds)
            fate = world.scenario.fate(params, job.stage, number)
            self._add_course(slot, job, number, params, math.inf if fate == "hangs" else seconds)
            if fate == "hangs":
                now = math.inf
                break
            chance = world.chance(job, number) if fate == "ends" else None
            if fate == "kills" or chance in (CRASH, GONE):
                self._send(now + seconds * world.rng.random(), Died(slot, chance or CRASH))
                now = math.inf
                break
            outcome = Outcome(job.point, job.stage, number, now, now + seconds)
            now += seconds
            failure = {"raises": BOOM, "no memory": NO_MEMORY}.get(fate, chance)
            self._send(now, Result(slot, self._filled(outcome, params, failure)))
        self.free_at[slot] = now

    def _add_course(
        self, slot: int, job: Job, number: int, params: tuple[int], seconds: float
    ) -> None:
        """How a trial that saves goes; it begins at once if the worker does nothing else."""
        course, segment = None, self.world.scenario.segment
        if segment and is_trial(job.stage):
            where = (self.checkpoints, self.world.books)
            course = Course(job, number, params, segment, *where, seconds=seconds)
        self.courses[slot].append(course)
        if course is not None and len(self.courses[slot]) == 1:
            course.begin(self.now)

    def _end_course(self, slot: int, outcome: Outcome) -> Outcome:
        """A replica has ended: with what it came to, if it saves; the next one begins."""
        courses = self.courses[slot]
        course = courses.popleft()
        if course is not None:
            if outcome.failure is None:
                outcome = dataclasses.replace(outcome, metrics=course.end())
            else:
                course.fail()
        if courses and courses[0] is not None:
            courses[0].begin(self.now)
        return outcome

    def _lose_courses(self, slot: int) -> None:
        """The worker is gone."""
        if self.courses[slot] and (course := self.courses[slot][0]) is not None:
            course.stop(self.now)
        self.courses[slot].clear()

    def die(self) -> None:
        """All workers end, since their driver has."""
        for slot in range(len(self.worker)):
            self._lose_courses(slot)

    @staticmethod
    def _filled(outcome: Outcome, params: tuple[int], failure: Failure | None) -> Outcome:
        if failure is not None:
            return dataclasses.replace(outcome, failure=failure)
        if is_trial(outcome.stage):
            found = metrics_of(params, outcome.number, outcome.stage)
            return dataclasses.replace(outcome, metrics=found)
        perf = draw(params, outcome.stage, outcome.number, "perf")
        return dataclasses.replace(outcome, arrays=perf_arrays(perf))

    def _send(self, when: float, message: Died | Result, *, stranger: bool = False) -> None:
        worker = self.worker[message.slot]
        heapq.heappush(self.messages, (when, next(self.sequence), worker, message, stranger))

    def stop(self, slot: int) -> None:
        self.life.step()
        self.ending.add(slot)
        self._send(self.now, Died(slot, CRASH))

    def wait(self, timeout: float | None, _interrupts: object) -> list[Died | Result]:
        self.life.step()
        self.waits += 1
        must(self.waits < 20_000, "the driver waits for ever")
        if timeout is None and self.scheduler.queued:
            for slot, job in self.scheduler.running.items():
                spare = slot not in self.ending and self.study.is_spare(job)
                must(not spare, f"{job} runs, and something that was asked for waits")
        while self.messages and self.messages[0][2] != self.worker[self.messages[0][3].slot]:
            heapq.heappop(self.messages)  # the worker died before it would have sent this
        until = math.inf if timeout is None else self.now + timeout
        when = self.messages[0][0] if self.messages else math.inf
        must(min(when, until) < math.inf, "the driver waits for what will never come")
        if when > until:
            self.now = until
            return []
        self.now = max(self.now, when)
        found: list[Died | Result] = []
        while self.messages and self.messages[0][0] <= self.now:
            _, _, worker, message, stranger = heapq.heappop(self.messages)
            if worker == self.worker[message.slot]:
                found += [message] if stranger else self._arrived(message)
        self.life.step()
        return found

    def _arrived(self, message: Died | Result) -> list[Died | Result]:
        slot, rng = message.slot, self.world.rng
        if isinstance(message, Died):
            self.worker[slot] += 1
            self.ending.discard(slot)
            self.open[slot].clear()
            self._lose_courses(slot)
            self.free_at[slot] = self.now
            self.took[slot].clear()
            return [message]
        outcome = self._end_course(slot, message.outcome)
        message = Result(slot, outcome)
        job = self.open[slot][0]
        job.remove((outcome.point, outcome.stage, outcome.number))
        if not job:
            self.open[slot].popleft()
        failed = outcome.failure is not None
        if failed:
            self.took[slot].clear()
        else:
            self.took[slot].append(outcome.ended - outcome.started)
        if failed or rng.random() >= self.world.scenario.strangers:
            return [message]
        self._send(self.now + rng.choice((0.0, 0.5, 3.0)), message, stranger=True)
        other = rng.randrange(len(self.worker))
        found = [message, message, Result(rng.randrange(len(self.worker)), outcome)]
        return found if self.open[other] else [*found, *self._arrived(Died(other, CRASH))]


# -- what must hold -------------------------------------------------------------------------------


OF_POINT = "point = (SELECT id FROM points WHERE signature = ?)"


class Durable:
    """What another process sees in the folder: nothing but what was committed."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    def close(self) -> None:
        self.connection.close()

    def one(self, query: str, *values: str | int) -> int:
        return self.connection.execute(query, values).fetchone()[0]

    def has(self, replica: Replica) -> bool:
        where = f"WHERE {OF_POINT} AND stage = ? AND number = ?"
        return self.one(f"SELECT count(*) FROM outcomes {where}", *replica) > 0

    def ended(self, signature: str, stage: str) -> int:
        """How many replicas of a point and stage have not failed."""
        where = f"WHERE {OF_POINT} AND stage = ? AND failure IS NULL"
        return self.one(f"SELECT count(*) FROM outcomes {where}", signature, stage)

    def failed(self, signature: str) -> int:
        """How many trials of a point have failed, or were lost at all."""
        where = f"WHERE {OF_POINT} AND stage LIKE 'trial%'"
        failed = f"SELECT count(*) FROM outcomes {where} AND failure NOT NULL"
        lost = f"SELECT DISTINCT stage, json_extract(value, '$.numbers[0]') FROM events {where}"
        lost = f"SELECT count(*) FROM ({lost} AND kind = 'lost')"
        return self.one(failed, signature) + self.one(lost, signature)


class Watched(ParamSelector):
    """A selector that is told only what is durable, and over which its driver may die."""

    def __init__(self, inner: Gambler | Listed, life: Life, durable: Durable) -> None:
        self.inner, self.life, self.durable = inner, life, durable
        self.adaptive, self.look_ahead = inner.adaptive, inner.look_ahead
        self.ended: Counter[tuple[str, str]] = Counter()
        """By signature and stage: how many trials it was told of."""
        self.failed: Counter[str] = Counter()
        """By signature: how many failures of trials."""

    def on_begin(self, tunings):
        self.inner.on_begin(tunings)

    def get_next_trials(self):
        self.life.step()
        return self.inner.get_next_trials()

    def has_more_trials(self):
        return self.inner.has_more_trials()

    def on_hparams_found(self, params, *values):
        self.life.step()
        probes = self.durable.ended(point_of(params).signature, "batch_range")
        must(probes == 2, f"{params} was told as tuned by {probes} durable probes of 2")
        self.inner.on_hparams_found(params, *values)

    def on_results(self, result):
        self.life.step()
        params = result.params
        key = point_of(params).signature, trial_stage(result.budget)
        self.ended[key] += len(result.numbers)
        durable, told = self.durable.ended(*key), self.ended[key]
        must(told <= durable, f"{params}: {told} trials told, {durable} durable")
        self.inner.on_results(result)

    def on_failed(self, params, stage, error):
        self.life.step()
        if stage == TRIAL:  # with any budget
            signature = point_of(params).signature
            self.failed[signature] += 1
            durable, told = self.durable.failed(signature), self.failed[signature]
            must(told <= durable, f"{params}: {told} failures told, {durable} durable")
        self.inner.on_failed(params, stage, error)


@dataclass
class End:
    """What a sweep came to."""

    results: tuple[str, str]
    history: list[object] = field(repr=False)
    """What an adaptive selector asked and was told."""
    log: tuple[object, ...] = field(repr=False)


def check_end(store: Store, study: Study, scenario: Scenario) -> None:
    """What must hold of a folder when the sweep is over."""
    progress = study.progress()
    must(study.finished, "it ended before it was finished")
    must(progress.trials_done == progress.trials_asked, f"not every trial counted once: {progress}")
    asked = {(one.id, one.stage): one.end for one in asked_trials(store)}
    rows = store.connection.execute(
        "SELECT point, stage, number FROM outcomes WHERE stage LIKE 'trial%'"
    )
    numbers: dict[tuple[int, str], set[int]] = defaultdict(set)
    for point_id, stage, number in rows.fetchall():
        key = point_id, stage
        numbers[key].add(number)
        must(scenario.spare or number < asked[key], "a trial that nobody asked for")
    total = 0
    for key, found in numbers.items():
        own = {number for number in found if number < asked[key]}
        must(own == set(range(len(own))), "a trial is missing")
        total += len(own)
    must(total >= progress.trials_done, f"{total} durable trials, {progress.trials_done} counted")
    repeated = store.connection.execute(
        "SELECT point, after FROM decisions WHERE after != '' GROUP BY point, after "
        "HAVING count(*) > 1"
    ).fetchall()
    must(not repeated, f"stages ended twice: {repeated}")
    begun = store.connection.execute(
        "SELECT point, stage, json_extract(value, '$.numbers[0]'), count(*) FROM events "
        "WHERE kind = 'lost' AND stage != 'check' "
        "AND json_extract(value, '$.cause.kind') NOT IN ('stopped', 'disk') GROUP BY 1, 2, 3"
    )
    for *replica, tries in begun:
        must(tries <= scenario.limits.max_tries, f"{replica} was tried {tries} times")


def check_checkpoints(paths: Paths) -> None:
    """Of each trial the end of its largest budget is left, and nothing else."""
    left = checkpoint_files(paths)
    parts = [path.name for path in left if path.suffix == PART]
    must(not parts, f"checkpoints of trials that have ended are left: {parts}")
    of_trial = Counter((path.parent, path.name.partition("@")[0]) for path in left)
    several = [key for key, count in of_trial.items() if count > 1]
    must(not several, f"ends of smaller budgets are left: {several}")


def check_spares(store: Store) -> None:
    """What must hold of spare trials: they follow what was asked, and come to what they would."""
    found = read_results(store)
    for point, numbers in zip(found, found.trial_numbers, strict=True):
        for number, value in zip(numbers, point.perf_val, strict=True):
            expected = metrics_of(point.params, int(number))["perf_val"]
            must(value == expected, f"trial {number} of {point.params} is {value}")
        failed = {one.number for one in found.failures if one.params == point.params}
        ended = failed - {None} | set(numbers.tolist())
        must(ended == set(range(len(ended))), f"{ended} of {point.params} is no row")


# -- a sweep --------------------------------------------------------------------------------------


class ActsFirst(Store):
    """The deliberate bug: a batch is written when the next one comes, and acted upon at once."""

    held: tuple[object, ...] = ()

    def append(self, records):
        held, self.held = self.held, tuple(records)
        super().append(held)


def sweep(scenario: Scenario, world: World, folder: Path, *, bug: bool = False) -> End:
    """Drivers one after the other until one comes to the end, and what it came to."""
    ends = [*scenario.lives, *[""] * MOST_LIVES]
    for end in ends:
        life = Life(end, world.rng)
        found, how = run(scenario, world, folder, life, bug=bug)
        world.trace.append(f"driver {how} after {life.steps} steps, {life.writes} writes")
        if found is not None:
            return found
    raise Violation(f"not at its end after {MOST_LIVES} drivers")


def run(
    scenario: Scenario, world: World, folder: Path, life: Life, *, bug: bool
) -> tuple[End | None, str]:
    """One driver: what it came to, if it came to the end, and how it ended."""
    path = Paths(folder).database
    connections: list[sqlite3.Connection] = []
    mortal = mortal_connection(life)

    def connect(*arguments, **options):
        connections.append(sqlite3.connect(*arguments, factory=mortal, **options))
        return connections[-1]

    durable = None
    try:
        store = (ActsFirst if bug else Store).open(path, connect)
        durable = Durable(path)
        return drive_to_end(scenario, world, life, store, durable, Paths(folder))
    except Killed:
        return None, "was killed"
    except DiskError as error:
        return None, f"could not write ({error.__cause__})"
    finally:
        if durable is not None:
            durable.close()
        for connection in connections:
            connection.close()


def drive_to_end(
    scenario: Scenario, world: World, life: Life, store: Store, durable: Durable, paths: Paths
) -> tuple[End | None, str]:
    """As `sweeper.engine.engine` does it."""
    selector = Watched(scenario.selector(), life, durable)
    name, limits, slots = scenario.adaptive, scenario.limits, scenario.slots
    study = Study(
        selector,
        scenario.planner(),
        scenario.point,
        most_cores=4,
        slots=slots,
        recorded=store.recorded(name, log=selector.adaptive),
        limits=limits,
        spare_trials=scenario.spare,
    )
    store.begin(study.begin(), name, keep_log=selector.adaptive)
    scheduler = Scheduler(slots, per_job=scenario.per_job, timeout=limits.trial_timeout)
    workers = Workers(world, life, durable, study, scheduler, paths.checkpoints)

    def tidy(outcomes):
        life.step()
        remove_checkpoints(paths, outcomes)

    loop = (study, scheduler, workers, life, store, make_view(progress=False))
    try:
        interrupted = drive(*loop, workers.clock, workers.ticks, tidy)
    except StoppedError as error:
        return None, f"stopped: {error}"
    finally:
        workers.die()
        store.append(())
        tidy(store.outcomes(arrays=False))
    if interrupted:
        return None, "was interrupted"
    study.check_stalled()
    check_end(store, study, scenario)
    check_checkpoints(paths)
    history = selector.inner.history if selector.adaptive else []
    log = store.log(name) if selector.adaptive else ()
    if scenario.spare:
        check_spares(store)
    return End(asked_results_in(store), history, log), "came to the end"


def simulate(seed: int, *, bug: bool = False) -> list[str]:
    """One seed; what happened, in lines.

    Raises:
        Violation: a promise was broken; its notes say what happened.
    """
    rng = random.Random(seed)
    scenario = Scenario.of(rng)
    world = World(scenario, rng)
    world.trace.append(repr(scenario))
    try:
        with folder_in_memory() as folder:
            found = sweep(scenario, world, folder, bug=bug)
        world.trace.append(f"{world.books.resumed} tries went on from what a trial had saved")
        expected = quiet_end(scenario.undisturbed)
        for name in ("results", "history", "log"):
            one, other = getattr(found, name), getattr(expected, name)
            must(one == other, f"{name} differ from those of a quiet sweep:\n{one}\n{other}")
    except Exception as error:
        violation = error if isinstance(error, Violation) else Violation(repr(error))
        violation.add_note("\n".join(world.trace))
        raise violation from error
    return world.trace


@functools.cache
def quiet_end(scenario: Scenario) -> End:
    """What a sweep to which nothing happens comes to."""
    with folder_in_memory() as folder:
        return sweep(scenario, World(scenario, random.Random(0)), folder)


@contextlib.contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder that costs no disk's time, where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


# -- many seeds -----------------------------------------------------------------------------------


def violation_of(seed: int, bug: bool) -> str | None:
    """What one seed found."""
    try:
        simulate(seed, bug=bug)
    except Violation as violation:
        return str(violation)
    return None


def simulate_many(
    seeds: range, *, bug: bool = False, processes: int | None = None
) -> dict[int, str]:
    """By seed what was found, on all cores."""
    workers = processes or len(os.sched_getaffinity(0))
    # What is compared with the same quiet sweep goes to the same process.
    grouped = sorted(seeds, key=lambda seed: repr(scenario_of(seed).undisturbed))
    context = multiprocessing.get_context("forkserver")
    if __name__ != "__main__":
        context.set_forkserver_preload([__name__])  # imported once, for all calls
    with ProcessPoolExecutor(workers, context) as pool:
        found = pool.map(violation_of, grouped, itertools.repeat(bug), chunksize=25)
        by_seed = dict(zip(grouped, found, strict=True))
    return {seed: by_seed[seed] for seed in seeds if by_seed[seed] is not None}


def scenario_of(seed: int) -> Scenario:
    return Scenario.of(random.Random(seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="replay this one and say what happens")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--bug", action="store_true", help="act before anything is durable")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        try:
            lines = simulate(arguments.seed, bug=arguments.bug)
        except Violation:
            traceback.print_exc()
            return 1
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    began = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    found = simulate_many(seeds, bug=arguments.bug)
    for seed, what in found.items():
        flag = " --bug" if arguments.bug else ""
        again = f"python -m tests.simulate --seed {seed}{flag}"
        sys.stdout.write(f"seed {seed}: {what[:300]}\n    {again}\n")
    seconds = time.monotonic() - began
    sys.stdout.write(f"{len(seeds)} seeds in {seconds:.0f} s, {len(found)} violations\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
