"""Which job runs in which slot: events in, starts out.

Pure: no clock, no process, no file.  A backend does what `starts` says and reports; `react` turns
its reports into events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sortedcontainers import SortedSet

from sweeper.run.queue import Queue
from sweeper.types import (
    Died,
    Event,
    Finished,
    Job,
    Lost,
    Message,
    Outcome,
    Result,
    Start,
    Work,
)


class Scheduler:
    """Fills slots from the queue, and knows what runs where.

    Args:
        slots: how many jobs may run at once; they are numbered from 0.
        width: the cores of a slot.
        per_job: the most replicas that a job gets; no result depends on it.
    """

    def __init__(self, slots: int, width: int = 1, per_job: int = 1) -> None:
        self._queue = Queue(slots, width, per_job)
        self._idle = SortedSet(range(slots))
        self._running: dict[int, Job] = {}
        self._open: dict[int, set[int]] = {}
        """For each running job's slot, its numbers without outcome."""

    @property
    def running(self) -> Mapping[int, Job]:
        """The job in each busy slot: a live view, not to be kept over a call."""
        return MappingProxyType(self._running)

    @property
    def idle_slots(self) -> int:
        """How many slots run nothing."""
        return len(self._idle)

    @property
    def queued(self) -> int:
        """Replicas that wait for a slot."""
        return len(self._queue)

    def add(self, works: Iterable[Work]) -> None:
        """Takes in what the study released, in order."""
        for work in works:
            self._queue.add(work)

    def starts(self) -> list[Start]:
        """What to start now, lowest slot first; the slots count as busy from here on."""
        started: list[Start] = []
        while self._idle:
            job = self._queue.pop(len(self._idle))
            if job is None:
                break
            slot: int = self._idle.pop(0)
            self._running[slot] = job
            self._open[slot] = set(job.numbers)
            started.append(Start(job, slot))
        return started

    def react(self, messages: Iterable[Message], now: float) -> list[Event]:
        """The events that a backend's messages mean, all at `now` (seconds since the epoch).

        A result that belongs to no running replica of its slot is ignored, and so is the death of
        an idle worker.
        """
        events: list[Event] = []
        for message in messages:
            match message:
                case Result(slot, outcome) if self._is_open(slot, outcome):
                    events.append(Finished(now, outcome))
                    self._open[slot].remove(outcome.number)
                    if not self._open[slot]:
                        self._free(slot)
                case Died(slot, cause) if slot in self._running:
                    job = self._running[slot]
                    numbers = tuple(n for n in job.numbers if n in self._open[slot])
                    events.append(Lost(now, job, numbers, cause))
                    self._free(slot)
        return events

    def _is_open(self, slot: int, outcome: Outcome) -> bool:
        job = self._running.get(slot)
        return (
            job is not None
            and (job.point, job.stage) == (outcome.point, outcome.stage)
            and outcome.number in self._open[slot]
        )

    def _free(self, slot: int) -> None:
        del self._open[slot]
        self._queue.ended(self._running.pop(slot))
        self._idle.add(slot)
