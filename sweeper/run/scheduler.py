"""Decides which job runs in which slot: events in, starts out.

Pure: no clock, no process, no file.  A backend carries out `starts` and reports; `react` turns its
reports into events.

A worker with very short replicas is handed jobs ahead, so that it need not ask for each.  They are
at most a hundredth of a second of work, which is the longest that newly released work waits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sortedcontainers import SortedSet

from sweeper.records import (
    RETRYABLE,
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
from sweeper.run.machine.cores import choose
from sweeper.run.machine.dealing import DevicePool
from sweeper.run.queue import Queue

SHORT_SECONDS = 0.005
"""Seconds; a replica that takes less is short."""

STREAK = 8
"""After this many replicas, short on average, the next are expected to be short."""

MEMORY = 16
"""The average is over about so many replicas: where a machine is busy with other work, one of a few
is held up for many times as long as it takes, and a few short ones make up for that."""

HANDED_SECONDS = 0.01
HANDED_REPLICAS = 256
"""Maximum seconds of work handed ahead: about as long as a disk takes for a commit."""


@dataclass(slots=True, eq=False)
class _Worker:
    """The jobs that a slot's worker has been handed."""

    jobs: deque[Job] = field(default_factory=deque)
    """In order of execution: the first one runs."""
    root: str = ""
    """The root of the last job that it was handed."""
    open: set[int] = field(default_factory=set)
    """The numbers of the first job that have no outcome yet."""
    replicas: int = 0
    """Replicas of all the jobs that have no outcome yet."""
    seen: int = 0
    """How many replicas have ended in it since one failed."""
    seconds: float = 0.0
    """What they take on average, the last ones weighted most."""
    due: float = math.inf
    """When the first job exceeds its time."""
    stopped: Job | None = None
    """The job that exceeded its time, for which the worker is being ended."""
    withdrawn: bool = False
    """Whether the worker is being ended since others are to run in its place."""

    def take(self, job: Job) -> None:
        if not self.jobs:
            self.open = set(job.numbers)
        self.jobs.append(job)
        self.root = job.root or self.root
        self.replicas += len(job.numbers)

    def drop(self) -> Job:
        """Remove the first job, which is over."""
        job = self.jobs.popleft()
        self.replicas -= len(self.open)
        self.open = set(self.jobs[0].numbers) if self.jobs else set()
        return job

    def see(self, outcome: Outcome) -> None:
        """Note that a replica of the first job has ended, and how long it took."""
        self.open.remove(outcome.number)
        self.replicas -= 1
        if outcome.failure is not None:
            self.seen, self.seconds = 0, 0.0
            return
        self.seen += 1
        seconds = outcome.ended - outcome.started
        self.seconds += (seconds - self.seconds) / min(self.seen, MEMORY)

    @property
    def room(self) -> int:
        """How many more replicas it may be handed ahead."""
        expected = max(self.seconds, self.jobs[-1].expected or 0.0)
        if self.seen < STREAK or expected >= SHORT_SECONDS:
            return 0
        most = min(HANDED_REPLICAS, HANDED_SECONDS / max(self.seconds, 1e-9))
        return int(most) - self.replicas


class Scheduler:
    """Fills slots from the queue, and tracks which job runs where.

    It has many methods since what is queued, handed and running changes together: half of them are
    what `dispatch` and the study ask, the others are each one step of a decision.

    Args:
        slots: how many jobs may run at once; they are numbered from 0.  A job with more cores than
            a slot takes several, and runs in the worker of the first.
        width: the cores of a slot.
        per_job: maximum number of replicas per job; no result depends on it.
        timeout: the seconds that a job may take per replica.  Replicas may be trained together, so
            the limit applies to the job as a whole.
        packages: the package of each slot; empty: all are of one.
        devices: deals out devices to jobs; None: jobs have none.
    """

    def __init__(
        self,
        slots: int,
        width: int = 1,
        per_job: int = 1,
        timeout: float | None = None,
        packages: Sequence[int] = (),
        devices: DevicePool | None = None,
    ) -> None:
        self._queue = Queue(slots, width, per_job)
        self._width = width
        self._timeout = timeout
        self._due = SortedSet()
        """When the first job of each busy slot exceeds its time, with the slot."""
        self._new: set[int] = set()
        """Busy slots whose first job has just begun."""
        self._workers = [_Worker() for _ in range(slots)]
        self._idle = SortedSet(range(slots))
        self._packages = packages
        self._devices = devices
        self._owned: dict[int, Start] = {}
        """For each busy slot: the start since which it is busy, with all that its jobs own."""
        self._running: dict[int, Job] = {}
        self._hasty: set[int] = set()
        """Busy slots that may have room for jobs ahead."""
        self._returned: deque[Job] = deque()
        """Jobs handed ahead to a worker that died before it began them."""

    @property
    def running(self) -> Mapping[int, Job]:
        """The job in each busy slot: a live view, not to be kept across calls."""
        return MappingProxyType(self._running)

    @property
    def idle_slots(self) -> int:
        """How many slots run nothing."""
        return len(self._idle)

    @property
    def idle_cores(self) -> int:
        """The cores of these slots."""
        return len(self._idle) * self._width

    @property
    def may_start(self) -> bool:
        """Whether a job could start now, if one waited."""
        return bool(self._idle) and (self._devices is None or self._devices.may_take)

    @property
    def queued(self) -> int:
        """The number of replicas that wait for a slot."""
        return len(self._queue) + sum(len(job.numbers) for job in self._returned)

    def add(self, works: Iterable[Work]) -> None:
        """Queue the works that the study released, in order."""
        for work in works:
            self._queue.add(work)

    def starts(self) -> list[Start]:
        """Jobs to hand to workers now, idle slots first; the slots count as busy from now on."""
        started: list[Start] = []
        while self.may_start:
            job = self._next(len(self._idle))
            if job is None:
                break
            start = self._own(job)
            self._running[start.slot] = job
            self._hasty.add(start.slot)
            self._new.add(start.slot)
            self._workers[start.slot].take(job)
            started.append(start)
        for slot in sorted(self._hasty):
            started += self._hand_ahead(slot)
        if not self._idle:
            self._hasty.clear()
        return started

    def begun(self, ticks: float) -> None:
        """Note that the first jobs handed over since the last call have begun.

        `ticks` are seconds of a monotonic clock: neither setting the time of day nor suspending
        the machine makes a job late.
        """
        if self._timeout is not None:
            for slot in self._new:
                worker = self._workers[slot]
                worker.due = ticks + self._timeout * len(worker.jobs[0].numbers)
                self._due.add((worker.due, slot))
        self._new.clear()

    @property
    def due(self) -> float:
        """When, in ticks, `overdue` next returns a slot; infinity: never."""
        return float(self._due[0][0]) if self._due else math.inf

    def overdue(self, ticks: float) -> list[int]:
        """The slots whose job exceeds its time: end their workers.  Each is returned once."""
        slots = [slot for due, slot in self._due.irange(maximum=(ticks, len(self._workers)))]
        for slot in slots:
            worker = self._workers[slot]
            self._due.discard((worker.due, slot))
            worker.due, worker.stopped = math.inf, worker.jobs[0]
        return slots

    def withdraw(self, unwanted: Callable[[Job], bool]) -> list[int]:
        """The slots whose job is unwanted: end their workers.  Each is returned once."""
        slots = [
            slot
            for slot, job in self._running.items()
            if not self._workers[slot].withdrawn and unwanted(job)
        ]
        for slot in slots:
            self._workers[slot].withdrawn = True
        return slots

    def _next(
        self, free_slots: int, only: int | None = None, slot: int | None = None, most: int = 1
    ) -> Job | None:
        """The next job that fits; `only` one that takes so many slots, for the worker of `slot`."""
        if not self._returned:
            if not self._queue.shares:
                return self._queue.pop(free_slots, only, most=most)
            idle, busy = self._roots(self._idle if slot is None else (slot,))
            return self._queue.pop(free_slots, only, idle, busy, most)
        taken = self._queue.taken_by(self._returned[0])
        if taken > free_slots or only not in (None, taken):
            return None  # its slots have just become free, so it soon fits
        return self._returned.popleft()

    def _roots(self, mine: Collection[int]) -> tuple[set[str], set[str]]:
        """The roots that the workers of these slots hold, and those that only others hold."""
        own = {self._workers[slot].root for slot in mine} - {""}
        return own, {worker.root for worker in self._workers} - own - {""}

    def _own(self, job: Job) -> Start:
        """Start a job in idle slots, which it owns from now on, with its devices."""
        slot, *others = self._slots_for(job)
        for each in (slot, *others):
            self._idle.remove(each)
        devices = () if self._devices is None else self._devices.take(slot)
        self._owned[slot] = Start(job, slot, tuple(others), devices)
        return self._owned[slot]

    def _slots_for(self, job: Job) -> Sequence[int]:
        """The idle slots that a job takes: if that is one, the one whose worker holds its root."""
        taken = self._queue.taken_by(job)
        if job.root and taken == 1:
            for slot in self._idle:
                if self._workers[slot].root == job.root:
                    return (slot,)
        return choose(self._idle, taken, self._packages)

    def _hand_ahead(self, slot: int) -> list[Start]:
        worker, owned = self._workers[slot], self._owned[slot]
        taken = 1 + len(owned.others)
        started: list[Start] = []
        # At the end of a sweep each worker gets its share.
        share = self.queued // len(self._workers)
        # Handing over several trials at once, in one job if they can be, costs no more than one.
        if min(worker.room, share) < worker.replicas:
            return started
        while (room := min(worker.room, share)) > 0:
            # A time limit holds for a job as a whole, so it needs jobs of one trial.
            most = room if self._timeout is None else 1
            job = self._next(len(self._workers), taken, slot, most)
            if job is None:
                break
            worker.take(job)
            started.append(Start(job, slot, owned.others, owned.devices))
            share -= len(job.numbers)
        return started

    def react(self, messages: Iterable[Message], now: float) -> list[Event]:
        """Turn a backend's messages into events, all at `now` (seconds since the epoch).

        A result of no running replica of its slot is ignored, and so is the death of an idle
        worker.
        """
        events: list[Event] = []
        for message in messages:
            match message:
                case Result(slot, outcome) if self._is_open(slot, outcome):
                    worker = self._workers[slot]
                    worker.see(outcome)
                    self._hasty.add(slot)
                    failure = outcome.failure
                    if failure is not None and failure.kind in RETRYABLE:
                        events.append(Lost(now, worker.jobs[0], (outcome.number,), failure))
                    else:
                        events.append(Finished(now, outcome))
                    if not worker.open:
                        self._queue.ended(worker.drop())
                        self._go_on(slot)
                case Died(slot, cause) if slot in self._running:
                    worker = self._workers[slot]
                    job = worker.jobs[0]
                    numbers = tuple(n for n in job.numbers if n in worker.open)
                    events.append(Lost(now, job, numbers, self._cause(worker, cause)))
                    self._queue.ended(worker.drop())
                    self._returned += worker.jobs
                    self._renew(slot)
                    self._go_on(slot)
                case Died(slot):  # it was idle; its cores may be those of another slot's job
                    self._renew(slot)
        return events

    def _cause(self, worker: _Worker, cause: Failure) -> Failure:
        """Why the worker's first job has ended with it."""
        if worker.withdrawn:
            return replace(cause, kind="stopped", message="ended to make room for other trials")
        if worker.stopped is None:
            return cause
        if worker.stopped is not worker.jobs[0]:  # that job had ended meanwhile
            return replace(cause, kind="stopped", message="the job before exceeded its time")
        if len(worker.open) > 1:
            message = "stopped: exceeded its time together with others: each goes on alone"
            return replace(cause, kind="stopped", message=message)
        message = f"stopped: exceeded its time (trial_timeout={self._timeout:g})"
        detail = cause.detail.partition("; ")[2] or cause.detail
        return Failure("timeout", message, detail)

    def _renew(self, slot: int) -> None:
        """Start with a fresh record for the slot's next worker."""
        self._forget_due(slot)
        self._workers[slot] = _Worker()

    def _forget_due(self, slot: int) -> None:
        worker = self._workers[slot]
        self._due.discard((worker.due, slot))
        worker.due = math.inf

    def _is_open(self, slot: int, outcome: Outcome) -> bool:
        job = self._running.get(slot)
        return (
            job is not None
            and (job.point, job.stage) == (outcome.point, outcome.stage)
            and outcome.number in self._workers[slot].open
        )

    def _go_on(self, slot: int) -> None:
        """Move the slot on to its worker's next job, or to idle."""
        self._forget_due(slot)
        jobs = self._workers[slot].jobs
        if jobs:
            self._running[slot] = jobs[0]
            self._hasty.add(slot)
            self._new.add(slot)
        else:
            self._new.discard(slot)
            del self._running[slot]
            owned = self._owned.pop(slot)
            for each in (slot, *owned.others):
                self._idle.add(each)
            if self._devices is not None:
                self._devices.give_back(owned.devices)
            self._hasty.discard(slot)
