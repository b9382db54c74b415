"""What a worker looks at when a point begins: whether seeds govern it, and how it behaves."""

from __future__ import annotations

from sweeper.train.problem.behaviour.fingerprint import fingerprint
from sweeper.train.problem.behaviour.governed import check_governed
from sweeper.train.problem.spec import TrainContext
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.names import FINGERPRINT
from sweeper.train.worker.opened import data_of
from sweeper.train.worker.task import Task


def begin_point(context: TrainContext, fd: int | None, task: Task) -> dict[str, str]:
    """The point's fingerprint, after a check that `describe` makes of the points that it is for.

    Raises:
        ProblemError: something in its model is random in a way that no seed governs.
    """
    problem, data = data_of(context, fd, task)
    check_governed(problem, data, Streams(context.seed, task.point, task.stage, 0), task.params)
    return fingerprint_of(context, fd, task)


def fingerprint_of(context: TrainContext, fd: int | None, task: Task) -> dict[str, str]:
    """The point's fingerprint as text; empty if it cannot be taken, which is no failure."""
    problem, data = data_of(context, fd, task)
    if problem.handlers is not None:  # their behaviour is not covered
        return {}
    try:
        found = fingerprint(problem, data, context.seed, context.threads, task.point, task.params)
    except Exception:  # noqa: BLE001 - whatever a model does not like about it
        return {}
    return {FINGERPRINT: found.text()}
