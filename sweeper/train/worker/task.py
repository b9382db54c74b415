"""A job as the training code sees it, with its payload read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeper.records import Job, budget_of, file_suffix
from sweeper.train.tuning.own import Own
from sweeper.train.tuning.stages import Stage, read
from sweeper.train.tuning.trials import NO_MODE, ExecutionMode, Trials


@dataclass(frozen=True, slots=True)
class ParentTask:
    """The trial that a task's trials begin from."""

    job: Job
    """Trains it."""
    first: int
    """The number of the first trial of its lineage, whose split of the data all have."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> ParentTask:
        """Read what a payload has under `parent`."""
        job = Job(0, told["point"], "trial", told["stage"], (told["number"],), told["payload"])
        return cls(job, told["first"])


@dataclass(frozen=True, slots=True)
class Task:
    """Replicas of one point and stage."""

    point: str
    """The point's signature."""
    stage: str
    """The stage's name with its attempt."""
    numbers: tuple[int, ...]
    told: Stage
    params: str
    """The point's parameters, encoded."""
    point_id: int
    """The point's number in file names."""
    own: Own
    """What the point has of its own."""
    mode: ExecutionMode = NO_MODE
    """How these replicas are trained."""
    parent: ParentTask | None = None
    """What its trials begin from; None: from nothing."""
    options: Mapping[str, float] = field(default_factory=dict)
    """Options of the optimizer that tuning has set for these replicas."""

    @property
    def suffix(self) -> str:
        """What names of files of its trials end with: `"@3"` for a budget of 3, else empty."""
        return file_suffix(self.stage)

    def split_of(self, number: int) -> int:
        """The number of the trial whose split of the data a trial has: its own, or its parents'.

        With another one it would be judged by samples that its parents were trained on.
        """
        return number if self.parent is None else self.parent.first

    @classmethod
    def read(cls, job: Job) -> Task:
        """Read a job's payload: the stage's settings, the parameters and the id.

        Raises:
            KeyError: a key is missing from the payload.
        """
        told, mode = read(job.stage, job.payload), NO_MODE
        if isinstance(told, Trials):
            budget, mode = budget_of(job.stage), told.first.mode
            told = told if budget is None else told.with_budget(budget)
        params, point_id = job.payload["params"], job.payload["id"]
        own = Own.read(job.payload)
        parent = ParentTask.read(job.payload["parent"]) if "parent" in job.payload else None
        return cls(job.point, job.stage, job.numbers, told, params, point_id, own, mode, parent)
