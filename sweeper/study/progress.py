"""Progress of a sweep, updated with each event, so that reading it is cheap."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from sweeper.pace import seconds_left
from sweeper.records import (
    RETRYABLE,
    Best,
    Failure,
    Job,
    Outcome,
    Params,
    Point,
    Progress,
    Started,
    budget_of,
    generation_of,
    is_trial,
    lineage_of,
)
from sweeper.study.measures import Measures
from sweeper.summary import show_job


class Tracker:
    """Counts points by phase and trials, and estimates the time that is left."""

    def __init__(self, slots: int, measures: Measures, slot_width: int = 1) -> None:
        self._slots = slots
        self._slot_width = slot_width
        self._measures = measures
        self._phases = dict.fromkeys(("waiting", "tuning", "training", "done", "failed"), 0)
        self._trials_asked = self._trials_done = self._trials_failed = 0
        self._left: Counter[int] = Counter()
        """By the width of their points: the trials that have not ended."""
        self._running = Running()
        self._ranking = Ranking()
        self._trial_seconds = 0.0
        self._trials_ended = 0
        """Trials of this run; `_trials_done` includes those stored before."""
        self._tuning_seconds = 0.0

    @property
    def unfinished(self) -> int:
        """Number of points that are neither done nor failed."""
        return self.untuned + self._phases["training"]

    @property
    def untuned(self) -> int:
        """Number of points whose tuning has not ended."""
        return self._phases["waiting"] + self._phases["tuning"]

    @property
    def trials_done(self) -> int:
        """Number of asked trials that have ended."""
        return self._trials_done

    @property
    def points_ended(self) -> int:
        """Number of points that are done or failed."""
        return self._phases["done"] + self._phases["failed"]

    def start(self, started: Started, point: Point) -> None:
        """Note that a job of the point has started."""
        self._running.start(started, point.params)

    def end(self, outcome: Outcome) -> None:
        """Note that a replica has ended."""
        self._running.end(outcome.point, outcome.stage, (outcome.number,))
        seconds = outcome.ended - outcome.started
        if is_trial(outcome.stage):
            self._trial_seconds += seconds
            self._trials_ended += 1
        else:
            self._tuning_seconds += seconds

    def lose(self, job: Job, numbers: Sequence[int], cause: Failure) -> None:
        """Note that replicas `numbers` of a job were lost."""
        if cause.kind not in RETRYABLE:
            # Jobs handed ahead to the worker are started anew.
            self._running.clear_slot(job.point, job.stage, numbers[0])
        self._running.end(job.point, job.stage, numbers)

    def add_point(self) -> None:
        """Note that a point was asked for, and waits."""
        self._phases["waiting"] += 1

    def move_point(self, before: str, after: str) -> None:
        """Move a point from one phase to another."""
        self._phases[before] -= 1
        self._phases[after] += 1

    def ask(self, point: Point, trials: int) -> None:
        """Add to the number of trials of `point` to train; negative: subtract."""
        self._trials_asked += trials
        self._left[point.width] += trials

    def complete(
        self, point: Point, stage: str, ended: Sequence[tuple[float, ...] | Failure]
    ) -> None:
        """Note that asked trials of `point` of this stage have ended."""
        measured = [values for values in ended if not isinstance(values, Failure)]
        self._trials_done += len(ended)
        self._left[point.width] -= len(ended)
        self._trials_failed += len(ended) - len(measured)
        merits = self._measures.merits(measured)
        if merits:
            self._ranking.count(point, stage, merits)

    def progress(self) -> Progress:
        """The progress so far, as a record for display."""
        return Progress(
            **self._phases,
            trials_done=self._trials_done,
            trials_failed=self._trials_failed,
            trials_asked=self._trials_asked,
            running=self._running.shown(),
            slots=self._slots,
            best=self._best(),
            seconds_left=self._seconds_left(),
        )

    def _best(self) -> Best | None:
        found = self._ranking.best()
        if found is None or found.mean == -math.inf:  # no trial of the point measured it
            return None
        return replace(found, mean=self._measures.value(found.mean))

    def _seconds_left(self) -> float | None:
        return seconds_left(
            slots_left=sum(
                trials * min(self._slots, -(-width // self._slot_width))
                for width, trials in self._left.items()
            ),
            trials_ended=self._trials_ended,
            trial_seconds=self._trial_seconds,
            untuned=self.untuned,
            tuned=self._phases["training"] + self._phases["done"] + self._phases["failed"],
            tuning_seconds=self._tuning_seconds,
            slots=self._slots,
        )


class Running:
    """The job that each busy slot runs."""

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[Started, Params]] = {}
        """By slot: the job that has started, and the parameters of its point."""
        self._slot_of: dict[tuple[str, str, int], int] = {}
        """By point, stage and number."""

    def start(self, started: Started, params: Params) -> None:
        """Note that a job has started."""
        job, slot = started.job, started.slot
        self._jobs[slot] = (started, params)
        self._slot_of |= {(job.point, job.stage, n): slot for n in job.numbers}

    def end(self, point: str, stage: str, numbers: Sequence[int]) -> None:
        """Note that replicas have ended; with a job's last one its slot becomes free."""
        for number in numbers:
            slot = self._slot_of.pop((point, stage, number), None)
            if slot is None or slot not in self._jobs:
                continue
            job = self._jobs[slot][0].job
            if (job.point, job.stage) == (point, stage) and number == job.numbers[-1]:
                del self._jobs[slot]

    def clear_slot(self, point: str, stage: str, number: int) -> None:
        """Note that the worker of this replica has died."""
        self._jobs.pop(self._slot_of.get((point, stage, number), -1), None)

    def shown(self) -> tuple[tuple[int, str, float], ...]:
        """For each busy slot, in order: its number, what it does, and since when."""
        found = []
        for slot, (started, params) in self._jobs.items():
            job, since = started.job, started.time
            found.append((slot, show_job(params, job.stage, job.numbers), since))
            found += [(other, f"with worker {slot}", since) for other in started.others]
        return tuple(sorted(found))


@lru_cache(maxsize=256)
def _length_of(stage: str) -> tuple[int, int]:
    """The generation of a stage's trials, and their budget, 0 for none."""
    return generation_of(lineage_of(stage)), budget_of(stage) or 0


class Ranking:
    """Ranks points by their mean merit, among trials of the largest budget.

    Of those that begin from others, the last generation is ranked.
    """

    def __init__(self) -> None:
        self._length = (0, 0)
        """The generation of the trials that are ranked, and their budget, 0 for none."""
        self._means: dict[str, tuple[float, int, Params]] = {}
        """By signature: the mean, its number of trials, and the parameters."""
        self._heap: list[tuple[float, int, str]] = []
        """Minus a point's mean, its number of trials at the time, and its signature."""
        self._unranked: dict[str, None] = {}
        """Points with more trials since they were pushed."""

    def count(self, point: Point, stage: str, merits: Sequence[float]) -> None:
        """Note the merits of trials (see `Measures.merits`)."""
        length = _length_of(stage)
        if length != self._length:
            if self._means and length < self._length:
                return  # trials of another length cannot be compared with these
            self._length = length
            self._means, self._heap, self._unranked = {}, [], {}
        signature = point.signature
        mean, n, params = self._means.get(signature, (0.0, 0, point.params))
        mean = (mean * n + sum(merits)) / (n + len(merits))
        n += len(merits)
        self._means[signature] = (mean, n, params)
        self._unranked[signature] = None

    def best(self) -> Best | None:
        """The best point; None while no trial has ended."""
        self._push()
        while self._heap:
            _, trials, signature = self._heap[0]
            mean, n, params = self._means[signature]
            if n == trials:
                return Best(params, mean, n)
            heapq.heappop(self._heap)  # outdated: the point has more trials since
        return None

    def _push(self) -> None:
        """Push points with more trials; rebuild the heap if most of it is outdated."""
        if len(self._heap) + len(self._unranked) > 1000 + 2 * len(self._means):
            self._heap, self._unranked = [], dict.fromkeys(self._means)
        for signature in self._unranked:
            mean, n, _ = self._means[signature]
            heapq.heappush(self._heap, (-mean, n, signature))
        self._unranked.clear()
