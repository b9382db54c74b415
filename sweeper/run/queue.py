"""The greedy priority queue: which work starts next, and how it is cut into jobs.

Tuning goes before trials, since it unlocks them; but the number of points tuned ahead of their
trials is limited, so that results come early.  Within each kind the longest remaining path in time
goes first, so that the sweep does not end with one core on a long trial.  While durations are not
known, tuning goes in the order of asking, and trials by the number of replicas left.  Pure: no
clock, no process, no file.  Every operation is logarithmic in the number of points.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedDict

from sweeper.records import Job, Work
from sweeper.run.roots import Roots


@dataclass(slots=True)
class _Rest:
    """A work, and the index of its first number that is still queued (numbers are not copied)."""

    work: Work
    begin: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    """The queued work of one point and kind."""

    rests: deque[_Rest] = field(default_factory=deque)
    queued: int = 0
    """Queued replicas."""
    running: int = 0
    """Jobs."""
    path: float | None = None
    """Seconds of the longest path from the start of a queued replica to the end of its point, from
    the most recent estimate."""
    shelf: Any = None
    """The sorted mapping in which `pop` finds this lane; None while none of it may start."""
    key: tuple[Any, ...] = ()
    root: str = ""
    """The root under which this lane is also filed; empty: none."""

    def add(self, work: Work) -> None:
        if not self.rests:
            self.path = None
        if work.numbers:
            self.rests.append(_Rest(work))
            self.queued += len(work.numbers)
        if work.expected is not None:
            self.path = work.expected + (work.after or 0.0)

    def cut(self, most: int) -> tuple[Work, tuple[int, ...]]:
        """Take at most `most` of the next numbers out of the queue."""
        rest = self.rests[0]
        numbers = rest.work.numbers[rest.begin : rest.begin + most]
        rest.begin += len(numbers)
        if rest.begin == len(rest.work.numbers):
            self.rests.popleft()
        self.queued -= len(numbers)
        self.running += 1
        return rest.work, numbers

    def may_start(self, width: int) -> bool:
        """Whether one more job stays within the cores that the work may own."""
        if not self.rests:
            return False
        most_cores = self.rests[0].work.most_cores
        return most_cores is None or self.running < max(1, most_cores // width)

    @property
    def urgency(self) -> float:
        """Sort key: the longest path first; an unknown one before all, since it may be long."""
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
    """Its tuning is over; its trials are queued, or are about to be."""

    @property
    def forgettable(self) -> bool:
        lanes = (self.tuning, self.trials)
        return not (self.ahead or any(lane.queued or lane.running for lane in lanes))


class Queue:
    """Work that waits for cores.

    Args:
        slots: how many jobs may run at once.
        width: the cores of a job.
        per_job: maximum number of replicas per job, for work without a maximum of its own; no
            result depends on it.
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
        self._roots = Roots()
        self._queued = 0
        self._next_id = 0

    def __len__(self) -> int:
        """The number of queued replicas."""
        return self._queued

    @property
    def shares(self) -> bool:
        """Whether work waits that has a root."""
        return bool(self._roots)

    def add(self, work: Work) -> None:
        """Queue the work's replicas behind those of the same point and kind.

        Work of kind `"trial"` ends the point's tuning, even without numbers.
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

    def pop(self, free_slots: int = 1, root: str = "", others: Collection[str] = ()) -> Job | None:
        """The job to start now in a free slot; None if nothing may start.

        With several free slots the job gets at most its share of the queued replicas of its point
        and kind, so that no slot stays free while another slot's job has several.

        Args:
            free_slots: how many slots are free.
            root: the root that the slot's worker holds; empty: none.
            others: the roots that other workers hold.
        """
        if self._begun:
            shelf, kind = self._begun, "tuning"
        elif self._fresh and self._ahead < self._most_ahead:
            shelf, kind = self._fresh, "tuning"
        elif self._trials:
            shelf, kind = self._trials, "trial"
        else:
            return None
        key, point = shelf.peekitem(0)
        if kind == "trial":
            point = self._roots.choose(root, others, key) or point
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
            root=work.root,
        )
        self._next_id += 1
        return job

    def ended(self, job: Job) -> None:
        """Note that a job is over, or its worker lost: it owns no cores any more.

        Call it once for each job that `pop` returned.
        """
        point = self._points[job.point]
        lane = point.tuning if job.kind == "tuning" else point.trials
        lane.running -= 1
        self._file(point)

    def _file(self, point: _Point) -> None:
        """Put the point where `pop` finds it; called after every change to the point."""
        if point.tuned and not point.trials.queued:
            # Back to the initial state: tuning that is added later begins anew.
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
        self._file_by_root(point, lane, shelf, key)
        lane.shelf, lane.key = shelf, key

    def _file_by_root(self, point: _Point, lane: _Lane, shelf: Any, key: tuple[Any, ...]) -> None:
        """As `_shelve`, for trials that share a root with other points' trials."""
        if lane.root and lane.shelf is not None:
            self._roots.remove(lane.root, lane.key)
        lane.root = lane.rests[0].work.root if shelf is self._trials else ""
        if lane.root:
            self._roots.add(lane.root, key, point)
