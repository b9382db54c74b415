"""What a worker executes: the replicas of a job, one after the other."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from sweeper.errors import ChangedCodeError, SweeperError
from sweeper.files import pack_arrays, write_swapped
from sweeper.train import probes
from sweeper.train.data import Data, DataRef, open_data
from sweeper.train.plan import (
    BATCH_CHOICE,
    BATCH_RANGE,
    LR_RANGE,
    LR_RESCAN,
    split_stage,
)
from sweeper.train.problem import Problem, ProblemRef, load_problem
from sweeper.train.streams import Streams, preserved
from sweeper.train.trainer import train_trial
from sweeper.types import CHECK, Failure, Job, Outcome


@dataclass(frozen=True, slots=True)
class TrainContext:
    """What every job of a sweep shares."""

    problem: ProblemRef
    source_sha256: str
    """Of the problem's module as the driver read it."""
    data: DataRef
    seed: int
    threads: int
    curve_samples: int
    save_models: bool
    model_path: str
    """Where a trial's weights go, with places for `id` and `number`."""


def execute(context: TrainContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Train the job's replicas; each outcome as it comes, failures among them."""
    torch.set_num_threads(context.threads)
    for number in job.numbers:
        started = time.time()
        outcome = Outcome(job.point, job.stage, number, started, started)
        try:
            metrics, arrays = _train(context, fd, job, number)
            outcome = replace(outcome, metrics=metrics, arrays=pack_arrays(arrays))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a model that calls sys.exit fails, too
            outcome = replace(outcome, failure=describe(error))
        yield replace(outcome, ended=time.time())


def describe(error: BaseException) -> Failure:
    """An exception as a failure: its last line, and the traceback."""
    message = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, SweeperError):  # written for people
        message = str(error)
    while (trace := error.__traceback__) is not None and _is_ours(trace):
        error = error.with_traceback(trace.tb_next)
    kind: Literal["memory", "exception", "changed"] = "exception"
    if isinstance(error, MemoryError):
        kind = "memory"
    if isinstance(error, ChangedCodeError):
        kind = "changed"
    return Failure(kind, message, "".join(traceback.format_exception(error)))


def _is_ours(trace: TracebackType) -> bool:
    """Whether it is this package's own way to the user's code, which tells nobody anything."""
    return trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE)


_PACKAGE = str(Path(__file__).parent.parent) + os.sep


def _train(
    context: TrainContext, fd: int | None, job: Job, number: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    problem = _problem(context.problem, context.source_sha256)
    reopen = open_data if context.data.remade else _kept_data
    data = reopen(problem, context.data, fd)
    streams = Streams(context.seed, job.point, job.stage, number)
    payload = job.payload
    base, _ = split_stage(job.stage)
    if base == CHECK:
        probes.run_check(problem, data, streams, payload)
        return {}, {}
    if base in (LR_RANGE, LR_RESCAN, BATCH_RANGE, BATCH_CHOICE):
        probe = probes.Probe.make(problem, data, streams, payload["params"])
        if base == BATCH_RANGE:
            return probes.run_batch_range(probe, payload)
        if base == BATCH_CHOICE:
            return probes.run_batch_choice(probe, payload, number)
        return probes.run_lr_range(probe, payload)
    model_path = Path(context.model_path.format(id=payload["id"], number=number))
    trained = train_trial(problem, data, streams, payload, context.curve_samples, model_path.parent)
    metrics = dict(trained.metrics)
    arrays = dict(trained.arrays)
    if context.save_models:
        arrays["model_sha256"] = _save_model(trained.model, model_path)
    return metrics, arrays


@lru_cache(maxsize=1)
def _problem(ref: ProblemRef, source_sha256: str) -> Problem:
    problem = load_problem(ref)
    if problem.source_sha256() != source_sha256:
        raise ChangedCodeError(
            f"{problem.module.__file__} was changed while the sweep ran: a worker that was made "
            "since would train other code"
        )
    return problem


@lru_cache(maxsize=1)
def _kept_data(problem: Problem, ref: DataRef, fd: int | None) -> Data:
    return open_data(problem, ref, fd)


def close() -> None:
    """Forget the problem and the data of the last job: the map of its data can go."""
    _problem.cache_clear()
    _kept_data.cache_clear()


def _save_model(model: nn.Module, path: Path) -> str:
    """Durable before the outcome that carries its checksum is sent."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    data = buffer.getvalue()
    write_swapped(path, data, sync=True)
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def as_worker() -> Iterator[None]:
    """This process as a worker for a while: its generators and threads as they were after."""
    threads = torch.get_num_threads()
    with preserved():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            close()
