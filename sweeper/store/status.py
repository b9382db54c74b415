"""How far a sweep's folder has come, from its database: whether it runs or not."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sweeper.disk.locking import read_lock
from sweeper.records import CHECK, Outcome, Status, Step, is_trial
from sweeper.store.checkpoints import checkpoint_files
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.asked import AskedTrials, asked_trials

PHASES = ("waiting", "tuning", "training", "done", "failed")
"""The phases of a point, in the order of display."""


def read_status(store: Store, paths: Paths) -> Status:
    """How far the folder at `paths` has come, whose database is `store`.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    asked = asked_trials(store)
    ended = read_ended(store, asked)
    holder = read_lock(paths.lock)
    return Status(
        folder=str(paths.folder),
        identity=store.meta.get("identity", {}),
        phases=count_phases(asked, store.last_steps(), ended),
        trials_done=ended.trials.total(),
        trials_failed=ended.failed,
        trials_asked=sum(point.trials for point in asked),
        driver=None if holder is None else str(holder),
        began=min((began for began, _ in ended.times), default=None),
        last=max((last for _, last in ended.times), default=None),
    )


def checkpoint_size(paths: Paths) -> tuple[int, int]:
    """The number of checkpoints, and their bytes."""
    sizes = []
    for path in checkpoint_files(paths):
        with contextlib.suppress(FileNotFoundError):  # a trial has just ended
            sizes.append(path.lstat().st_size)
    return len(sizes), sum(sizes)


@dataclass(slots=True)
class Ended:
    """The replicas that have ended."""

    trials: Counter[str] = field(default_factory=Counter)
    """By signature: how many of the asked trials have ended."""
    tuned: set[str] = field(default_factory=set)
    """Points of which a probe has ended."""
    failed: int = 0
    """How many of the asked trials have failed."""
    times: list[tuple[float, float]] = field(default_factory=list)
    """When each started and ended."""
    trial_ends: list[float] = field(default_factory=list)
    """When each trial ended."""
    trial_seconds: float = 0.0
    """What these trials took together."""
    tuning_seconds: float = 0.0
    """What all other replicas took together."""

    def add_time(self, outcome: Outcome) -> None:
        """Count what a replica took, if it is known: that of one that was given up is not."""
        if not outcome.ended:
            return
        self.times.append((outcome.started, outcome.ended))
        seconds = outcome.ended - outcome.started
        if is_trial(outcome.stage):
            self.trial_ends.append(outcome.ended)
            self.trial_seconds += seconds
        else:
            self.tuning_seconds += seconds


def read_ended(store: Store, asked: Sequence[AskedTrials]) -> Ended:
    """The replicas that have ended; of trials, those that were asked for."""
    found = Ended()
    counts: Counter[tuple[str, str]] = Counter()
    for one in asked:
        counts[one.signature, one.stage] += one.trials
    for outcome in store.outcomes(arrays=False):
        if is_trial(outcome.stage):
            asked_for = outcome.number < counts[outcome.point, outcome.stage]
            found.trials[outcome.point] += asked_for
            found.failed += asked_for and outcome.failure is not None
        elif outcome.stage != CHECK:
            found.tuned.add(outcome.point)
        found.add_time(outcome)
    return found


def count_phases(
    asked: Iterable[AskedTrials], steps: Mapping[int, Step], ended: Ended
) -> dict[str, int]:
    """How many of the points that were asked for are in each phase."""
    phases = dict.fromkeys(PHASES, 0)
    counts: Counter[tuple[str, int]] = Counter()
    for point in asked:
        counts[point.signature, point.id] += point.trials
    for (signature, point_id), trials in counts.items():
        step = steps.get(point_id, Step(""))
        if step.error is not None:
            phases["failed"] += 1
        elif step.is_tuned:
            enough = ended.trials[signature] >= trials
            phases["done" if enough else "training"] += 1
        else:
            phases["tuning" if signature in ended.tuned else "waiting"] += 1
    return phases
