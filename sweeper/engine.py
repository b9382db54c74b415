"""A sweep whose arguments are checked: its folder opened, its loop joined, its results collated."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeper.drive import drive
from sweeper.errors import DiskError, StoppedError, SweepInterrupted
from sweeper.files import folder_lock
from sweeper.options import Options
from sweeper.reading import PRELOAD, Reading
from sweeper.results import SweepResult
from sweeper.run.backends import make_backend, slots_used
from sweeper.run.scheduler import Scheduler
from sweeper.run.signals import Interrupts
from sweeper.search import ParamSelector
from sweeper.show.progress import View, make_view
from sweeper.signature import make_point, script_name
from sweeper.store.collate import collate
from sweeper.store.database import Store, fold_log
from sweeper.store.identity import bind, identify
from sweeper.store.paths import Paths, move_to_history, refuse_links
from sweeper.study import Study
from sweeper.train.context import Brief, DataRef, TrainContext
from sweeper.train.plan import Plan
from sweeper.train.toolchain import check_toolchain
from sweeper.types import Point, Recorded, SweepSettings, Target

EXECUTE = "sweeper.train.job:execute"


def run(reading: Reading, selector: ParamSelector, options: Options) -> SweepResult:
    """Run the sweep of a problem to its end; see `sweep` for what is raised."""
    name = reading.brief.ref.name
    paths = Paths(Path(options.folder) if options.folder is not None else Path("out") / name)
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
        return _run(reading.brief, data, fd, selector, options, store, paths, view)


def _run(
    problem: Brief,
    data: DataRef,
    fd: int | None,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> SweepResult:
    _bind(problem, data, selector, options, store, paths)
    used = slots_used(options.backend, len(options.slots))
    name = _selector_name(selector)
    plain_because = _plain_because(problem, data, options.settings)
    with uncollected():
        recorded = store.recorded(name, log=selector.adaptive)
        _check_toolchains(recorded, options)
        study = Study(
            selector,
            Plan(options.settings, data.n_train, options.seed, plain_because),
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
        source_sha256=problem.source_sha256,
        data=data,
        seed=options.seed,
        threads=options.settings.cores_per_trial,
        curve_samples=options.curve_samples,
        save_models=options.save_models == "final",
        model_path=Paths(paths.folder.resolve()).model_pattern,
        allow_changed_code=options.allow_changed_code,
    )
    target = Target(EXECUTE, context, fd, PRELOAD)
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
    found = {step.payload.get("toolchain", "") for step in recorded.steps.values()}
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
    with Interrupts() as interrupts, _as_worker(options.backend):
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


def _as_worker(backend: str) -> contextlib.AbstractContextManager[None]:
    if backend != "inline":
        return contextlib.nullcontext()
    from sweeper.train.job import as_worker

    return as_worker()


def _bind(
    problem: Brief,
    data: DataRef,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
) -> None:
    """See that the folder is this sweep's, and note who goes on with it."""
    changed = bind(
        store,
        paths,
        identify(problem.ref.name, options.settings, options.seed, options.curve_samples),
        source_sha256=problem.source_sha256,
        data_sha256=data.sha256,
        allow_changed_code=options.allow_changed_code,
    )
    notes = [data.note, *(note for note in store.meta.get("notes", ()) if note != data.note)]
    if changed:
        store.add_event(time.time(), "code_changed", {"sha256": problem.source_sha256})
        if not selector.adaptive:
            store.forget_failures()
        notes.append("the problem's code changed during this sweep, and that was allowed")
    store.set_meta({"notes": list(dict.fromkeys(notes))})
    store.add_event(
        time.time(),
        "opened",
        {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "slots": options.slots,
        },
    )


def _make_point(problem: Brief, options: Options, params: Any) -> Point:
    ref = problem.ref
    point = make_point(params, ref.name, options.settings, options.seed, ref.module)
    problem.check_params(point.params)
    return point


def _selector_name(selector: ParamSelector) -> str:
    """Whose log it is: the same when the script is run again, or imported."""
    kind = type(selector)
    module = kind.__module__
    if module == "__main__":
        module = script_name(sys.modules["__main__"])
    return f"{module}:{kind.__qualname__}"
