"""`sweep()`: checks its arguments, and imports the engine while the fork server starts."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from sweeper.errors import SettingsError
from sweeper.importing import UnguardedCall, is_loading
from sweeper.options import Options, check_tuning_inits, read_pack
from sweeper.program.objective import is_objective
from sweeper.program.workload import ProgramWorkload
from sweeper.reading import read_problem, read_program
from sweeper.records import Metric, Params
from sweeper.renamed import accepts_earlier
from sweeper.results import SweepResult
from sweeper.run.backends import DEFAULT
from sweeper.run.cores import slots
from sweeper.run.topology import usable_cores
from sweeper.search import ParamSelector
from sweeper.search.explore import Explorer
from sweeper.search.making import as_selector
from sweeper.settings import HyperparameterSettings, Limits, StopWhen, SweepSettings, get_settings
from sweeper.train.workload import ProblemWorkload

if TYPE_CHECKING:
    from sweeper.preview import Preview
    from sweeper.search.domain import Domain, UpdatedDomain


@accepts_earlier(module_name="module", param_selector="selector", sweep_cores="cores")
def sweep(
    module: ModuleType | str | Path | Callable[..., Any] | ProblemWorkload | ProgramWorkload,
    selector: ParamSelector | Domain | UpdatedDomain | list[Params] | Explorer | str | Path,
    cores: int = 4,
    hparams: str | HyperparameterSettings = "fast",
    folder: str | Path | None = None,
    *,
    trials: int | None = None,
    tuning_inits: int | None = None,
    total_cores: int | None = None,
    cores_per_trial: int = 1,
    seed: int = 0,
    backend: str = DEFAULT,
    resume: bool = True,
    save_models: str = "final",
    checkpoint_every: float = 60.0,
    curve_samples: int = 40,
    pack: int | str = "auto",
    max_tries: int = 3,
    stop_after_failures: int | None = None,
    trial_timeout: float | None = None,
    stop_when: StopWhen | Mapping[str, Any] | None = None,
    progress: bool | None = None,
    allow_changed_code: bool = False,
    metrics: Mapping[str, str] | Sequence[Metric] | None = None,
    detach: bool = False,
    redirect: str | None = None,
    record_environment: bool | None = None,
    profile: bool = False,
) -> SweepResult:
    """Tune every point that `selector` asks for, train its trials, and return the results.

    A program is not tuned: each trial is one call of its objective.  What only a problem has cannot
    be given with it: `cores`, `hparams`, `tuning_inits`, `save_models`, `checkpoint_every`,
    `curve_samples` and `pack`.

    To resume an interrupted sweep, call it again with the same folder.

    Args:
        module: the problem: a module, a dotted name, `__name__`, or the path of a `.py` file; or
            one that `read_problem` has opened.  Or a program: an objective, which is a function or
            a generator function of the parameters in a module or a script, or its name
            `"pkg.module:name"` or `"path.py:name"`.  It gives a number (the metric `value`) or a
            dict of named numbers; a generator yields them for each iteration, and the last count.
            A parameter named `trial` receives a `Trial`.
        selector: decides which points to try; a folder may be resumed with another selector.  Or
            the points themselves: a finite `Domain`, all of whose points are tried, a list, or an
            `Explorer` (or the path of the file that has one).
        cores: maximum number of cores that one point's tuning uses at once.  Unless `tuning_inits`
            is given, it stands for that, too, and is part of the folder's identity, so the default
            never depends on the machine.
        hparams: tuning preset (`"fastest"`, `"fast"`, `"slow"`, `"slowest"`; `"ranges-fast"` and
            so on tune as earlier releases did) or a `HyperparameterSettings`.
        folder: where to store everything; default: `out/<problem name>`, or of a program
            `out/<module>.<name>`.
        trials: number of trials per point; only with a `Domain`, a list of points, or an
            `Explorer` for points that do not say it themselves.
        tuning_inits: with `method="ranges"`, the minimum number of initialisations that a tuning
            stage averages; None: `cores`.  It is part of the folder's identity.
        total_cores: maximum number of physical cores to use; default: all that the process may
            use.
        cores_per_trial: cores, and compute threads, per job.  It changes the last bits of results.
        seed: random seed, 0 or more.
        backend: `"local"` (worker processes) or `"inline"` (this process, for debugging).
        resume: False first moves the folder's contents to `history/`, then starts a new sweep.
        save_models: `"final"` keeps each trial's weights, `"none"` does not.
        checkpoint_every: seconds after which a trial is saved at the end of a learning-rate cycle,
            so that it goes on from there if it is killed; 0: at the end of each.  No result depends
            on it.
        curve_samples: number of points in each trial's curves; 0: no curves.
        pack: `"auto"` trains several trials of a point together on one core where that is faster
            and gives the same results; a number also limits how many, and affects only the time.
            `"off"` trains one by one; since the last bits then differ, it counts as another sweep.
        max_tries: number of attempts at a training whose worker dies or that runs out of memory,
            counted over resumes.  An exception is final at once.
        stop_after_failures: stop once this many trials, or points in tuning, have failed during
            this call; None: never stop.
        trial_timeout: seconds after which a training is stopped and counts as failed; None: no
            limit.  A pack of n trials may take n times as long, after which each goes on alone.
        stop_when: when the sweep has enough, such as `{"hours": 2}`: a `StopWhen` or a mapping of
            its fields; whichever limit comes first.  What runs then is finished, nothing new is
            begun, and the results say why.  The same call with more goes on.
        progress: whether to show progress on standard error; default: True.
        allow_changed_code: continue even if the problem's code has changed and sweeper cannot
            determine whether that affects the folder's results: a problem with `handlers`, points
            tuned by an earlier release, an adaptive selector that was told of results that no
            longer exist.  Where sweeper can determine it, points that behave differently are
            trained anew, and all others are kept.  Failures are tried again, except those that an
            adaptive selector was told of.

        metrics: only with a program: its metrics, such as `{"acc": "maximize", "loss":
            "minimize"}`, or a list of `Metric`.  By the first that has a direction points are
            judged.  Others that trials measure are recorded, too, without a direction.
        detach: run the sweep in a process of its own, which goes on when this one, or its terminal,
            has ended, and return a `SweepFolder` as soon as it has begun; it prints into
            `driver.log` in the folder.  The problem or program must be found by name or file there,
            and the selector must be made of what a module has.
        redirect: only with a program: where what a trial prints goes, and what its child processes
            do.  `"trial"`: into `stdout.txt` and `stderr.txt` in the trial's own folder; `"sweep"`:
            into two such files in the sweep's `logs/`; `"both"`; or `"none"`: into the log of its
            worker.  None: `"trial"`, but `"none"` with `backend="inline"`.
        record_environment: keep the command line, versions, installed packages, and the commit,
            status and differences of the code's git repository, in `sweep.db` and in the folder's
            `environment/`.  Environment variables are not kept.  None: only of a program.
        profile: only with a program: profile each trial (`cProfile`, the thread that calls the
            objective) into `profile.csv` and `profile.pstats` in its folder, and all together into
            `profile.txt` in the sweep's.  Trials take longer.

    Raises:
        UsageError: the problem, the settings, a parameter or the folder is invalid; the message
            says what to change.
        SelectorError: the selector raised, or broke its protocol.
        StalledError: nothing can start, and the selector is not done.
        DiskError: the disk is full, failing or read-only, or the folder is gone; finished work is
            kept.
        StoppedError: too many failures (see `stop_after_failures`), the first three trials all
            failed in the same way, or the disk is full; finished work is on disk.
        SweepInterrupted: Ctrl-C, SIGTERM or SIGHUP; finished work is on disk.
    """
    given = dict(locals())
    if is_loading():
        raise UnguardedCall
    if given.pop("detach"):
        from sweeper.detach import sweep_detached

        return cast("SweepResult", sweep_detached(given))  # the type of all other calls
    of_program = isinstance(module, ProgramWorkload) or is_objective(module)
    if of_program:
        _check_for_program(
            cores=cores,
            hparams=hparams,
            tuning_inits=tuning_inits,
            save_models=save_models,
            checkpoint_every=checkpoint_every,
            curve_samples=curve_samples,
            pack=pack,
        )
    if metrics is not None and isinstance(module, ProgramWorkload):
        raise SettingsError(f"metrics={metrics!r}: this program was opened with its own")
    if metrics is not None and not of_program:
        raise SettingsError(
            f"metrics={metrics!r}: a problem declares its own in its module; metrics= goes with a "
            "program"
        )
    if redirect is not None and (not of_program or isinstance(module, ProgramWorkload)):
        raise SettingsError(f"redirect={redirect!r}: it goes with a program, where it is opened")
    if profile and (not of_program or isinstance(module, ProgramWorkload)):
        raise SettingsError(f"profile={profile!r}: it goes with a program, where it is opened")
    options = _read_options(
        cores=cores,
        hparams=hparams,
        tuning_inits=tuning_inits,
        total_cores=total_cores,
        cores_per_trial=cores_per_trial,
        pack=pack,
        limits=Limits(max_tries, stop_after_failures, trial_timeout),
        stop_when=stop_when,
        seed=seed,
        folder=folder,
        resume=resume,
        backend=backend,
        save_models=save_models,
        checkpoint_every=checkpoint_every,
        curve_samples=curve_samples,
        allow_changed_code=allow_changed_code,
        progress=progress,
        record_environment=record_environment,
    )
    chosen = as_selector(selector, trials, seed)
    with contextlib.ExitStack() as stack:
        workload: ProblemWorkload | ProgramWorkload
        if isinstance(module, ProblemWorkload | ProgramWorkload):
            workload = module
        elif of_program:
            program = read_program(module, backend, metrics, redirect, profile=profile)
            workload = stack.enter_context(program)
        else:
            # An objective is a program, so this is none of the callables.
            workload = stack.enter_context(read_problem(cast("Any", module), backend))
        # This import takes a tenth of a second, during which the fork server imports torch.
        from sweeper.engine import run

        return run(workload, chosen, options)


def _check_for_program(**given: Any) -> None:
    """Refuse arguments that mean nothing for a program.

    Raises:
        SettingsError: one has another value than its default.
    """
    for name, value in given.items():
        usual = inspect.signature(sweep).parameters[name].default
        # A command line gives settings instead of their preset's name.
        if value != usual and not (name == "hparams" and value == get_settings(usual)):
            instead = ": give total_cores= or cores_per_trial=" if name == "cores" else ""
            raise SettingsError(
                f"{name}={value!r:.80}: it means nothing for a program, which is not tuned and "
                f"trains itself{instead}"
            )


def preview(
    workload: ProblemWorkload | ProgramWorkload, selector: ParamSelector, **arguments: Any
) -> Preview:
    """What `sweep` would do with these arguments; nothing is trained or written.

    Raises:
        UsageError: as `sweep`; or the selector is adaptive.
        SelectorError: as `sweep`.
    """
    from sweeper.preview import preview as preview_of

    given = inspect.signature(sweep).bind(workload, selector, **arguments)
    given.apply_defaults()
    asked = given.arguments
    limits = Limits(*(asked.pop(name) for name in _LIMITS))
    for name in ("module", "selector", "trials", "metrics", "detach", "redirect", "profile"):
        del asked[name]
    return preview_of(workload, selector, _read_options(limits=limits, **asked))


_LIMITS = ("max_tries", "stop_after_failures", "trial_timeout")


def _read_options(
    *,
    cores: int,
    hparams: str | HyperparameterSettings,
    tuning_inits: int | None,
    total_cores: int | None,
    cores_per_trial: int,
    pack: int | str,
    stop_when: StopWhen | Mapping[str, Any] | None,
    **others: Any,
) -> Options:
    """The options of `sweep`, checked; `others` are those that are fields of `Options`."""
    most_in_pack = read_pack(pack)
    mode = "off" if pack == "off" else "auto"
    inits = cores if tuning_inits is None else check_tuning_inits(tuning_inits)
    topology = usable_cores(total_cores)
    return Options(
        settings=SweepSettings(get_settings(hparams), inits, cores_per_trial, mode),
        tuning_cores=cores,
        pack=most_in_pack,
        stop_when=StopWhen.read(stop_when),
        slots=slots(topology, cores_per_trial),
        topology=topology,
        **others,
    )
