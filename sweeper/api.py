"""`sweep()`: its arguments checked, the folders joined, and the results collated."""

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
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.drive import drive
from sweeper.errors import DiskError, SettingsError, StoppedError, SweepInterrupted
from sweeper.files import folder_lock
from sweeper.reading import PRELOAD, Reading, read_problem
from sweeper.results import SweepResult
from sweeper.run.backends import make_backend, slots_used
from sweeper.run.cores import slots as core_slots
from sweeper.run.scheduler import Scheduler
from sweeper.run.signals import Interrupts
from sweeper.run.topology import Topology, usable_cores
from sweeper.search import ParamSelector
from sweeper.show.progress import View, make_view
from sweeper.signature import make_point, script_name
from sweeper.store.collate import collate
from sweeper.store.database import Store, fold_log
from sweeper.store.identity import bind, identify
from sweeper.store.paths import Paths, move_to_history, refuse_links
from sweeper.study import Study
from sweeper.train.context import Brief, DataRef, TrainContext
from sweeper.train.loading import UnguardedCall, is_loading
from sweeper.train.plan import Plan
from sweeper.train.toolchain import check_toolchain
from sweeper.types import (
    HyperparameterSettings,
    Limits,
    Point,
    Recorded,
    SweepSettings,
    Target,
    get_settings,
)

EXECUTE = "sweeper.train.job:execute"
SAVE_MODELS = ("final", "none")

MOST_OF_EACH = 100_000
"""More points of a curve, or initialisations of a stage, are a slip of the finger."""

MOST_IN_PACK = 32
"""Beyond it a step takes longer in proportion, and less is left to share among cores."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The arguments of `sweep`, checked."""

    settings: SweepSettings
    seed: int
    backend: str
    save_models: str
    curve_samples: int
    pack: int
    """The most trials in a pack."""
    slots: tuple[tuple[int, ...], ...]
    topology: Topology
    allow_changed_code: bool
    limits: Limits


def sweep(
    module: ModuleType | str | Path | Reading,
    selector: ParamSelector,
    cores: int = 4,
    hparams: str | HyperparameterSettings = "fast",
    folder: str | Path | None = None,
    *,
    total_cores: int | None = None,
    cores_per_trial: int = 1,
    seed: int = 0,
    backend: str = "local",
    resume: bool = True,
    save_models: str = "final",
    curve_samples: int = 40,
    pack: int | str = "auto",
    max_tries: int = 3,
    stop_after_failures: int | None = None,
    trial_timeout: float | None = None,
    progress: bool | None = None,
    allow_changed_code: bool = False,
) -> SweepResult:
    """Tune every point that `selector` asks for, train its trials, and return what came of it.

    A sweep that was interrupted goes on where it was when it is called again with the same folder.

    Args:
        module: the problem: a module, a dotted name, `__name__`, or the path of a `.py` file; or
            one that `read_problem` has opened.
        selector: decides what to try; it may be another one than before in the same folder.
        cores: how many initialisations a stage of tuning averages at least, and the most cores
            that one point's tuning occupies at once.  It changes results, so it is never taken
            from the machine.
        hparams: a preset (`"fastest"`, `"fast"`, `"slow"`, `"slowest"`) or settings.
        folder: where everything is kept; by default `out/<problem name>`.
        total_cores: the most physical cores to use; by default all that the process may use.
        cores_per_trial: the cores, and compute threads, of each job.  It changes the last bits.
        seed: of everything random; 0 or more.
        backend: `"local"` (worker processes) or `"inline"` (this process, for debugging).
        resume: False moves what the folder holds to `history/` first.
        save_models: `"final"` keeps each trial's weights, `"none"` does not.
        curve_samples: points of each trial's curves; 0 for none.
        pack: `"auto"` trains trials of a point together on a core where that is faster and gives
            the same results, a number also limits how many; `"off"` trains one by one.  `"off"`
            is another sweep, since the last bits differ; a number changes nothing but the time.
        max_tries: how often a training is begun over which its worker dies, or for which there is
            no memory; counted over resumes.  An exception is final at once.
        stop_after_failures: stop once so many trials, or points in tuning, have failed since this
            call; None: never.
        trial_timeout: seconds after which a training is ended and has failed; None: never.  A pack
            of n trials may take n times as long, after which each goes on alone.
        progress: True shows it, False does not; by default it is shown on standard error.
        allow_changed_code: go on in a folder although the problem's module has changed; failures
            are tried again, except those that an adaptive selector was told of.

    Raises:
        UsageError: the problem, the settings, a parameter or the folder is not as it must be; the
            message says what to change.
        SelectorError: the selector raised, or broke its protocol.
        StalledError: nothing can start, and the selector is not done.
        DiskError: the disk is full, failing or read-only, or the folder is gone; what had finished
            is kept.
        StoppedError: too much failed (see `stop_after_failures`), the first three trials all failed
            alike, or the disk is full; what had finished is on disk.
        SweepInterrupted: Ctrl-C, SIGTERM or SIGHUP; what had finished is on disk.
    """
    if is_loading():
        raise UnguardedCall
    most_in_pack = _read_pack(pack)
    way = "off" if pack == "off" else "auto"
    settings = SweepSettings(get_settings(hparams), cores, cores_per_trial, way)
    limits = Limits(max_tries, stop_after_failures, trial_timeout)
    topology = usable_cores(total_cores)
    slots = core_slots(topology, cores_per_trial)
    options = _Options(
        settings,
        seed,
        backend,
        save_models,
        curve_samples,
        most_in_pack,
        slots,
        topology,
        allow_changed_code,
        limits,
    )
    _check(options, selector)
    with contextlib.ExitStack() as stack:
        reading = (
            module
            if isinstance(module, Reading)
            else stack.enter_context(read_problem(module, backend))
        )
        name = reading.brief.ref.name
        paths = Paths(Path(folder) if folder is not None else Path("out") / name)
        view = stack.enter_context(make_view(progress))
        dead = stack.enter_context(folder_lock(paths.lock))
        if dead is not None:
            view.note(f"took over the lock that {dead} left behind")
        refuse_links(paths)
        if not resume:
            fold_log(paths.database)
            moved = move_to_history(paths)
            if moved is not None:
                view.note(f"moved the earlier contents to {moved}")
        if not paths.database.exists():
            reading.expect_tuning()
        data, fd = reading.read_data(seed)
        store = stack.enter_context(Store.open(paths.database))
        return _run(reading.brief, data, fd, selector, options, store, paths, view)


def _read_pack(pack: object) -> int:
    if pack == "auto":
        return MOST_IN_PACK
    if pack == "off":
        return 1
    if isinstance(pack, bool) or not isinstance(pack, int) or pack < 1:
        raise SettingsError(f"pack={pack!r}: choose 'auto', 'off' or a whole number, 1 or more")
    return min(pack, MOST_IN_PACK)


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


def _check(options: _Options, selector: object) -> None:
    if not isinstance(selector, ParamSelector):
        raise SettingsError(
            f"selector={selector!r} is a {type(selector).__name__}: pass a ParamSelector, such as "
            "Grid(trials=10, hidden=[16, 64]) or FixedSweep.with_fixed_trials(points, 10)"
        )
    if isinstance(options.seed, bool) or not isinstance(options.seed, int) or options.seed < 0:
        raise SettingsError(f"seed={options.seed!r}: it must be a whole number, 0 or more")
    samples = options.curve_samples
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
        raise SettingsError(f"curve_samples={samples!r}: it must be a whole number, 0 or more")
    for name, value in (("curve_samples", samples), ("cores", options.settings.cores)):
        if value > MOST_OF_EACH:
            raise SettingsError(f"{name}={value!r:.40}: it must be at most {MOST_OF_EACH:,}")
    if options.save_models not in SAVE_MODELS:
        choices = " or ".join(repr(choice) for choice in SAVE_MODELS)
        raise SettingsError(f"save_models={options.save_models!r}: choose {choices}")
    slots_used(options.backend, 1)
    if options.limits.trial_timeout is not None and options.backend == "inline":
        raise SettingsError(
            f"trial_timeout={options.limits.trial_timeout!r}: backend='inline' cannot end a "
            "training: use 'local'"
        )


def _run(
    problem: Brief,
    data: DataRef,
    fd: int | None,
    selector: ParamSelector,
    options: _Options,
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


def _check_toolchains(recorded: Recorded, options: _Options) -> None:
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
            gc.enable()


@contextlib.contextmanager
def _workers(options: _Options, target: Target, paths: Paths) -> Iterator[tuple[Any, Interrupts]]:
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
    options: _Options,
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


def _make_point(problem: Brief, options: _Options, params: Any) -> Point:
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
