"""Connects the scheduler, which decides, to a backend, which acts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sweeper.records import Event, Finished, Interrupted, Job, Message, Started, Tick, Work
from sweeper.run.backends import Backend
from sweeper.run.machine.devices import LOOK_AGAIN, DeviceWatch
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler

COMMIT_AFTER = 0.02
"""Maximum seconds that an event waits for others, to be made durable together."""

COMMIT_AT = 100
"""This many outcomes are made durable without waiting for more."""

LOOK_OUTSIDE = 1.0
"""Seconds between asks when points may come from elsewhere."""


class Source(Protocol):
    """What releases work: the study."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""

    @property
    def waiting_outside(self) -> bool:
        """Whether points may come from elsewhere, at any time."""

    def stopped(self, now: float) -> str:
        """Why nothing new may start at this time; empty: it may."""

    def release(self) -> Iterable[Work]:
        """The work released since the last call."""

    def spare(self, idle_cores: int) -> Work | None:
        """A trial that nobody has asked for, to be run now on idle cores; None: there is none."""

    def is_spare(self, job: Job) -> bool:
        """Whether nobody has asked for what this job does, so far."""


def dispatch(
    source: Source,
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    clock: Callable[[], float],
    ticks: Callable[[], float] = time.monotonic,
    devices: DeviceWatch | None = None,
) -> Iterator[list[Event]]:
    """Keep the slots busy; yields batches of events, which the caller stores and tells the study.

    `clock` gives the time of day, for people; `ticks` is monotonic, for durations.  `devices`
    says which may be dealt out, and raises BackendError where none has room for too long.  Work
    that follows from outcomes is released only after the caller has taken their batch.  Ends when
    the source has finished, when nothing runs and nothing can start (the caller can tell the two
    apart), when nothing runs and the source has stopped, or at once after an `Interrupted`.  Spare
    jobs count as nothing here: they run only while nothing waits, are ended when something does,
    and may still run when this ends.
    """
    batch: list[Event] = []
    while True:
        if interrupts.signal is not None:
            messages = backend.wait(0, interrupts)
            batch += scheduler.react(messages, clock())
            yield [*batch, Interrupted(clock(), interrupts.signal)]
            return
        stopped = bool(source.stopped(clock()))
        if not stopped:
            scheduler.add(source.release())
        batch += _start(source, scheduler, backend, interrupts, clock(), ticks, devices)
        batch += _see_to_spares(
            source, scheduler, backend, interrupts, clock(), ticks, stopped=stopped
        )
        idle = _is_idle(source, scheduler, stopped=stopped)
        blocked = devices is not None and devices.waiting
        over = source.finished or stopped or not (source.waiting_outside or blocked)
        if idle and not batch and over:
            return
        deadline = ticks() + COMMIT_AFTER
        finished = 0
        while not (idle and batch) and finished < COMMIT_AT:
            patience = max(0.0, deadline - ticks()) if batch else None
            if not batch and source.waiting_outside:
                patience = LOOK_OUTSIDE
            if devices is not None and devices.waiting:
                patience = LOOK_AGAIN if patience is None else min(patience, LOOK_AGAIN)
            messages = _wait(scheduler, backend, interrupts, ticks, patience)
            if not batch:
                deadline = ticks() + COMMIT_AFTER
            reacted = scheduler.react(messages, clock())
            batch += reacted
            batch += _start(source, scheduler, backend, interrupts, clock(), ticks, devices)
            ended = sum(isinstance(event, Finished) for event in reacted)
            finished += ended
            # A worker would be idle, and its next job may follow from this batch.
            starving = scheduler.idle_slots > 0 and ended > 0
            if starving or not messages:
                break
        yield batch or [Tick(clock())]
        batch = []


def _start(
    source: Source,
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    now: float,
    ticks: Callable[[], float],
    devices: DeviceWatch | None,
) -> list[Event]:
    if interrupts.signal is not None or source.stopped(now):  # nothing new starts
        return []
    if devices is not None:
        devices.look(ticks(), scheduler.queued)
    starts = scheduler.starts()
    if starts:
        backend.start(starts)
    scheduler.begun(ticks())  # after its worker was started, whose time does not count as the job's
    return [Started(now, start.job, start.slot, start.others) for start in starts]


def _see_to_spares(
    source: Source,
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    now: float,
    ticks: Callable[[], float],
    *,
    stopped: bool,
) -> list[Event]:
    """Give idle slots spare jobs; if something that was asked for waits, end those that run.

    Call it only when the source knows of all that has ended: it may release more at once.
    """
    events: list[Event] = []
    if stopped:
        return events
    if scheduler.queued:
        for slot in scheduler.withdraw(source.is_spare):
            backend.stop(slot)
        return events
    while scheduler.may_start and not scheduler.queued:
        work = source.spare(scheduler.idle_cores)
        if work is None:
            break
        scheduler.add([work])
        events += _start(source, scheduler, backend, interrupts, now, ticks, None)
    return events


def _is_idle(source: Source, scheduler: Scheduler, *, stopped: bool) -> bool:
    """Whether nothing runs but spare jobs, and nothing waits for their slots."""
    if not scheduler.running:
        return True
    waits = scheduler.queued and not stopped
    return not waits and all(map(source.is_spare, scheduler.running.values()))


def _wait(
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    ticks: Callable[[], float],
    patience: float | None,
) -> list[Message]:
    """The backend's messages; a job that exceeds its time is stopped and reported as a death."""
    if scheduler.due == math.inf:
        return backend.wait(patience, interrupts)
    for slot in scheduler.overdue(ticks()):
        backend.stop(slot)
    until_due = max(0.0, scheduler.due - ticks())
    patience = until_due if patience is None else min(patience, until_due)
    return backend.wait(None if patience == math.inf else patience, interrupts)
