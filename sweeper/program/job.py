"""Executes a job in a worker: one call, or one run, for each trial, and yields the outcomes."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
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
from sweeper.program.artifacts import save_artifacts, split
from sweeper.program.checkpoints import Checkpoints
from sweeper.program.command import Command
from sweeper.program.iterations import iterate
from sweeper.program.metrics import read_values
from sweeper.program.objective import ObjectiveRef, find_in, load_objective
from sweeper.program.process import CommandFailed, run_command
from sweeper.program.profiling import profiled
from sweeper.program.random_state import seed_random
from sweeper.program.redirect import NONE, Printed, redirected
from sweeper.program.spec import RECORD, ProgramContext
from sweeper.program.trial import Trial, in_arrays, last_values
from sweeper.program.usage import Meter
from sweeper.records import ARTIFACTS_SHA256, RAISED, USAGE, Job, Outcome, Params, budget_of
from sweeper.signature import decode, seed_sequence
from sweeper.sources import check_sources


def execute(context: ProgramContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Run the job's trials one after the other; yield each outcome, also failures."""
    del fd
    shared = Path(context.shared)
    # A command's output goes into its trial's files anyway.
    redirect = NONE if isinstance(context.ref, Command) else context.redirect
    for number in job.numbers:
        started, own = time.time(), os.getpid()
        outcome = Outcome(job.point, job.stage, number, started, started)
        printed, meter = Printed(), Meter()
        try:
            with redirected(redirect, _folder(context, job, number), shared) as printed:
                metrics, history, texts = _run(context, job, number)
            outcome = replace(outcome, metrics=metrics, arrays=pack_arrays(history), info=texts)
        except KeyboardInterrupt:
            raise
        except CommandFailed as error:
            outcome = replace(outcome, failure=error.failure)
        except BaseException as error:  # noqa: BLE001 - one that calls sys.exit fails, too
            failure = describe(error)
            failure = replace(failure, detail=failure.detail + printed.end())
            outcome = replace(outcome, failure=failure)
        if os.getpid() != own:  # the objective has forked, and this child came back from it
            os._exit(0)
        yield replace(outcome, ended=time.time(), info={**outcome.info, USAGE: meter.text()})


Texts = dict[str, str]

Result = tuple[dict[str, float], Mapping[str, Any], Texts]
"""A trial's metrics, its history by metric, and texts by name (see `records.RAISED`)."""


def _run(context: ProgramContext, job: Job, number: int) -> Result:
    ref = context.ref
    if isinstance(ref, Command):
        trial = _trial(context, job, number, decode(job.payload["params"]))
        return run_command(ref, trial, context.sources, context.metrics), {}, {}
    module, objective = _opened(ref, context.sources)
    params = decode(job.payload["params"], lambda name: find_in(module, ref, name))
    trial = _trial(context, job, number, params)
    arguments = context.takes.arguments(params)
    if context.takes.trial:
        arguments["trial"] = trial
    _prepare(trial, uses_torch=context.uses_torch)
    trial.begin()
    with _profiled(context, job, number):
        metrics, texts = _call(context, objective, arguments, trial)
    trial.end()
    return metrics, in_arrays(trial.history), texts


def _trial(context: ProgramContext, job: Job, number: int, params: Params) -> Trial:
    sequence = seed_sequence(context.seed, job.point, number)
    return Trial(
        number,
        int(sequence.generate_state(1, np.uint32)[0]) >> 1,
        params,
        _folder(context, job, number),
        job.width,
        budget_of(job.stage),
        context.metrics,
        _checkpoints(context, job, number) if context.takes.trial else None,
        context.devices,
    )


def _call(
    context: ProgramContext,
    objective: Callable[..., Any],
    arguments: Mapping[str, Any],
    trial: Trial,
) -> tuple[dict[str, float], Texts]:
    """The metrics of one call: of a generator, and of a function that only reports, the last."""
    given = objective(**arguments)
    if inspect.isgenerator(given):
        raised = iterate(given, trial, record=context.on_error == RECORD)
        return last_values(trial.history), ({RAISED: raised} if raised else {})
    if trial.budget is not None and not context.takes.trial:
        raise UsageError(
            f"budget={trial.budget}: the objective neither yields nor takes trial.budget, so "
            "nothing could bound it: ask for trials without a budget"
        )
    given, artifacts = split(given)
    if given is None and trial.history:
        metrics = last_values(trial.history)
    else:
        metrics = read_values(given, context.metrics)
    if not artifacts:
        return metrics, {}
    return metrics, {ARTIFACTS_SHA256: save_artifacts(artifacts, trial.folder)}


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
    path = Path(context.folder.format(id=job.payload["id"], number=number))
    return path.with_name(_name(number, budget_of(job.stage)))


def _checkpoints(context: ProgramContext, job: Job, number: int) -> Checkpoints:
    budget = budget_of(job.stage)
    parts = {
        "program": context.ref.name,
        "point": job.point,
        "params": job.payload["params"],
        "number": number,
        "seed": context.seed,
        "cores": job.width,
        "budget": budget is not None,  # how large it is only says how far it goes
        "sources": sorted(sha256 for _, sha256 in context.sources),
    }
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = Path(context.checkpoints) / job.point
    return Checkpoints(folder, _name(number, budget), identity, budget)


def _name(number: int, budget: int | None) -> str:
    """Of a trial's files; each budget has its own."""
    return str(number) if budget is None else f"{number}@{budget}"


def _prepare(trial: Trial, *, uses_torch: bool) -> None:
    """Seed the random generators, and give torch the trial's cores."""
    seed_random(trial.seed, with_torch=uses_torch)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(trial.cores)
