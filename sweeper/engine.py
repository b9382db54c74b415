"""A sweep whose arguments are checked: its folder opened, its loop joined, its results collated."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.drive import drive
from sweeper.errors import DiskError, FolderError, StoppedError, SweepInterrupted
from sweeper.files import current_folder
from sweeper.locking import folder_lock
from sweeper.options import Options
from sweeper.reading import PRELOAD, Reading
from sweeper.records import Point, Recorded, Target
from sweeper.results import SweepResult
from sweeper.revision import follow_code
from sweeper.run.backends import make_backend, slots_used
from sweeper.run.scheduler import Scheduler
from sweeper.run.signals import Interrupts
from sweeper.search import ParamSelector
from sweeper.search.names import names_of
from sweeper.settings import SweepSettings
from sweeper.show.progress import View, make_view
from sweeper.show.table import plural
from sweeper.signature import make_point
from sweeper.store.collate import collate
from sweeper.store.database import Store, fold_log
from sweeper.store.identity import (
    bind,
    identify,
    machine_note,
    numerics_note,
    numerics_of,
    settings_begun,
)
from sweeper.store.logs import log_name
from sweeper.store.paths import Paths, move_to_history, refuse_links
from sweeper.study import Study
from sweeper.train.native.toolchain import check_toolchain, processor
from sweeper.train.problem.spec import Brief, DataRef, TrainContext, environment_of
from sweeper.train.tuning.ladder_plan import LadderPlan
from sweeper.train.tuning.range_plan import Plan

EXECUTE = "sweeper.train.job:execute"


def run(reading: Reading, selector: ParamSelector, options: Options) -> SweepResult:
    """Run the sweep of a problem to its end; see `sweep` for what is raised."""
    name = reading.brief.ref.name
    folder = Path(options.folder) if options.folder is not None else Path("out") / name
    if not folder.is_absolute() and current_folder() is None:
        raise FolderError(
            f"{folder}: the current folder is gone: change to one that is there, or give an "
            "absolute folder"
        )
    paths = Paths(folder)
    with contextlib.ExitStack() as stack:
        view = stack.enter_context(make_view(options.progress))
        dead = stack.enter_context(folder_lock(paths.lock))
        if dead is not None:
            view.note(f"took over the lock that {dead} left behind")
        refuse_links(paths)
        if not options.resume:
            fold_log(paths.database)
            moved = move_to_history(paths)
            if moved is not None:
                view.note(f"moved the earlier contents to {moved}")
        if not paths.database.exists():
            reading.expect_tuning()
        data, fd = reading.read_data(options.seed, options.settings.cores_per_trial)
        store = stack.enter_context(Store.open(paths.database))
        begun = settings_begun(store, options.settings)
        if begun != options.settings:
            view.note(
                f"{paths.folder} was begun with an earlier release: its points are tuned as it did "
                "then, by method='ranges'; resume=False (--no-resume) begins anew"
            )
            options = replace(options, settings=begun)
        return _run(reading, data, fd, selector, options, store, paths, view)


def _run(
    reading: Reading,
    data: DataRef,
    fd: int | None,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> SweepResult:
    problem = reading.brief
    try:
        _bind(reading, data, selector, options, store, paths, view)
    finally:
        reading.release()
    numerics = numerics_of(store.meta, paths.folder)
    used = slots_used(options.backend, len(options.slots))
    name = log_name(store, names_of(selector))
    with uncollected():
        recorded = store.recorded(name, log=selector.adaptive)
        _check_toolchains(recorded, options)
        study = Study(
            selector,
            _make_plan(problem, data, options),
            functools.partial(_make_point, problem, options),
            most_cores=options.settings.cores,
            slots=used,
            recorded=recorded,
            pack=options.pack,
            limits=options.limits,
        )
        store.begin(study.begin(), name, keep_log=selector.adaptive)
    view.note(f"{problem.ref.name} in {paths.folder}: {options.topology.reason}; {data.note}")
    view.update(study.progress())
    context = TrainContext(
        problem=problem.ref,
        sources=tuple((source.path, source.sha256) for source in problem.sources),
        data=data,
        seed=options.seed,
        threads=options.settings.cores_per_trial,
        curve_samples=options.curve_samples,
        save_models=options.save_models == "final",
        model_path=Paths(paths.folder.resolve()).model_pattern,
        numerics=numerics,
        allow_changed_code=options.allow_changed_code,
    )
    target = Target(EXECUTE, context, fd, PRELOAD, environment_of(numerics))
    try:
        with _workers(options, target, paths) as (backend, interrupts):
            width, timeout = options.settings.cores_per_trial, options.limits.trial_timeout
            scheduler = Scheduler(used, width, timeout=timeout)
            interrupted = drive(study, scheduler, backend, interrupts, store, view)
    except DiskError:
        raise  # nothing more can be written
    except BaseException as error:
        _finish(store, paths)
        if isinstance(error, StoppedError):
            raise StoppedError(f"stopped: {error}. {_kept(study, paths)}") from None
        raise
    results = _finish(store, paths)
    if interrupted:
        raise SweepInterrupted(f"interrupted: {_kept(study, paths)}")
    study.check_stalled()
    return results


def _make_plan(problem: Brief, data: DataRef, options: Options) -> Plan | LadderPlan:
    """How points are tuned, by the method of the settings."""
    settings, plain_because = options.settings, _plain_because(problem, data, options.settings)
    if settings.hparams.method == "ranges":
        return Plan(settings, data.n_train, options.seed, plain_because)
    return LadderPlan(settings, data.n_train, problem.optimizer, plain_because)


def _plain_because(problem: Brief, data: DataRef, settings: SweepSettings) -> str | None:
    """Why nothing of the sweep is packed; None where each point decides."""
    if settings.pack == "off":
        return "packing is off"
    if settings.cores_per_trial > 1:
        return "a training has several cores"
    if problem.has_handlers:
        return "the problem has handlers"
    if data.remade:
        return "the data is random on access"
    return None


def _check_toolchains(recorded: Recorded, options: Options) -> None:
    """See that trials whose steps are compiled can go on as they began."""
    found = {
        told.get("toolchain", "")
        for step in recorded.steps.values()
        for told in step.payload.get("tunings", [step.payload])
    }
    for toolchain in sorted(found - {""}):
        check_toolchain(toolchain, allow=options.allow_changed_code)


def _finish(store: Store, paths: Paths) -> SweepResult:
    """What a sweep leaves, however it ends: its last decisions, and the views."""
    store.append(())
    return collate(store, paths)


def _kept(study: Study, paths: Paths) -> str:
    """What a sweep that ended early has come to, and how to go on."""
    done = study.progress()
    return (
        f"{done.trials_done} of {done.trials_asked} trials are done and kept in {paths.folder}; "
        "the same command goes on from there"
    )


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles, which a folder of a million trials has none of.

    Going through all that was read, again and again as it grows, takes a fifth of reading it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # else somebody wants something left alone
                # What was read counts as old from now on, so that it is not gone through as new.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextlib.contextmanager
def _workers(options: Options, target: Target, paths: Paths) -> Iterator[tuple[Any, Interrupts]]:
    """A backend and what interrupts it; at the end no worker is left."""
    with Interrupts() as interrupts, _as_worker(options.backend, target):
        backend = make_backend(
            options.backend,
            options.slots,
            pinned=options.topology.pinned,
            target=target,
            logs=paths.logs,
        )
        try:
            yield backend, interrupts
        finally:
            backend.close()


def _as_worker(backend: str, target: Target) -> contextlib.AbstractContextManager[None]:
    if backend != "inline":
        return contextlib.nullcontext()
    from sweeper.train.job import as_worker

    return as_worker(target.environment)


def _bind(
    reading: Reading,
    data: DataRef,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> None:
    """See that the folder is this sweep's, and note who goes on with it."""
    problem = reading.brief
    bind(
        store,
        paths,
        identify(
            problem.ref.name,
            options.settings,
            options.seed,
            options.curve_samples,
            data.validation,
        ),
        data_sha256=data.sha256,
        earlier_data_sha256=data.earlier_sha256,
    )
    here = _machine(problem)
    mixed = _follow_code(reading, data, selector, options, store, paths, view)
    notes = [data.note, *(note for note in store.meta.get("notes", ()) if note != data.note)]
    notes += data.notes
    if mixed:
        notes.append("the problem's code changed during this sweep, and that was allowed")
    notes += filter(None, [machine_note(store.meta, here), numerics_note(store.meta)])
    machine = store.meta.get("machine", here)
    store.set_meta(
        {
            "notes": list(dict.fromkeys(notes)),
            "machine": machine,
            "n_val": data.n_val,
            "n_test": data.n_test,
            "paired": data.validation is not None,
        }
    )
    store.add_event(
        time.time(),
        "opened",
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "slots": options.slots,
            **here,
        },
    )


def _machine(problem: Brief) -> dict[str, str]:
    """What the last bits of results depend on, beside the code."""
    return {
        "processor": processor(),
        "torch": importlib.metadata.version("torch"),
        "libraries": problem.libraries,
        "MKL_CBWR": os.environ.get("MKL_CBWR", ""),
    }


def _follow_code(
    reading: Reading,
    data: DataRef,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> bool:
    """See which points the problem's code still trains; whether results of several are mixed."""

    def take(points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        view.note(f"the problem's code has changed: looking at {plural(len(points), 'point')}")
        return reading.take_fingerprints(data, options.settings.cores_per_trial, points)

    name = log_name(store, names_of(selector))
    found = follow_code(
        reading.brief,
        store,
        paths,
        take,
        replayed=name if selector.adaptive else None,
        allow=options.allow_changed_code,
    )
    if found.files:
        value = {"sha256": reading.brief.source_sha256, "files": found.files}
        store.add_event(time.time(), "code_changed", value)
        if not selector.adaptive:
            store.forget_failures()
    return found.mixed


def _make_point(problem: Brief, options: Options, params: Any) -> Point:
    ref = problem.ref
    point = make_point(params, ref.name, options.settings, options.seed, ref.module)
    problem.check_params(point.params)
    return point
