"""A job as the training code sees it, with its payload read."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.records import Job, budget_of
from sweeper.train.tuning.own import Own
from sweeper.train.tuning.stages import Stage, read
from sweeper.train.tuning.trials import NO_MODE, ExecutionMode, Trials


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

    @property
    def suffix(self) -> str:
        """What names of files of its trials end with: `"@3"` for a budget of 3, else empty."""
        budget = budget_of(self.stage)
        return "" if budget is None else f"@{budget}"

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
        return cls(job.point, job.stage, job.numbers, told, params, point_id, own, mode)
