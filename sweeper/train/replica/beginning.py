"""Reads, in a worker, the parent from which a task's trials begin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

from sweeper.records import Job, Outcome
from sweeper.signature import decode
from sweeper.summary import show_params
from sweeper.train.problem.spec import TrainContext
from sweeper.train.replica.checkpoints import checkpoints_of
from sweeper.train.replica.parents import Inheritance, ParentError
from sweeper.train.tuning.trials import Trials
from sweeper.train.worker.opened import data_of
from sweeper.train.worker.task import ParentTask, Task

Execute: TypeAlias = Callable[[TrainContext, "int | None", Job], Iterator[Outcome]]


def inheritance_of(
    context: TrainContext, fd: int | None, task: Task, execute: Execute
) -> Inheritance | None:
    """What the task's trials begin with; None: they begin from nothing.

    A parent whose checkpoint is gone is trained again by `execute`, and ends with the same bits.

    Raises:
        ParentError: nothing can begin from the parent.
    """
    if task.parent is None:
        return None
    problem, _ = data_of(context, fd, task)
    if problem.handlers is not None:
        raise ParentError("trials of a problem with handlers keep no checkpoint to begin from")
    found = _end_of(context, task.parent)
    if found is None:
        (again,) = execute(context, fd, task.parent.job)
        found = _end_of(context, task.parent)
        if found is None:
            why = "it diverged" if again.failure is None else again.failure.message
            raise ParentError(f"its parent, {_described(task.parent)}, has no end: {why}")
    return found


def _end_of(context: TrainContext, parent: ParentTask) -> Inheritance | None:
    """The end of a parent, if it was saved by this code and with these data."""
    task = Task.read(parent.job)
    (number,) = task.numbers
    trial = cast(Trials, task.told).of(number)
    traces = {task.mode.trace or "" if task.mode.is_packed else "", ""}
    for trace in sorted(traces):  # one whose own trace differs from the point's was trained alone
        kept = checkpoints_of(context, task, number, trial, trace)
        if kept is not None and (found := kept.read_end()) is not None:
            return found
    return None


def _described(parent: ParentTask) -> str:
    """A parent, for a message."""
    job = parent.job
    return f"{job.stage} {job.numbers[0]} of {show_params(decode(job.payload['params']))}"
