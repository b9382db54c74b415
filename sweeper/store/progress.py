"""How far a sweep has come, what runs now among it, from its folder alone."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sweeper.disk.locking import Holder
from sweeper.pace import seconds_left
from sweeper.records import Best, FolderProgress
from sweeper.results import SweepResult
from sweeper.store.database.rows import read_params
from sweeper.store.database.store import Store
from sweeper.store.identity import OF_EACH_POINT
from sweeper.store.results.asked import asked_trials
from sweeper.store.status import Ended, count_phases, read_ended
from sweeper.summary import show_job


def _slots_per_trial(store: Store) -> float:
    """The mean number of slots that a job has taken; 1 where all points have the same width."""
    settings = store.meta.get("identity", {}).get("settings", {})
    if settings.get("cores_per_trial") != OF_EACH_POINT:
        return 1.0
    query = (
        "SELECT avg(1 + coalesce(json_array_length(value, '$.others'), 0)) FROM events "
        "WHERE kind = 'started'"
    )
    (found,) = store.connection.execute(query).fetchone()
    return float(found or 1.0)


Running = tuple[tuple[int, str, float], ...]
"""As `Progress.running`."""


def read_progress(
    store: Store,
    results: SweepResult,
    state: Literal["running", "resting", "finished"],
    driver: Holder | None,
    now: float,
) -> FolderProgress:
    """How far the sweep in `store` has come; `results` were read from it.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    with store.understood():
        run = _last_run(store)
        running = _read_running(store, run) if state == "running" else ()
    asked = asked_trials(store)
    ended = read_ended(store, asked)
    phases = count_phases(asked, store.last_steps(), ended)
    trials = sum(point.trials for point in asked)
    last = max((last for _, last in ended.times), default=None)
    return FolderProgress(
        **phases,
        trials_done=ended.trials.total(),
        trials_failed=ended.failed,
        trials_asked=trials,
        running=running,
        slots=run.slots,
        best=_best(results),
        seconds_left=seconds_left(
            slots_left=(trials - ended.trials.total()) * _slots_per_trial(store),
            trials_ended=len(ended.trial_ends),
            trial_seconds=ended.trial_seconds,
            untuned=phases["waiting"] + phases["tuning"],
            tuned=phases["training"] + phases["done"] + phases["failed"],
            tuning_seconds=ended.tuning_seconds,
            slots=max(1, run.slots),
        ),
        folder=str(store.path.parent),
        workload=str(store.meta.get("identity", {}).get("problem", "")),
        state=state,
        driver=None if driver is None else str(driver),
        seen=now,
        last=last,
        trials_per_hour=_pace(ended, run.began, now if state == "running" else last),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """The last time that the folder was opened by a driver."""

    event: int
    """The number of the event."""
    began: float
    slots: int


def _last_run(store: Store) -> _Run:
    query = "SELECT seq, time, value FROM events WHERE kind = 'opened' ORDER BY seq DESC LIMIT 1"
    row = store.connection.execute(query).fetchone()
    if row is None:
        return _Run(0, math.inf, 0)
    return _Run(row[0], float(row[1]), len(json.loads(row[2])["slots"]))


def _read_running(store: Store, run: _Run) -> Running:
    """For each busy slot: its number, what it does, and since when.

    A slot runs its jobs in order, so the running one is the first that has not ended.  Events are
    read backwards, until each slot has shown a job that ended.
    """
    found: dict[int, tuple[str, float]] = {}
    beside: dict[int, tuple[str, float]] = {}
    """The further slots of these jobs."""
    idle: set[int] = set()
    for slot, job in _jobs_backwards(store, run):
        if slot in idle:
            continue
        if job.is_over(store):
            idle.add(slot)
            if len(idle) == run.slots:
                break
        else:
            found[slot] = (job.shown(store), job.since)
            beside |= dict.fromkeys(job.others, (f"with worker {slot}", job.since))
    busy = beside | found
    return tuple((slot, *busy[slot]) for slot in sorted(busy))


@dataclass(frozen=True, slots=True)
class _Job:
    """A job that was handed to a worker."""

    point: int
    stage: str
    numbers: tuple[int, ...]
    """Without those that were lost."""
    since: float
    others: tuple[int, ...] = ()
    """Further slots that it takes."""

    def is_over(self, store: Store) -> bool:
        """Whether all its replicas have outcomes."""
        query = "SELECT 1 FROM outcomes WHERE point = ? AND stage = ? AND number = ?"
        return all(
            store.connection.execute(query, (self.point, self.stage, number)).fetchone()
            for number in self.numbers
        )

    def shown(self, store: Store) -> str:
        """What it does, for people."""
        query = "SELECT params FROM points WHERE id = ?"
        (encoded,) = store.connection.execute(query, (self.point,)).fetchone()
        return show_job(read_params(encoded), self.stage, self.numbers)


def _jobs_backwards(store: Store, run: _Run) -> Iterator[tuple[int, _Job]]:
    """The jobs of a run with their slots, the last first."""
    query = (
        "SELECT kind, time, point, stage, value FROM events "
        "WHERE seq > ? AND kind IN ('started', 'lost') ORDER BY seq DESC"
    )
    lost: dict[Any, set[int]] = defaultdict(set)
    for kind, time, point, stage, value in store.connection.execute(query, (run.event,)):
        told = json.loads(value)
        if kind == "lost":
            lost[told["job"]].update(told["numbers"])
        else:
            numbers = tuple(n for n in told["numbers"] if n not in lost[told["job"]])
            others = tuple(map(int, told.get("others", ())))
            yield int(told["slot"]), _Job(point, stage, numbers, float(time), others)


def _pace(ended: Ended, began: float, until: float | None) -> float | None:
    """Trials an hour of the run that began then."""
    count = sum(end >= began for end in ended.trial_ends)
    if not count or until is None or until <= began:
        return None
    return count / (until - began) * 3600


def _best(results: SweepResult) -> Best | None:
    comparable = results.comparable()
    judged = results.judged
    if judged is None or not any(map(len, comparable.trial_numbers)):
        return None
    best = comparable.best()
    place = next(place for place, point in enumerate(comparable) if point is best)
    values = comparable.values(judged.name)[place]
    finite = values[np.isfinite(values)]
    return Best(best.params, float(finite.mean()), len(values)) if len(finite) else None
