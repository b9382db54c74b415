"""Executes a job in a worker: one call, or one run, for each trial, and yields the outcomes."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sweeper.code.carried import unpack
from sweeper.code.failures import describe
from sweeper.code.sources import check_sources
from sweeper.disk.arrays import pack_arrays
from sweeper.errors import UsageError
from sweeper.program.command.command import Command
from sweeper.program.command.process import CommandFailed, run_command
from sweeper.program.metrics import read_values
from sweeper.program.objective.locate import ObjectiveRef, find_in, load_objective
from sweeper.program.objective.roots import branch, forget_roots
from sweeper.program.records import usage
from sweeper.program.records.profiling import profiled
from sweeper.program.records.redirect import NONE, Output, Printed
from sweeper.program.records.usage import Meter, read_place
from sweeper.program.spec import RECORD, ProgramContext
from sweeper.program.trial.artifacts import save_artifacts, split
from sweeper.program.trial.checkpoints import Checkpoints
from sweeper.program.trial.iterations import iterate
from sweeper.program.trial.prepare import prepare
from sweeper.program.trial.seeds import trial_seed
from sweeper.program.trial.trial import Trial, in_arrays, last_values
from sweeper.records import (
    ARTIFACTS_SHA256,
    RAISED,
    USAGE,
    Job,
    Outcome,
    Params,
    Reference,
    budget_of,
    file_suffix,
    lineage_of,
)
from sweeper.signature import decode, is_plain, lineage_numbers

IN_DRIVER: ContextVar[bool] = ContextVar("IN_DRIVER", default=False)
"""Whether trials run in the driver's own process, where KeyboardInterrupt is Ctrl-C.

Workers ignore Ctrl-C, so there it is an exception of the objective's own.
"""


def execute(context: ProgramContext, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Run the job's trials one after the other; yield each outcome, also failures."""
    del fd
    # A command's output goes into its trial's files anyway.
    redirect = NONE if isinstance(context.ref, Command) else context.redirect
    place = read_place()
    with contextlib.closing(Output(redirect, context.shared)) as output:
        for number in job.numbers:
            yield _outcome(context, job, number, output, place)


def _outcome(context: ProgramContext, job: Job, number: int, output: Output, place: str) -> Outcome:
    started, own = time.time(), os.getpid()
    result: Result = {}, b"", {}
    failure = None
    printed, meter = Printed(), Meter(place)
    try:
        folder = _folder(context, job.payload["id"], job.stage, number)
        with output.of(folder) as printed:
            result = _run(context, job, number, folder)
    except CommandFailed as error:
        failure = error.failure
    except BaseException as error:  # one that calls sys.exit fails, too
        if isinstance(error, KeyboardInterrupt) and IN_DRIVER.get():
            raise
        failure = describe(error)
        failure = replace(failure, detail=failure.detail + printed.end())
    if os.getpid() != own:  # the objective has forked, and this child came back from it
        os._exit(0)
    metrics, arrays, texts = result
    texts = {**texts, USAGE: meter.text()}
    when = started, time.time()
    return Outcome(job.point, job.stage, number, *when, metrics, arrays, failure, texts)


Texts = dict[str, str]

Result = tuple[dict[str, float], bytes, Texts]
"""A trial's metrics, its history as arrays, and texts by name (see `records.RAISED`)."""


def _run(context: ProgramContext, job: Job, number: int, folder: str) -> Result:
    ref = context.ref
    if isinstance(ref, Command):
        trial = _trial(context, job, number, _params(job.payload["params"]), folder)
        return run_command(ref, trial, context.sources, context.metrics), b"", {}
    module, objective = _opened(ref, context.sources)
    params = _params(job.payload["params"], lambda name: find_in(module, ref, name))
    trial = _trial(context, job, number, params, folder)
    arguments = context.takes.arguments(params)
    if isinstance(objective, type):
        objective, arguments = branch(objective, ref, context, arguments, job.width)
    elif ref.carried is not None:
        objective = unpack(ref.carried)
    if context.takes.trial:
        arguments["trial"] = trial
    prepare(trial.seed, trial.cores, uses_torch=context.uses_torch)
    if context.takes.trial:
        trial.begin()
    with profiled(Path(folder)) if context.profile else contextlib.nullcontext():
        metrics, texts = _call(context, objective, arguments, trial)
    trial.end()
    return metrics, pack_arrays(in_arrays(trial.history)) if trial.history else b"", texts


def _params(encoded: str, find: Callable[[str], Any] = Reference) -> Params:
    """A trial's own copy of its point's parameters."""
    known = _plain_params(encoded)
    if known is None:
        return cast("Params", decode(encoded, find))
    return known if isinstance(known, tuple) else dict(known)


@lru_cache(maxsize=16)
def _plain_params(encoded: str) -> Params | None:
    """The parameters if all are numbers, texts and the like, which no trial can change."""
    params = decode(encoded)
    values = params.values() if isinstance(params, Mapping) else params
    return params if all(map(is_plain, values)) else None


def _trial(context: ProgramContext, job: Job, number: int, params: Params, folder: str) -> Trial:
    return Trial(
        number,
        trial_seed(context.seed, job.point, (number, *lineage_numbers(job.stage))),
        params,
        folder,
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
    if trial.parent_folder is not None and not context.takes.trial:
        raise UsageError(
            "the trial begins from a parent, and the objective has no parameter trial: it needs "
            "one, whose parent_folder is where the parent left its files"
        )
    given = objective(**arguments)
    if inspect.isgenerator(given):
        if not context.takes.trial:
            trial.begin()
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
    """Forget the objective of the last job, and what it built."""
    _opened.cache_clear()
    _plain_params.cache_clear()
    usage.close()
    forget_roots()


def _folder(context: ProgramContext, point_id: int, stage: str, number: int) -> str:
    """A trial's own folder; each budget and each parent has its own."""
    return context.folder.format(id=point_id, number=f"{number}{file_suffix(stage)}")


def _parent_folder(context: ProgramContext, job: Job) -> Path | None:
    """The folder of the trial that the job's begin from."""
    parent = job.payload.get("parent")
    if parent is None:
        return None
    found = _folder(context, parent["payload"]["id"], parent["stage"], parent["number"])
    return Path(found)


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
        "carried": getattr(getattr(context.ref, "carried", None), "sha256", ""),
    }
    if lineage := lineage_of(job.stage):
        parts["lineage"] = lineage
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = Path(context.checkpoints) / job.point
    return Checkpoints(folder, f"{number}{file_suffix(job.stage)}", identity, budget)
