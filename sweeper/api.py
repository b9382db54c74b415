"""`sweep()`: its arguments checked, and the rest imported while others work."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType

from sweeper.errors import SettingsError
from sweeper.options import Options, check_tuning_inits, read_pack
from sweeper.reading import read_problem
from sweeper.renamed import accepts_earlier
from sweeper.results import SweepResult
from sweeper.run.backends import DEFAULT
from sweeper.run.cores import slots
from sweeper.run.topology import usable_cores
from sweeper.search import ParamSelector
from sweeper.settings import HyperparameterSettings, Limits, SweepSettings, get_settings
from sweeper.train.problem.importing import UnguardedCall, is_loading
from sweeper.train.workload import ProblemWorkload


@accepts_earlier(module_name="module", param_selector="selector", sweep_cores="cores")
def sweep(
    module: ModuleType | str | Path | ProblemWorkload,
    selector: ParamSelector,
    cores: int = 4,
    hparams: str | HyperparameterSettings = "fast",
    folder: str | Path | None = None,
    *,
    tuning_inits: int | None = None,
    total_cores: int | None = None,
    cores_per_trial: int = 1,
    seed: int = 0,
    backend: str = DEFAULT,
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
        cores: the most cores that tuning one point occupies at once.  Where `tuning_inits` is not
            given, it stands for that, too, as it always has: so it belongs to what a folder is, and
            is never taken from the machine.
        hparams: a preset (`"fastest"`, `"fast"`, `"slow"`, `"slowest"`; `"ranges-fast"` and so on
            tune as earlier releases did) or settings.
        folder: where everything is kept; by default `out/<problem name>`.
        tuning_inits: with `method="ranges"`, how many initialisations a stage of tuning averages at
            least; None: as many as `cores`.  It belongs to what a folder is.
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
        allow_changed_code: go on where the problem's code has changed and nobody can tell whether
            that concerns the results of the folder: a problem with `handlers`, points that an
            earlier release tuned, an adaptive selector that was told of results that are no more.
            Where it can be told, points that behave otherwise are trained anew, and all others
            stay.  Failures are tried again, except those that an adaptive selector was told of.

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
    most_in_pack = read_pack(pack)
    mode = "off" if pack == "off" else "auto"
    inits = cores if tuning_inits is None else check_tuning_inits(tuning_inits)
    settings = SweepSettings(get_settings(hparams), inits, cores_per_trial, mode)
    limits = Limits(max_tries, stop_after_failures, trial_timeout)
    topology = usable_cores(total_cores)
    options = Options(
        settings=settings,
        tuning_cores=cores,
        seed=seed,
        folder=folder,
        resume=resume,
        backend=backend,
        save_models=save_models,
        curve_samples=curve_samples,
        pack=most_in_pack,
        slots=slots(topology, cores_per_trial),
        topology=topology,
        allow_changed_code=allow_changed_code,
        limits=limits,
        progress=progress,
    )
    _check_selector(selector)
    with contextlib.ExitStack() as stack:
        workload = (
            module
            if isinstance(module, ProblemWorkload)
            else stack.enter_context(read_problem(module, backend))
        )
        # Takes a tenth of a second, in which a fork server imports torch.
        from sweeper.engine import run

        return run(workload, selector, options)


def _check_selector(selector: object) -> None:
    if not isinstance(selector, ParamSelector):
        raise SettingsError(
            f"selector={selector!r} is a {type(selector).__name__}: pass a ParamSelector, such as "
            "Grid(trials=10, hidden=[16, 64]) or FixedSweep.with_fixed_trials(points, 10)"
        )
