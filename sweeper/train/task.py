"""A job as the code that trains sees it: what its replicas are told, read once."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.records import Job
from sweeper.train.tuning.stages import Stage, read
from sweeper.train.tuning.trials import NO_MODE, ExecutionMode, Trials


@dataclass(frozen=True, slots=True)
class Task:
    """Some replicas of one point and stage."""

    point: str
    """The point's signature."""
    stage: str
    """The stage's name with its attempt."""
    numbers: tuple[int, ...]
    told: Stage
    params: str
    """The point's parameters, encoded."""
    point_id: int
    """The number under which the point's files are."""
    mode: ExecutionMode = NO_MODE
    """How these replicas are trained."""

    @classmethod
    def read(cls, job: Job) -> Task:
        """From the job, whose payload holds what the stage stored, the parameters and the id.

        Raises:
            KeyError: something is missing from the payload.
        """
        told = read(job.stage, job.payload)
        mode = told.first.mode if isinstance(told, Trials) else NO_MODE
        params, point_id = job.payload["params"], job.payload["id"]
        return cls(job.point, job.stage, job.numbers, told, params, point_id, mode)
