"""The problem and the data of a job, opened in a worker and kept for the jobs that follow."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from sweeper.code.importing import ModuleRef
from sweeper.code.sources import check_sources
from sweeper.train.data.own import open_own
from sweeper.train.data.samples import Data
from sweeper.train.data.sharing import open_data
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.problem.spec import DataRef, TrainContext
from sweeper.train.tuning.own import OwnData
from sweeper.train.worker.task import Task


def data_of(context: TrainContext, fd: int | None, task: Task) -> tuple[Problem, Data]:
    """The problem, with the options that the task's replicas have, and the data of its point."""
    problem, data = _opened(context, fd, task)
    return problem.with_options(task.options), data


def _opened(context: TrainContext, fd: int | None, task: Task) -> tuple[Problem, Data]:
    problem, known = _problem(context.problem, context.sources, context.numerics), task.own.data
    params = problem.data_params(task.params)
    if params != NO_PARAMS:
        is_kept = known is not None and not known.remade
        reopen_own = _kept_own if is_kept else open_own
        return problem, reopen_own(problem, params, context.data, known)
    reopen = open_data if context.data.remade else _kept_data
    return problem, reopen(problem, context.data, fd)


@lru_cache(maxsize=1)
def _problem(ref: ModuleRef, sources: tuple[tuple[str, str], ...], numerics: int) -> Problem:
    problem = replace(load_problem(ref), numerics=numerics)
    own = "" if ref.carried is None else ref.carried.sha256  # in no file
    check_sources(one for one in sources if one[1] != own)
    return problem


@lru_cache(maxsize=1)
def _kept_data(problem: Problem, ref: DataRef, fd: int | None) -> Data:
    return open_data(problem, ref, fd)


@lru_cache(maxsize=2)
def _kept_own(problem: Problem, params: str, shared: DataRef, known: OwnData | None) -> Data:
    return open_own(problem, params, shared, known)


def close() -> None:
    """Forget the problem and the data of the last job, so that the data's map can be freed."""
    _problem.cache_clear()
    _kept_data.cache_clear()
    _kept_own.cache_clear()
