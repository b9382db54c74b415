"""The thin layer between the scheduler, which decides, and a backend, which acts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from sweeper.records import Event, Finished, Interrupted, Message, Started, Tick, Work
from sweeper.run.backends import Backend
from sweeper.run.scheduler import Scheduler
from sweeper.run.signals import Interrupts

COMMIT_AFTER = 0.02
"""Seconds that an event waits at most for others to be made durable with it."""

COMMIT_AT = 100
"""So many outcomes are made durable without waiting for more."""

LOOK_OUTSIDE = 1.0
"""Seconds between looks where points may come from outside."""


class Source(Protocol):
    """What releases work: the study."""

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""

    @property
    def waiting_outside(self) -> bool:
        """Points may come from elsewhere, at any time."""

    def release(self) -> Iterable[Work]:
        """What has come up since the last call."""


def dispatch(
    source: Source,
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    clock: Callable[[], float],
    ticks: Callable[[], float] = time.monotonic,
) -> Iterator[list[Event]]:
    """Keep the slots busy; yields batches of events, which the caller makes durable and tells.

    `clock` says what time it is, for people; `ticks` how much has passed, whoever sets the clock.
    Work follows from outcomes only after the caller has taken their batch.  Ends when the source
    has finished, when nothing runs and nothing can start (the caller can tell the two apart), or,
    after an `Interrupted`, at once.
    """
    batch: list[Event] = []
    while True:
        if interrupts.signal is not None:
            messages = backend.wait(0, interrupts)
            batch += scheduler.react(messages, clock())
            yield [*batch, Interrupted(clock(), interrupts.signal)]
            return
        scheduler.add(source.release())
        batch += _start(scheduler, backend, interrupts, clock(), ticks)
        idle = not scheduler.running
        if idle and not batch and (source.finished or not source.waiting_outside):
            return
        deadline = ticks() + COMMIT_AFTER
        finished = 0
        while not (idle and batch) and finished < COMMIT_AT:
            patience = max(0.0, deadline - ticks()) if batch else None
            if not batch and source.waiting_outside:
                patience = LOOK_OUTSIDE
            messages = _wait(scheduler, backend, interrupts, ticks, patience)
            if not batch:
                deadline = ticks() + COMMIT_AFTER
            reacted = scheduler.react(messages, clock())
            batch += reacted
            batch += _start(scheduler, backend, interrupts, clock(), ticks)
            ended = sum(isinstance(event, Finished) for event in reacted)
            finished += ended
            # A worker would idle, and what to do next may follow from this batch.
            starving = scheduler.idle_slots > 0 and ended > 0
            if starving or not messages:
                break
        yield batch or [Tick(clock())]
        batch = []


def _start(
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    now: float,
    ticks: Callable[[], float],
) -> list[Event]:
    if interrupts.signal is not None:  # nothing new starts
        return []
    starts = scheduler.starts()
    if starts:
        backend.start(starts)
    scheduler.begun(ticks())  # after a worker was made, which takes a while that is not the job's
    return [Started(now, start.job, start.slot) for start in starts]


def _wait(
    scheduler: Scheduler,
    backend: Backend,
    interrupts: Interrupts,
    ticks: Callable[[], float],
    patience: float | None,
) -> list[Message]:
    """What the backend reports; a job over its time is ended, and reported as a death."""
    if scheduler.due == math.inf:
        return backend.wait(patience, interrupts)
    for slot in scheduler.overdue(ticks()):
        backend.stop(slot)
    until_due = max(0.0, scheduler.due - ticks())
    patience = until_due if patience is None else min(patience, until_due)
    return backend.wait(None if patience == math.inf else patience, interrupts)
