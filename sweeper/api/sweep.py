"""`sweep()`: what it takes; the fork server starts before what reads it is imported.

The file is long because it explains every argument of `sweep()`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sweeper.api.detaching import detaching
from sweeper.api.early import start_early
from sweeper.code.importing import UnguardedCall, is_loading
from sweeper.renamed import OF_RESEARCH, accepts_earlier, refuses_earlier
from sweeper.run.backends import DEFAULT
from sweeper.settings import TUNING_CORES

if TYPE_CHECKING:
    from sweeper.api.folder import SweepFolder
    from sweeper.engine.preview import Preview
    from sweeper.program.command.command import Command
    from sweeper.program.workload import ProgramWorkload
    from sweeper.records import Metric, Params
    from sweeper.results import SweepResult
    from sweeper.run.widths import Width
    from sweeper.search import ParamSelector
    from sweeper.search.domain import Domain, UpdatedDomain
    from sweeper.search.explore import Explorer
    from sweeper.settings import HyperparameterSettings, StopWhen
    from sweeper.train.workload import ProblemWorkload


@detaching
@refuses_earlier(**OF_RESEARCH)
@accepts_earlier(module_name="module", param_selector="selector", sweep_cores="cores")
def sweep(
    module: ModuleType
    | str
    | Path
    | Callable[..., Any]
    | Command
    | ProblemWorkload
    | ProgramWorkload,
    selector: ParamSelector | Domain | UpdatedDomain | list[Params] | Explorer | str | Path,
    cores: Width = TUNING_CORES,
    hparams: str | HyperparameterSettings | None = None,
    folder: str | Path | None = None,
    *,
    trials: int | None = None,
    budget: int | None = None,
    tuning_inits: int | None = None,
    total_cores: int | None = None,
    cores_per_trial: Width = 1,
    devices: int | Sequence[str | int] | None = None,
    per_device: int = 1,
    devices_per_trial: int = 1,
    min_free_memory: int | str | None = None,
    device_wait: float = 60.0,
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
    spare_trials: bool = False,
    progress: bool | None = None,
    allow_changed_code: bool = False,
    metrics: Mapping[str, str] | Sequence[Metric] | None = None,
    on_error: str = "raise",
    detach: bool = False,
    keep: bool = True,
    redirect: str | None = None,
    record_environment: bool | None = None,
    profile: bool = False,
) -> SweepResult | SweepFolder:
    """Tune every point that `selector` asks for, train its trials, and return the results.

    A program is not tuned: each trial is one call of its objective, or one run of its command.
    What only a problem has cannot be given with it: `cores`, `hparams`, `tuning_inits`,
    `save_models`, `checkpoint_every`, `curve_samples` and `pack`.

    To resume an interrupted sweep, call it again with the same folder.

    Args:
        module: the problem: a module, a dotted name, `__name__` (also in a notebook, where workers
            get a copy of it), or the path of a `.py` file; or one that `read_problem` has opened.
            Or a program: an objective, which is a function or a generator function of the
            parameters in a module or a script, or its name `"pkg.module:name"` or `"path.py:name"`.
            It gives a number (the metric `value`) or a dict of named numbers; a generator yields
            them for each iteration, and the last count.  A parameter named `trial` receives a
            `Trial`.  Or a `Command`: any executable.
        selector: decides which points to try; a folder may be resumed with another selector.  Or
            the points themselves: a finite `Domain`, all of whose points are tried, a list, or an
            `Explorer` (or the path of the file that has one).
        cores: maximum number of cores that one point's tuning uses at once.  Unless `tuning_inits`
            is given, it stands for that, too, and is part of the folder's identity, so the default
            never depends on the machine.  Of a program: a function or a name, as `cores_per_trial`.
        hparams: tuning preset (`"fastest"`, `"fast"`, `"slow"`, `"slowest"`; `"ranges-fast"` and
            so on tune as earlier releases did) or a `HyperparameterSettings`; default: `"fast"`.
        folder: where to store everything; default: `out/<problem name>`, or of a program
            `out/<module>.<name>`, of a command `out/<script>`.
        trials: number of trials per point; only with a `Domain`, a list of points, or an
            `Explorer` for points that do not say it themselves.
        budget: how far each trial goes, in iterations of a program or learning-rate cycles of a
            problem; only with a `Domain` or a list of points.  None: its whole length.
        tuning_inits: with `method="ranges"`, the minimum number of initialisations that a tuning
            stage averages; None: `cores`.  It is part of the folder's identity.
        total_cores: maximum number of physical cores to use; default: all that the process may
            use.
        cores_per_trial: cores, and compute threads, per job.  It changes the last bits of results.
            With a program each point may have its own: a function of its parameters that gives a
            number, or the name of a parameter that has it.
        devices: only with a program: GPUs to deal out to trials, as a number or a list such as
            `["cuda:0", "cuda:1"]`.  A trial sees its own alone (`CUDA_VISIBLE_DEVICES`,
            `trial.devices`).
        per_device: how many trials may share a device.
        devices_per_trial: how many devices each trial gets.
        min_free_memory: bytes that a device must have free when a trial gets it, or a text such as
            `"4 GiB"`; trials wait until one has.
        device_wait: seconds to wait while no device has `min_free_memory` and no trial runs.
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
        spare_trials: whether idle cores run further trials once all that was asked is running: each
            goes to the point with the widest interval.  They delay nothing, change no decision and
            end with the sweep; those that have ended count among the point's trials, and a note
            says how many, which depends on time and cores.
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
        on_error: only with a program: what an exception in one iteration of a generator does.
            `"raise"`: the trial fails.  `"record"`: the trial ends there, with what it yielded
            before as its result, and the exception is stored with it; a note counts them.
        detach: run the sweep in a process of its own, which goes on when this one, or its terminal,
            has ended, and return a `SweepFolder` as soon as it has begun; it prints into
            `driver.log` in the folder.  The selector must be made of what a module has.
        keep: False for a sweep that leaves no files: it runs in a temporary folder, and the results
            have histories and artifacts in memory.  It cannot be resumed.
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
        BackendError: workers cannot be started, or no device had `min_free_memory` for
            `device_wait` seconds; finished work is kept.
        StoppedError: too many failures (see `stop_after_failures`), the first three trials all
            failed in the same way, or the disk is full; finished work is on disk.
        SweepInterrupted: Ctrl-C, SIGTERM or SIGHUP; finished work is on disk.
    """
    given = dict(locals())
    if is_loading():
        raise UnguardedCall
    if given.pop("detach"):
        from sweeper.api.detach import sweep_detached

        return sweep_detached(given)
    given["module"] = start_early(module, backend)
    # This import takes a tenth of a second, during which the fork server imports torch.
    from sweeper.api.arguments import run_sweep

    return run_sweep(given, _usual())


def _usual() -> dict[str, Any]:
    """The defaults of `sweep`, by name."""
    return {name: each.default for name, each in inspect.signature(sweep).parameters.items()}


def preview(
    workload: ProblemWorkload | ProgramWorkload, selector: ParamSelector, **arguments: Any
) -> Preview:
    """What `sweep` would do with these arguments; nothing is trained or written.

    Raises:
        UsageError: as `sweep`; or the selector is adaptive.
        SelectorError: as `sweep`.
    """
    from sweeper.api.arguments import preview_sweep

    given = inspect.signature(sweep).bind(workload, selector, **arguments)
    given.apply_defaults()
    return preview_sweep(given.arguments)
