"""The `run` command: each option with its help text."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sweeper.cli.command import read_metrics
from sweeper.cli.common import (
    Command,
    TotalCores,
)
from sweeper.cli.execute import Run, execute, execute_detached
from sweeper.cli.resources import (
    Devices,
    DevicesPerTrial,
    DeviceWait,
    MinFreeMemory,
    PerDevice,
    Width,
    read_devices,
    read_width,
)
from sweeper.errors import UsageError
from sweeper.program.spec import RAISE
from sweeper.run.backends import DEFAULT
from sweeper.search.reading.spaces import (
    DEFAULT_TRIALS,
    read_named,
    read_value,
)
from sweeper.search.selectors import SHIPPED
from sweeper.settings import StopWhen


def run(
    context: typer.Context,
    module: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE | -- COMMAND …",
            help="The problem: a dotted name, or the path of a .py file. Or a program: a function, "
            "as pkg.module:name or file.py:name; or, after --, any command.",
            show_default=False,
        ),
    ] = None,
    *,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="NAME=A,B,…", help="Every combination of these values."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=LOW:HIGH",
            help="A range to draw from, LOW:HIGH:log on a logarithmic scale, or choices: A,B,C.",
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option("--points", metavar="N", help="N random points of --range and --grid."),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(
            "--random", metavar="N", help="N random points of --range, as earlier releases drew."
        ),
    ] = None,
    explore: Annotated[
        str | None,
        typer.Option("--explore", metavar="FILE", help="The points of the Explorer in FILE."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Trials per point [default: the module's own `trials`, or {DEFAULT_TRIALS}].",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How far each trial goes, in iterations of a program or learning-rate cycles of a "
            "problem [default: its whole length].",
        ),
    ] = None,
    race: Annotated[
        bool,
        typer.Option(
            "--race",
            help="No more trials for points that are worse than the best; the others get up to "
            "--trials.",
        ),
    ] = False,
    selector: Annotated[
        str | None,
        typer.Option(
            "--selector",
            metavar="NAME",
            help=f"A selector by name: {', '.join(SHIPPED)}, or an installed package's "
            "[default: chosen by the other options].",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of that selector."),
    ] = None,
    cores: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Maximum number of cores for tuning one point. A folder keeps its number, unless "
            "--tuning-inits is given.",
        ),
    ] = 4,
    tuning_inits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Minimum number of initialisations that ranges-* presets average "
            "[default: as many as --cores].",
        ),
    ] = None,
    total_cores: TotalCores = None,
    cores_per_trial: Width = "1",
    devices: Devices = None,
    per_device: PerDevice = 1,
    devices_per_trial: DevicesPerTrial = 1,
    min_free_memory: MinFreeMemory = None,
    device_wait: DeviceWait = 60.0,
    pack: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Train at most N trials of a point together on a core; off: one by one, which "
            "changes the last bits of results.",
        ),
    ] = "auto",
    max_tries: Annotated[
        int,
        typer.Option(
            metavar="N", help="Attempts at a training whose worker dies or runs out of memory."
        ),
    ] = 3,
    stop_after_failures: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Stop once N trials or points have failed [default: never]."
        ),
    ] = None,
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop a training that takes longer, and count it as failed [default: never].",
        ),
    ] = None,
    stop_when: Annotated[
        list[str] | None,
        typer.Option(
            "--stop-when",
            metavar="NAME=N",
            help="Begin nothing new after so many hours, trials or points, or no_better=N points.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Begin nothing new after N minutes."),
    ] = None,
    spare_trials: Annotated[
        bool,
        typer.Option(
            "--spare-trials",
            help="Once all that was asked is running, let idle cores run further trials of the "
            "points with the widest intervals.",
        ),
    ] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME:max|min",
            help="A metric of a program, and which values are better; points are judged by the "
            "first. Of a command also a regular expression, see below.",
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            metavar="raise|record",
            help="What an exception in an iteration of a generator does: the trial fails, or ends "
            "with what it yielded before.",
        ),
    ] = RAISE,
    hparams: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help="Tuning effort: fastest, fast, slow or slowest [default: fast].",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the preset."),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What is tuned, such as lr,batch_size,weight_decay,momentum, or none. What is not "
            "must be given, as by --set lr=0.1 [default: lr,batch_size].",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be run and how long it takes; run nothing."
        ),
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Folder of the sweep [default: out/<problem>]."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Move the folder's contents to history/ first.")
    ] = False,
    allow_changed_code: Annotated[
        bool,
        typer.Option(
            "--allow-changed-code",
            help="Continue although a change of the code may affect results.",
        ),
    ] = False,
    no_models: Annotated[
        bool, typer.Option("--no-models", help="Do not save the trained weights.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            metavar="S", help="Save a trial at a cycle's end once S seconds have passed; 0: always."
        ),
    ] = 60.0,
    curve_samples: Annotated[
        int, typer.Option(metavar="N", help="Points in each trial's curves; 0: none.")
    ] = 40,
    backend: Annotated[
        str,
        typer.Option(metavar="NAME", help="local (workers) or inline (this process, to debug)."),
    ] = DEFAULT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the results as JSON instead of a table.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    redirect: Annotated[
        str | None,
        typer.Option(
            metavar="trial|sweep|both|none",
            help="Where what a program's trials print goes: files of each trial, two files of the "
            "sweep, both, or the workers' logs [default: trial].",
        ),
    ] = None,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Profile each trial of a program, and all together."),
    ] = False,
    record_environment: Annotated[
        bool | None,
        typer.Option(
            "--record-environment/--no-record-environment",
            help="Keep command line, versions, packages and the state of the git repository "
            "[default: of programs].",
        ),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Run it in a process of its own, which goes on when this terminal is closed.",
        ),
    ] = False,
) -> Command:
    """Tune and train every point of a search; the same command resumes it.

    \b
    Examples:
      sweeper run examples.digits --grid hidden=16,64 --grid nonlinearity=Tanh,ReLU
      sweeper run problem.py --points 20 --range hidden=8:128:log --grid act=Tanh,ReLU --trials 5
      sweeper run examples.digits --hparams fastest --set cycles=1 --folder out/quick
      sweeper run examples.digits --grid hidden=2,8,32 --race --trials 30
      sweeper run examples.digits --grid hidden=2,8,32 --detach
      sweeper run examples.digits --explore examples/grids/widths.py --dry-run
      sweeper run examples.digits --grid hidden=2,8,32 --selector race --option margin=0.01
      sweeper run examples.objective:objective --grid rate=1e-4,3e-4 --grid momentum=0,0.9 \\
        --metric log_loss:min
      sweeper run --grid lr=0.1,0.01 --trials 5 --metric 'accuracy ([\\d.]+)' \\
        -- python train.py --lr {lr} --seed {seed}

    A function gets its trial's seed as trial.seed, from a parameter named trial. What stands after
    -- is run once for each trial. {lr} is the value of a parameter; without any such, parameters
    are appended as --name value. {seed}, {trial}, {folder}, {cores} and {budget} are the trial's;
    {{ and }} are braces. The environment has all of these, too (SWEEPER_PARAM_LR, SWEEPER_SEED).
    Metrics are the numbers of the last line that is a JSON object, or of metrics.json in {folder},
    or what regular expressions find, the last match of each:

    \b
      --metric 'accuracy ([\\d.]+)'        named by the last word before the group: accuracy
      --metric 'acc=accuracy ([\\d.]+)'    named acc
      --metric 'acc:max=accuracy ([\\d.]+)', or also --metric acc:max: larger values are better
      --metric '^([\\d.]+)$'               without a word: named value

    Unless it is said, larger values are better of what has acc, accuracy, auc or f1 in its name,
    and smaller ones where it has loss or error.

    A value that looks like an int, a float, true, false or none (null) is read as that, any other
    as text. Quotes make it text, commas included; brackets make a list [16,32], a tuple (16,32) or
    a dict {key: value}. Quote the whole argument for the shell:

    \b
      --grid "act='a,b',c"        two texts: a,b and c
      --grid "sizes=[16,32],[64]" two lists

    NaN is refused, since it equals nothing. Without --grid and --range, the module's own
    `selector` or `points` are used. Progress is printed to standard error, the table (or JSON) to
    standard output.
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    arguments = Run(
        module=module,
        command=context.obj,
        grid=tuple(grid or ()),
        random=random,
        points=points,
        ranges=tuple(ranges or ()),
        explore=explore,
        trials=trials,
        budget=budget,
        race=race,
        selector=selector,
        options=tuple(options or ()),
        seed=seed,
        hparams=hparams,
        tune=tune,
        fields=tuple(settings or ()),
        metrics=read_metrics(metrics or ()),
        on_error=on_error,
        redirect=redirect,
        profile=profile,
        folder=folder,
        as_json=as_json,
        quiet=quiet,
        dry_run=dry_run,
        passed_on={
            "cores": cores,
            "tuning_inits": tuning_inits,
            "total_cores": total_cores,
            "cores_per_trial": read_width(cores_per_trial),
            "devices": read_devices(devices),
            "per_device": per_device,
            "devices_per_trial": devices_per_trial,
            "min_free_memory": min_free_memory,
            "device_wait": device_wait,
            "pack": int(pack) if pack.isdecimal() and len(pack) < 10 else pack,
            "max_tries": max_tries,
            "stop_after_failures": stop_after_failures,
            "trial_timeout": trial_timeout,
            "stop_when": _read_stop_when(stop_when or (), minutes),
            "spare_trials": spare_trials,
            "backend": backend,
            "resume": not no_resume,
            "save_models": "none" if no_models else "final",
            "checkpoint_every": checkpoint_every,
            "curve_samples": curve_samples,
            "allow_changed_code": allow_changed_code,
            "record_environment": record_environment,
        },
    )
    return functools.partial(execute_detached if detach else execute, arguments)


def _read_stop_when(written: Sequence[str], minutes: float | None) -> StopWhen:
    limits = {
        name: read_value(text, f"--stop-when {name}={text}")
        for name, text in read_named("--stop-when", written).items()
    }
    if minutes is None:
        return StopWhen.read(limits)
    if "hours" in limits:
        raise UsageError(
            f"--minutes {minutes:g} and --stop-when hours=… exclude each other: give one of them"
        )
    if not 0 < minutes < math.inf:
        raise UsageError(f"--minutes {minutes:g}: it must be a finite number above 0")
    return StopWhen.read({**limits, "hours": minutes / 60})
