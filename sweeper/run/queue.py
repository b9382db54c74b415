"""The greedy priority queue: which work starts next, and how it is cut into jobs.

Tuning goes before trials, since it unlocks them; but the number of points tuned ahead of their
trials is limited, so that results come early.  Within each kind the longest remaining path in time
goes first, so that the sweep does not end with one core on a long trial.  While durations are not
known, tuning goes in the order of asking, and trials by the number of replicas left.

Jobs may take several slots.  Within a kind the widest that fits goes first, and narrower ones fill
the slots beside it; but a path as long as all that is queued takes on all slots goes before.  When
others have overtaken the jobs of one width too often, these come next, and free slots are kept
until one fits.

Pure: no clock, no process, no file.  Every operation is logarithmic in the number of points.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedDict

from sweeper.records import Job, Kind, Work
from sweeper.run.roots import Roots

OVERTAKEN = 4
"""So many jobs for each slot may start before one of another width that has waited, too; then slots
are kept free until that fits.  Keeping them costs time: a wide job waits for several to end."""


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
    seconds: float | None = None
    """Seconds of a queued replica, from the most recent estimate."""
    load: float = 0.0
    """Slots times seconds of all queued replicas, as far as known."""
    shelf: _Shelf | None = None
    """Where `pop` finds this lane; None while none of it may start."""
    taken: int = 1
    """How many slots a job takes: its place on the shelf."""
    key: tuple[Any, ...] = ()
    """Its place among those that take as many."""
    root: str = ""
    """The root under which this lane is also filed; empty: none."""

    def add(self, work: Work) -> None:
        if not self.rests:
            self.path = self.seconds = None
        if work.numbers:
            self.rests.append(_Rest(work))
            self.queued += len(work.numbers)
        if work.expected is not None:
            self.seconds = work.expected
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

    @property
    def urgency(self) -> float:
        """Sort key: the longest path first; an unknown one before all, since it may be long."""
        return -math.inf if self.path is None else -self.path


class _Shelf:
    """The points of one kind of work that may start, by how many slots a job takes."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.rows: dict[int, Any] = {}
        """By slots: a sorted mapping, the most urgent first; none is empty."""
        self.overtaken: dict[int, int] = {}
        """By slots: how many other jobs have started since one of these has, or could have."""

    def put(self, taken: int, key: tuple[Any, ...], point: _Point) -> None:
        if taken not in self.rows:
            self.rows[taken], self.overtaken[taken] = SortedDict(), 0
        self.rows[taken][key] = point

    def remove(self, taken: int, key: tuple[Any, ...]) -> None:
        del self.rows[taken][key]
        if not self.rows[taken]:
            del self.rows[taken], self.overtaken[taken]

    def first(self, taken: int) -> _Point:
        """The most urgent point whose jobs take so many slots."""
        point: _Point = self.rows[taken].peekitem(0)[1]
        return point

    def next(self, free: int, critical: float) -> int:
        """How many slots the next job takes that fits into `free` ones; 0: none fits.

        It is the longest path, if that takes `critical` seconds or more, else the widest.
        """
        fitting = [taken for taken in self.rows if taken <= free]
        if len(fitting) < 2:
            return fitting[0] if fitting else 0
        paths = {taken: -self.rows[taken].peekitem(0)[0][0] for taken in fitting}
        known = {taken: path for taken, path in paths.items() if critical <= path < math.inf}
        return max(known or fitting, key=lambda taken: (known.get(taken, 0.0), taken))


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
        tuning, trials = self.tuning, self.trials
        waits = tuning.queued or tuning.running or trials.queued or trials.running
        return not (self.ahead or waits)


class Queue:
    """Work that waits for slots.

    Args:
        slots: how many there are: so many jobs may run at once, or fewer that take several.
        width: the cores of a slot.
        per_job: maximum number of replicas per job, for work without a maximum of its own; no
            result depends on it.
    """

    def __init__(self, slots: int, width: int = 1, per_job: int = 1) -> None:
        self._slots = slots
        self._width = width
        self._per_job = per_job
        self._most_ahead = max(4, 2 * slots)
        self._ahead = 0
        self._points: dict[str, _Point] = {}
        self._begun = _Shelf("tuning")
        self._fresh = _Shelf("tuning")
        self._trials = _Shelf("trial")
        self._roots = Roots()
        self._queued = 0
        self._load = 0.0
        """The sum of all lanes' loads."""
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

    def taken_by(self, job: Job | Work) -> int:
        """How many slots a job takes: enough for its cores, if there are as many."""
        return min(self._slots, -(-job.width // self._width))

    def pop(
        self,
        free_slots: int = 1,
        only: int | None = None,
        idle: Collection[str] = (),
        busy: Collection[str] = (),
        most: int = 1,
    ) -> Job | None:
        """The job to start now in free slots; None if nothing may start, or nothing fits.

        With several free slots the job gets at most its share of the queued replicas of its point
        and kind, so that no slot stays free while another slot's job has several.

        Args:
            free_slots: how many slots are free.
            only: a job that takes so many slots, whatever else waits; None: any.
            idle: the roots that the workers hold which may take it.
            busy: the roots that other workers hold.
            most: maximum number of trials of a job without a maximum of its own, if more than 1:
                the caller's share of all that is queued, so the point's is not divided further.
        """
        shelves = self._shelves()
        found = self._choose(shelves, free_slots, only)
        if found is None:
            return None
        shelf, taken = found
        point = shelf.first(taken)
        if shelf is self._trials and self._roots:
            top = shelf.rows[taken].peekitem(0)[0]
            point = self._roots.choose(taken, idle, busy, top) or point
        lane = point.tuning if shelf.kind == "tuning" else point.trials
        together = lane.rests[0].work.together
        if shelf is self._trials and most > 1 and together is None:
            work, numbers = lane.cut(max(most, self._per_job))
        else:
            share = math.ceil(lane.queued / max(1, free_slots // taken))
            work, numbers = lane.cut(min(share, together or self._per_job))
        _overtake(shelves, shelf, taken)
        if shelf.kind == "tuning" and not point.ahead:
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
            width=work.width,
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

    def _shelves(self) -> list[_Shelf]:
        """Where something may start, the most urgent kind first."""
        found = [self._begun] if self._begun.rows else []
        if self._fresh.rows and self._ahead < self._most_ahead:
            found.append(self._fresh)
        if self._trials.rows:
            found.append(self._trials)
        return found

    def _choose(
        self, shelves: Sequence[_Shelf], free: int, only: int | None
    ) -> tuple[_Shelf, int] | None:
        """The shelf of the next job, and how many slots the job takes."""
        if len(shelves) == 1 and len(shelves[0].rows) == 1:  # almost always: nothing to choose
            (taken,) = shelves[0].rows
            return (shelves[0], taken) if taken <= free and only in (None, taken) else None
        for shelf in shelves:
            for taken, overtaken in shelf.overtaken.items():
                if overtaken >= OVERTAKEN * self._slots:
                    fits = taken <= free and only in (None, taken)
                    return (shelf, taken) if fits else None
        for shelf in shelves:
            if only in shelf.rows:
                return shelf, only
            taken = 0 if only else shelf.next(free, self._load / self._slots)
            if taken:
                return shelf, taken
        return None

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

    def _shelve(self, point: _Point, lane: _Lane, wanted: _Shelf, key: tuple[Any, ...]) -> None:
        if not (lane.rests or lane.shelf or lane.load):
            return
        taken = self.taken_by(lane.rests[0].work) if lane.rests else 1
        load = lane.queued * taken * (lane.seconds or 0.0)
        self._load += load - lane.load
        lane.load = load
        shelf = wanted if self._may_start(lane, taken) else None
        if (lane.shelf, lane.taken, lane.key) == (shelf, taken, key):
            return
        if lane.shelf is not None:
            lane.shelf.remove(lane.taken, lane.key)
        if shelf is not None:
            shelf.put(taken, key, point)
        root = lane.rests[0].work.root if shelf is self._trials else ""
        if root or lane.root:
            self._file_by_root(point, lane, root, taken, key)
        lane.shelf, lane.taken, lane.key = shelf, taken, key

    def _file_by_root(
        self,
        point: _Point,
        lane: _Lane,
        root: str,
        taken: int,
        key: tuple[Any, ...],
    ) -> None:
        """As `_shelve`, for trials that share a root with other points' trials."""
        if lane.root:
            self._roots.remove(lane.taken, lane.root, lane.key)
        lane.root = root
        if root:
            self._roots.add(taken, root, key, point)

    def _may_start(self, lane: _Lane, taken: int) -> bool:
        """Whether one more job of the lane stays within the cores that its work may own."""
        if not lane.rests:
            return False
        most_cores = lane.rests[0].work.most_cores
        return most_cores is None or lane.running < max(1, most_cores // (taken * self._width))


def _overtake(shelves: Sequence[_Shelf], started: _Shelf, by: int) -> None:
    """Note that a job starts that takes `by` slots, and which others it overtakes."""
    for shelf in shelves:
        for taken in shelf.overtaken:
            shelf.overtaken[taken] += 1
        if shelf is started:
            break
    if by in started.overtaken:
        started.overtaken[by] = 0
