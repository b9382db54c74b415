"""Runs a sweep whose arguments are checked: opens its folder, runs the loop, collates results."""

from __future__ import annotations

import contextlib
import functools
import gc
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.disk.files import current_folder
from sweeper.disk.locking import folder_lock
from sweeper.engine.binding import as_worker, bind_folder, folder_of, point_of
from sweeper.engine.drive import drive
from sweeper.engine.options import Options
from sweeper.errors import DiskError, FolderError, StoppedError, SweepInterrupted
from sweeper.records import Outcome, Target
from sweeper.results import SweepResult
from sweeper.results.history import hold_records
from sweeper.run.backends import make_backend, slots_used
from sweeper.run.environment import Environment
from sweeper.run.machine.cores import packages_of
from sweeper.run.machine.devices import DeviceWatch
from sweeper.run.processes import detached
from sweeper.run.processes.signals import Interrupts
from sweeper.run.scheduler import Scheduler
from sweeper.search import ParamSelector
from sweeper.search.reading.names import names_of
from sweeper.search.shared.reuse import take
from sweeper.show.progress import View, make_view
from sweeper.store.checkpoints import (
    remove_checkpoints,
    remove_empty_folders,
    remove_unfinished,
)
from sweeper.store.database.logs import log_name
from sweeper.store.database.store import Store, fold_log
from sweeper.store.environment import save_environment
from sweeper.store.identity import numerics_of, settings_begun, settings_note
from sweeper.store.paths import Paths, move_to_history, refuse_links
from sweeper.store.refused import Before, leave_nothing
from sweeper.store.results.collate import collate
from sweeper.store.results.load import is_program, read_learned
from sweeper.store.results.spare import remove_unfinished_spares
from sweeper.study import Study
from sweeper.workload import OpenWorkload, TargetOptions, Workload


def run(workload: Workload, selector: ParamSelector, options: Options) -> SweepResult:
    """Run the sweep of a workload to its end; `sweep` documents the errors raised."""
    if options.keep:
        return _run_in(folder_of(workload, options), workload, selector, options)
    with tempfile.TemporaryDirectory(prefix="sweeper-", ignore_cleanup_errors=True) as folder:
        return hold_records(_run_in(Path(folder), workload, selector, options))


def _run_in(
    folder: Path, workload: Workload, selector: ParamSelector, options: Options
) -> SweepResult:
    if not folder.is_absolute() and current_folder() is None:
        raise FolderError(
            f"{folder}: the current folder is gone: change to an existing one, or give an "
            "absolute folder"
        )
    paths = Paths(folder)
    with contextlib.ExitStack() as stack:
        view = stack.enter_context(make_view(options.progress))
        before = Before.of(paths)
        dead = stack.enter_context(folder_lock(paths.lock))
        if dead is not None:
            view.note(f"took over the lock that {dead} left behind")
        refuse_links(paths)
        if not options.resume:
            fold_log(paths.database)
            moved = move_to_history(paths)
            if moved is not None:
                view.note(f"moved the earlier contents to {moved}")
        stack.enter_context(leave_nothing(paths, before))
        if not paths.database.exists():
            workload.expect_tuning()
        opened = workload.open(options.seed, options.settings.cores_per_trial)
        store = stack.enter_context(Store.open(paths.database))
        begun = settings_begun(store, options.settings)
        note = settings_note(paths.folder, options.settings, begun)
        if note:
            view.note(note)
        options = replace(options, settings=begun)
        return _run(workload, opened, selector, options, store, paths, view)


def _run(
    workload: Workload,
    opened: OpenWorkload,
    selector: ParamSelector,
    options: Options,
    store: Store,
    paths: Paths,
    view: View,
) -> SweepResult:
    try:
        bind_folder(opened, selector, options, store, paths, view)
    finally:
        opened.release()
    numerics = numerics_of(store.meta, paths.folder)
    used = slots_used(options.backend, len(options.slots))
    name = log_name(store, names_of(selector))
    with uncollected():
        metrics = opened.metrics
        if is_program(store):
            metrics += read_learned(store, metrics)
        names = [metric.name for metric in metrics]
        recorded = store.recorded(name, log=selector.adaptive, metrics=names)
        payloads = [step.payload for step in recorded.steps.values()]
        opened.check_steps(payloads, allow=options.allow_changed_code)
        study = Study(
            selector,
            opened.planner(options.settings, options.seed),
            functools.partial(point_of, workload, opened, options),
            most_cores=options.tuning_cores,
            slots=used,
            recorded=recorded,
            pack=options.pack,
            limits=options.limits,
            metrics=metrics,
            stop_when=options.stop_when,
            began=time.time(),
            spare_trials=options.spare_trials,
            slot_width=options.settings.cores_per_trial,
        )
        study.opened(paths.folder.resolve())
        take(selector)
        begun = study.begin()
        store.begin(begun, name, keep_log=selector.adaptive, compare_by=selector.compare_by)
    devices = f"; {options.devices.note}" if options.devices else ""
    view.note(
        f"{workload.name} in {paths.folder}: {options.topology.reason}{devices}; {opened.notes[0]}"
    )
    view.update(study.progress())
    detached.confirm(paths.folder, paths.driver_log)
    resolved = Paths(paths.folder.resolve())
    target = opened.target(
        TargetOptions(
            seed=options.seed,
            threads=options.settings.cores_per_trial,
            numerics=numerics,
            model_path=resolved.model_pattern,
            checkpoints=str(resolved.checkpoints),
            logs=str(resolved.logs),
            checkpoint_every=options.checkpoint_every,
            curve_samples=options.curve_samples,
            save_models=options.save_models == "final",
            allow_changed_code=options.allow_changed_code,
            keep_ends=selector.uses_parents,
            devices=options.devices.per_trial if options.devices else 0,
        )
    )
    environment = _environment_of(opened, options, numerics)
    try:
        with (
            as_worker(opened, options, numerics),
            _workers(options, target, paths) as (backend, interrupts),
        ):
            pool = options.devices.pool() if options.devices else None
            scheduler = Scheduler(
                used,
                options.settings.cores_per_trial,
                timeout=options.limits.trial_timeout,
                packages=packages_of(options.topology, options.slots),
                devices=pool,
            )
            interrupted = drive(
                study,
                scheduler,
                backend,
                interrupts,
                store,
                view,
                tidy=functools.partial(
                    _tidy, paths, store, environment, keep_ends=selector.uses_parents
                ),
                devices=DeviceWatch(options.devices, pool) if options.devices and pool else None,
            )
    except DiskError:
        raise  # nothing can be written any more
    except BaseException as error:
        _finish(store, paths, environment, keep_ends=selector.uses_parents)
        if isinstance(error, StoppedError):
            raise StoppedError(f"stopped: {error}. {_kept(study, paths, options)}") from None
        raise
    if study.stop_reason and not interrupted:
        store.set_meta({"stopped": _note_of_stop(study)})
        view.note(_note_of_stop(study))
    results = _finish(store, paths, environment, keep_ends=selector.uses_parents)
    if interrupted:
        raise SweepInterrupted(f"interrupted: {_kept(study, paths, options)}")
    if not study.stop_reason:
        study.check_stalled()
    return results


def _note_of_stop(study: Study) -> str:
    """Why the sweep stopped, as a note of its results."""
    done = study.progress()
    return (
        f"{study.stop_reason}: {done.trials_done} of {done.trials_asked} trials are done; run it "
        "again with a larger stop_when to go on"
    )


def _environment_of(opened: OpenWorkload, options: Options, numerics: int) -> Environment | None:
    """What the sweep runs in, being read; None: that is not to be recorded."""
    of_program = opened.identity.get("workload") == "program"
    wanted = of_program if options.record_environment is None else options.record_environment
    code = Path(opened.code.own.path).parent
    return Environment(code, opened.versions(numerics)) if wanted else None


def _tidy(
    paths: Paths,
    store: Store,
    environment: Environment | None,
    outcomes: Iterable[Outcome],
    *,
    keep_ends: bool,
) -> None:
    """What follows once outcomes are durable."""
    remove_checkpoints(paths, outcomes, keep_ends=keep_ends)
    _save(environment, store, paths)


def _save(
    environment: Environment | None, store: Store, paths: Paths, *, wait: bool = False
) -> None:
    """Store the environment once it is known, or now."""
    texts = None if environment is None else environment.take(wait=wait)
    if texts is not None:
        save_environment(store, paths, texts)


def _finish(
    store: Store, paths: Paths, environment: Environment | None, *, keep_ends: bool
) -> SweepResult:
    """Make the last decisions durable and write the views, however the sweep ended."""
    store.append(())
    _save(environment, store, paths, wait=True)
    remove_unfinished_spares(store, paths, of_program=is_program(store))
    if paths.checkpoints.is_dir():
        # A driver may have been killed before it removed them.
        remove_checkpoints(paths, store.outcomes(arrays=False), keep_ends=keep_ends)
        remove_unfinished(paths)
        remove_empty_folders(paths)
    with uncollected():
        return collate(store, paths)


def _kept(study: Study, paths: Paths, options: Options) -> str:
    """How far a sweep that ended early has come, and how to resume it."""
    done = study.progress()
    trials = f"{done.trials_done} of {done.trials_asked} trials are done"
    if not options.keep:
        return f"{trials}, but not kept, since keep=False"
    return f"{trials} and kept in {paths.folder}; run the same command again to resume"


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Switch off cyclic garbage collection: a folder of a million trials makes no cycles.

    Traversing everything read so far, again and again, would take a fifth of the reading time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():  # else the caller has frozen objects: leave them
                # Move what was read to the oldest generation, which is rarely traversed.
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextlib.contextmanager
def _workers(options: Options, target: Target, paths: Paths) -> Iterator[tuple[Any, Interrupts]]:
    """A backend and its interrupts; on exit no worker is left."""
    with Interrupts() as interrupts:
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
