"""Executes a job in a worker: calls the objective for each trial and yields the outcomes."""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.failures import describe
from sweeper.files import pack_arrays
from sweeper.program import usage
from sweeper.program.metrics import read_values
from sweeper.program.objective import ObjectiveRef, find_in, load_objective
from sweeper.program.profiling import profiled
from sweeper.program.redirect import Printed, redirected
from sweeper.program.spec import ProgramContext
from sweeper.program.trial import Trial, in_arrays, last_values
from sweeper.program.usage import Meter
from sweeper.records import USAGE, Job, Outcome, budget_of
from sweeper.signature import decode, seed_sequence
from sweeper.sources import check_sources


def execute(context: ProgramContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Run the job's trials one after the other; yield each outcome, also failures."""
    del fd
    for number in job.numbers:
        started = time.time()
        outcome = Outcome(job.point, job.stage, number, started, started)
        own, shared = _folder(context, job, number), Path(context.shared)
        printed, meter = Printed(), Meter()
        try:
            with redirected(context.redirect, own, shared) as printed:
                metrics, history = _run(context, job, number)
            outcome = replace(outcome, metrics=metrics, arrays=pack_arrays(history))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - one that calls sys.exit fails, too
            failure = describe(error)
            failure = replace(failure, detail=failure.detail + printed.end())
            outcome = replace(outcome, failure=failure)
        yield replace(outcome, ended=time.time(), info={**outcome.info, USAGE: meter.text()})


def _run(
    context: ProgramContext, job: Job, number: int
) -> tuple[dict[str, float], Mapping[str, Any]]:
    """A trial's metrics, and its history by metric."""
    module, objective = _opened(context.ref, context.sources)
    params = decode(job.payload["params"], lambda name: find_in(module, context.ref, name))
    sequence = seed_sequence(context.seed, job.point, number)
    trial = Trial(
        number,
        int(sequence.generate_state(1, np.uint32)[0]) >> 1,
        params,
        _folder(context, job, number),
        context.cores,
        budget_of(job.stage),
        context.metrics,
    )
    arguments = context.takes.arguments(params)
    if context.takes.trial:
        arguments["trial"] = trial
    _prepare(trial, uses_torch=context.uses_torch)
    with _profiled(context, job, number):
        found = _call(context, objective, arguments, trial)
    for name, value in found.items():
        if np.isnan(value):
            sys.stderr.write(f"sweeper: trial {number}: {name} is NaN\n")
    return found, in_arrays(trial.history)


def _call(
    context: ProgramContext,
    objective: Callable[..., Any],
    arguments: Mapping[str, Any],
    trial: Trial,
) -> dict[str, float]:
    """The metrics of one call: of a generator, and of a function that only reports, the last."""
    given = objective(**arguments)
    if inspect.isgenerator(given):
        _iterate(given, trial)
        given = None
    elif trial.budget is not None and not context.takes.trial:
        raise UsageError(
            f"budget={trial.budget}: the objective neither yields nor takes trial.budget, so "
            "nothing could bound it: ask for trials without a budget"
        )
    if given is None and trial.history:
        return last_values(trial.history)
    return read_values(given, context.metrics)


def _iterate(iterations: Any, trial: Trial) -> None:
    """Take what a generator yields, until it ends or its budget is used up.

    Raises:
        ValueError: it yields nothing.
    """
    try:
        for count, values in enumerate(iterations, start=1):
            trial.keep(values)
            if count == trial.budget:
                break
    finally:
        iterations.close()
    if not trial.history:
        raise ValueError("the objective has yielded nothing: expected a dict of named numbers")


def _profiled(
    context: ProgramContext, job: Job, number: int
) -> contextlib.AbstractContextManager[None]:
    return profiled(_folder(context, job, number)) if context.profile else contextlib.nullcontext()


@lru_cache(maxsize=1)
def _opened(
    ref: ObjectiveRef, sources: tuple[tuple[str, str], ...]
) -> tuple[ModuleType, Callable[..., Any]]:
    found = load_objective(ref)
    check_sources(sources)
    return found


def close() -> None:
    """Forget the objective of the last job."""
    _opened.cache_clear()
    usage.close()


def _folder(context: ProgramContext, job: Job, number: int) -> Path:
    """A trial's own folder; each budget has its own."""
    path = Path(context.folder.format(id=job.payload["id"], number=number))
    budget = budget_of(job.stage)
    return path if budget is None else path.with_name(f"{path.name}@{budget}")


def _prepare(trial: Trial, *, uses_torch: bool) -> None:
    """Seed the global generators, and give torch the trial's cores."""
    random.seed(trial.seed)
    np.random.seed(trial.seed)  # noqa: NPY002 - what objectives draw from
    if uses_torch or "torch" in sys.modules:
        import torch

        torch.manual_seed(trial.seed)
        torch.set_num_threads(trial.cores)
