"""Executes a job in a worker: one call, or one run, for each trial, and yields the outcomes."""

from __future__ import annotations

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
from sweeper.program.artifacts import save_artifacts, split
from sweeper.program.checkpoints import Checkpoints
from sweeper.program.command import Command
from sweeper.program.iterations import iterate
from sweeper.program.metrics import read_values
from sweeper.program.objective import ObjectiveRef, find_in, load_objective
from sweeper.program.process import CommandFailed, run_command
from sweeper.program.random_state import seed_random
from sweeper.program.spec import RECORD, ProgramContext
from sweeper.program.trial import Trial, in_arrays, last_values
from sweeper.records import (
    ARTIFACTS_SHA256,
    RAISED,
    Job,
    Outcome,
    Params,
    budget_of,
    file_suffix,
    lineage_of,
)
from sweeper.signature import decode, lineage_numbers, seed_sequence
from sweeper.sources import check_sources


def execute(context: ProgramContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Run the job's trials one after the other; yield each outcome, also failures."""
    del fd
    for number in job.numbers:
        started, own = time.time(), os.getpid()
        outcome = Outcome(job.point, job.stage, number, started, started)
        try:
            metrics, history, texts = _run(context, job, number)
            outcome = replace(outcome, metrics=metrics, arrays=pack_arrays(history), info=texts)
        except KeyboardInterrupt:
            raise
        except CommandFailed as error:
            outcome = replace(outcome, failure=error.failure)
        except BaseException as error:  # noqa: BLE001 - one that calls sys.exit fails, too
            outcome = replace(outcome, failure=describe(error))
        if os.getpid() != own:  # the objective has forked, and this child came back from it
            os._exit(0)
        yield replace(outcome, ended=time.time())


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
    metrics, texts = _call(context, objective, arguments, trial)
    trial.end()
    return metrics, in_arrays(trial.history), texts


def _trial(context: ProgramContext, job: Job, number: int, params: Params) -> Trial:
    sequence = seed_sequence(context.seed, job.point, number, *lineage_numbers(job.stage))
    return Trial(
        number,
        int(sequence.generate_state(1, np.uint32)[0]) >> 1,
        params,
        _folder(context, job.payload["id"], job.stage, number),
        job.width,
        budget_of(job.stage),
        context.metrics,
        _checkpoints(context, job, number) if context.takes.trial else None,
        context.devices,
        _parent_folder(context, job),
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


def _folder(context: ProgramContext, point_id: int, stage: str, number: int) -> Path:
    """A trial's own folder; each budget and each parent has its own."""
    path = Path(context.folder.format(id=point_id, number=number))
    return path.with_name(path.name + file_suffix(stage))


def _parent_folder(context: ProgramContext, job: Job) -> Path | None:
    """The folder of the trial that the job's begin from."""
    parent = job.payload.get("parent")
    if parent is None:
        return None
    return _folder(context, parent["payload"]["id"], parent["stage"], parent["number"])


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
    if lineage := lineage_of(job.stage):
        parts["lineage"] = lineage
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = Path(context.checkpoints) / job.point
    return Checkpoints(folder, f"{number}{file_suffix(job.stage)}", identity, budget)


def _prepare(trial: Trial, *, uses_torch: bool) -> None:
    """Seed the random generators, and give torch the trial's cores."""
    seed_random(trial.seed, with_torch=uses_torch)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(trial.cores)
