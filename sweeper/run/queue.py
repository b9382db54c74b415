"""The greedy priority queue: what starts next, and how work is cut into jobs.

What unlocks most goes first: tuning before trials, but only so many points ahead of their trials
that results come early.  Among each, the longest remaining path in time goes first, so that the
sweep does not end with one core at a long trial; where durations are not known yet, the order of
asking for tuning, most replicas left for trials.  Pure: no clock, no process, no file.  Every
operation takes time logarithmic in the number of points.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedDict

from sweeper.records import Job, Work


@dataclass(slots=True)
class _Rest:
    """A work and where its numbers that are still queued begin (they are not copied)."""

    work: Work
    begin: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """What is queued of one point and kind."""

    rests: deque[_Rest] = field(default_factory=deque)
    queued: int = 0
    """Replicas."""
    running: int = 0
    """Jobs."""
    path: float | None = None
    """Seconds along the longest path through a replica of what is queued to the end of its point:
    the newest that is known, being the best informed."""
    shelf: Any = None
    """The sorted mapping where `pop` finds this lane; None while nothing of it may start."""
    key: tuple[Any, ...] = ()

    def add(self, work: Work) -> None:
        if not self.rests:
            self.path = None
        if work.numbers:
            self.rests.append(_Rest(work))
            self.queued += len(work.numbers)
        if work.expected is not None:
            self.path = work.expected + (work.after or 0.0)

    def cut(self, most: int) -> tuple[Work, tuple[int, ...]]:
        """Takes the next numbers, at most so many, out of the queue."""
        rest = self.rests[0]
        numbers = rest.work.numbers[rest.begin : rest.begin + most]
        rest.begin += len(numbers)
        if rest.begin == len(rest.work.numbers):
            self.rests.popleft()
        self.queued -= len(numbers)
        self.running += 1
        return rest.work, numbers

    def may_start(self, width: int) -> bool:
        """Whether a job more keeps within the cores that the work may own."""
        if not self.rests:
            return False
        most_cores = self.rests[0].work.most_cores
        return most_cores is None or self.running < max(1, most_cores // width)

    @property
    def urgency(self) -> float:
        """Sorts the longest path first, and one that is not known before all: it may be long."""
        return -math.inf if self.path is None else -self.path


@dataclass(slots=True, eq=False)
class _Point:
    signature: str
    order: int
    tuning: _Lane = field(default_factory=_Lane)
    trials: _Lane = field(default_factory=_Lane)
    ahead: bool = False
    """Its tuning has begun and its trials have not all been started."""
    tuned: bool = False
    """Its tuning is over; its trials are those queued, or about to be."""

    @property
    def forgettable(self) -> bool:
        lanes = (self.tuning, self.trials)
        return not (self.ahead or any(lane.queued or lane.running for lane in lanes))


class Queue:
    """Work that waits for cores.

    Args:
        slots: how many jobs may run at once.
        width: the cores of a job.
        per_job: the most replicas that a job gets whose work does not say it; no result depends
            on it.
    """

    def __init__(self, slots: int, width: int = 1, per_job: int = 1) -> None:
        self._width = width
        self._per_job = per_job
        self._most_ahead = max(4, 2 * slots)
        self._ahead = 0
        self._points: dict[str, _Point] = {}
        self._begun = SortedDict()
        self._fresh = SortedDict()
        self._trials = SortedDict()
        self._queued = 0
        self._next_id = 0

    def __len__(self) -> int:
        """Queued replicas."""
        return self._queued

    def add(self, work: Work) -> None:
        """Queues the work's replicas behind what is queued of its point and kind.

        Work of kind `"trial"` ends the point's tuning, also where it has no numbers.
        """
        point = self._points.get(work.point)
        if point is None:
            point = self._points[work.point] = _Point(work.point, work.order)
        if work.kind == "tuning":
            point.tuning.add(work)
        else:
            point.trials.add(work)
            point.tuned = True
        self._queued += len(work.numbers)
        self._file(point)

    def pop(self, free_slots: int = 1) -> Job | None:
        """The job to start now in a free slot; None where nothing may start.

        With several free slots the job gets no more than its share of what is queued of its point
        and kind, so that no slot stays free while another's job has several replicas.
        """
        if self._begun:
            shelf, kind = self._begun, "tuning"
        elif self._fresh and self._ahead < self._most_ahead:
            shelf, kind = self._fresh, "tuning"
        elif self._trials:
            shelf, kind = self._trials, "trial"
        else:
            return None
        point: _Point = shelf.peekitem(0)[1]
        lane = point.tuning if kind == "tuning" else point.trials
        share = math.ceil(lane.queued / free_slots)
        together = lane.rests[0].work.together or self._per_job
        work, numbers = lane.cut(min(share, together))
        if kind == "tuning" and not point.ahead:
            point.ahead = True
            self._ahead += 1
        self._queued -= len(numbers)
        self._file(point)
        job = Job(
            id=self._next_id,
            point=work.point,
            kind=work.kind,
            stage=work.stage,
            numbers=numbers,
            payload=work.payload,
            expected=work.expected,
        )
        self._next_id += 1
        return job

    def ended(self, job: Job) -> None:
        """The job is over, or its worker is lost: it owns no cores any more.

        To be called once for each job that `pop` gave.
        """
        point = self._points[job.point]
        lane = point.tuning if job.kind == "tuning" else point.trials
        lane.running -= 1
        self._file(point)

    def _file(self, point: _Point) -> None:
        """Puts the point where `pop` looks for it; called after every change to the point."""
        if point.tuned and not point.trials.queued:
            # Back to where it came from: tuning that is added later would begin anew.
            point.tuned = False
            if point.ahead:
                point.ahead = False
                self._ahead -= 1
        tuning, trials, place = point.tuning, point.trials, (point.order, point.signature)
        self._shelve(
            point, tuning, self._begun if point.ahead else self._fresh, (tuning.urgency, *place)
        )
        left = -trials.queued if trials.path is None else 0
        self._shelve(point, trials, self._trials, (trials.urgency, left, *place))
        if point.forgettable:
            del self._points[point.signature]

    def _shelve(self, point: _Point, lane: _Lane, shelf: Any, key: tuple[Any, ...]) -> None:
        if not lane.may_start(self._width):
            shelf = None
        if lane.shelf is shelf and lane.key == key:
            return
        if lane.shelf is not None:
            del lane.shelf[lane.key]
        if shelf is not None:
            shelf[key] = point
        lane.shelf, lane.key = shelf, key
