"""The `run` command: runs a sweep.

Imports inside functions are late on purpose: the fork server imports torch meanwhile.  The file is
long because each option is declared with its help text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeper.cli.command import Metrics, read_metrics
from sweeper.cli.common import (
    FAILED,
    Command,
    TotalCores,
    print_results,
    say,
)
from sweeper.cli.manual import how_to_add
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
from sweeper.cli.steer import how_to_steer
from sweeper.errors import SettingsError, UsageError, suggestion
from sweeper.files import current_folder
from sweeper.importing import is_path
from sweeper.program import command as program
from sweeper.program.objective import is_objective
from sweeper.program.spec import RAISE
from sweeper.program.workload import ProgramWorkload
from sweeper.run.backends import DEFAULT
from sweeper.search.selectors import SHIPPED
from sweeper.search.selectors.manual import ManualSearch
from sweeper.search.selectors.race import Race
from sweeper.search.spaces import (
    DEFAULT_TRIALS,
    Space,
    choose_selector,
    race_of,
    read_named,
    read_value,
)
from sweeper.settings import HyperparameterSettings, StopWhen, get_settings
from sweeper.show.clean import clean
from sweeper.show.export import json_text
from sweeper.store.database import Store
from sweeper.store.paths import Paths
from sweeper.train.workload import ProblemWorkload


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
        typer.Option("--explore", metavar="FILE", help="The points of a grid that is a program."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Trials per point [default: the module's own `trials`, or {DEFAULT_TRIALS}].",
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

    What stands after -- is run once for each trial. {lr} is the value of a parameter; without any
    such, parameters are appended as --name value. {seed}, {trial}, {folder}, {cores} and {budget}
    are the trial's; {{ and }} are braces. The environment has all of these, too (SWEEPER_PARAM_LR,
    SWEEPER_SEED). Metrics are the numbers of the last line that is a JSON object, or of
    metrics.json in {folder}, or what regular expressions find, the last match of each:

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
        program=explore,
        trials=trials,
        race=race,
        selector=selector,
        options=tuple(options or ()),
        seed=seed,
        hparams=hparams,
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


@dataclass(frozen=True, slots=True)
class Run:
    """The arguments of `run`, as given."""

    module: str | None
    command: tuple[str, ...] | None
    """What stands after `--`."""
    grid: tuple[str, ...]
    random: int | None
    points: int | None
    ranges: tuple[str, ...]
    program: str | None
    trials: int | None
    race: bool
    selector: str | None
    options: tuple[str, ...]
    seed: int
    hparams: str | None
    fields: tuple[str, ...]
    metrics: Metrics
    """Of a program."""
    on_error: str
    redirect: str | None
    profile: bool
    folder: Path | None
    as_json: bool
    quiet: bool
    dry_run: bool
    passed_on: dict[str, Any]
    """Passed to `sweep` unchanged."""


def execute(arguments: Run) -> int:
    """Run the sweep; returns the exit code."""
    if arguments.module is not None:
        look_in_current_folder(arguments.module)
    settings = _read_settings(arguments.hparams, arguments.fields)
    space = Space.read(
        arguments.grid,
        arguments.random,
        arguments.ranges,
        arguments.trials,
        arguments.seed,
        arguments.selector,
        arguments.options,
        arguments.points,
        arguments.program,
    )
    with _opened(arguments) as reading:
        import sweeper.engine  # noqa: F401 - needed next; the fork server imports torch meanwhile
        from sweeper.api import preview, sweep

        name = reading.name
        if isinstance(reading, ProgramWorkload):
            # Which parameters it takes is checked with the first point.
            selector = choose_selector(space, name, reading.module, None, _nothing_own)
        else:
            problem = reading.spec
            known, search = problem.routes.known, problem.search
            selector = choose_selector(space, name, reading.module, known, search)
        if arguments.race:
            selector = race_of(selector, name)
        folder = arguments.folder or Path("out") / name
        given: dict[str, Any] = {"hparams": settings, "folder": folder, "seed": arguments.seed}
        if arguments.dry_run:
            say(clean(str(preview(reading, selector, **given, **arguments.passed_on))))
            return 0
        if isinstance(selector, ManualSearch) and not arguments.quiet:
            say(clean(f"waiting for points: {how_to_add(folder)}"), sys.stderr)
        results = sweep(
            reading,
            selector,
            **given,
            progress=False if arguments.quiet else None,
            **arguments.passed_on,
        )
    files = f"files are in {folder}; load them with sweeper.load({str(folder)!r})"
    if arguments.as_json:
        with Store.read(Paths(folder).database) as store:
            sys.stdout.write(json_text(store.meta["identity"], results))
        if not arguments.quiet:
            say(clean(files), sys.stderr)
    else:
        print_results(results, folder)
        if isinstance(selector, Race):
            say(clean(f"race:\n{selector.summary()}"))
        say(clean(files))
    return FAILED if results.failures else 0


def execute_detached(arguments: Run) -> int:
    """Run the sweep in a process of its own; returns when it has begun."""
    for given, option in ((arguments.dry_run, "--dry-run"), (arguments.as_json, "--json")):
        if given:
            raise UsageError(f"--detach: {option} prints what nobody would wait for: give only one")
    from sweeper.run import detached

    folder = detached.start("sweeper.cli:run_here", (arguments,))
    if not arguments.quiet:
        say(clean(f"the sweep in {folder} has begun and goes on. {how_to_steer(folder)}"))
    return 0


def _opened(
    arguments: Run,
) -> contextlib.AbstractContextManager[ProblemWorkload | ProgramWorkload]:
    """The problem or program, being read.

    Raises:
        UsageError: it cannot be found, or an option means nothing for it.
    """
    from sweeper.reading import read_problem, read_program

    given, backend = _given(arguments), arguments.passed_on["backend"]
    metrics = arguments.metrics
    if isinstance(given, str) and not is_objective(given):
        if metrics.directions is not None:
            raise UsageError(
                f"--metric {next(iter(metrics.directions))}: a problem declares its metrics in its "
                "module; --metric goes with a program, pkg.module:name"
            )
        if arguments.redirect is not None:
            raise UsageError(f"--redirect {arguments.redirect}: it goes with a program")
        if arguments.profile:
            raise UsageError("--profile: it goes with a program")
        if arguments.on_error != RAISE:
            raise UsageError(
                f"--on-error {arguments.on_error}: it goes with a program, pkg.module:name"
            )
        return read_problem(given, backend)
    if arguments.race:
        raise UsageError(
            "--race: it compares perf_val, which a program does not have: give --selector race "
            "--option metric=NAME --option direction=maximize or minimize"
        )
    asked = {name: getattr(arguments, name) for name in ("on_error", "redirect", "profile")}
    return read_program(given, backend, metrics.directions, **asked)


def _given(arguments: Run) -> str | program.Command:
    """The module, or the command.

    Raises:
        UsageError: there is neither, or both, or an option that goes with the other.
    """
    patterns = arguments.metrics.patterns
    if arguments.command is None:
        if arguments.module is None:
            raise UsageError(
                "what to sweep is missing: give MODULE, or a command after --; "
                "see sweeper run --help"
            )
        if patterns is not None:
            raise UsageError(
                f"--metric {next(iter(patterns.values()))}: a regular expression reads what a "
                "command prints: it goes with a command after --"
            )
        return arguments.module
    if arguments.module is not None:
        raise UsageError(
            f"{arguments.module} and a command after -- exclude each other: give one of them"
        )
    if not arguments.quiet:
        for name in arguments.metrics.guessed:
            better = (arguments.metrics.directions or {})[name]
            other = "min" if better == "maximize" else "max"
            said = f"{name}: {better}, as its name says; --metric {name}:{other} says otherwise"
            say(clean(said), sys.stderr)
    return program.Command(arguments.command, patterns)


def _nothing_own() -> Mapping[str, Any]:
    """The search of a program's module: it has none.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        "nothing says what to try: give --grid name=a,b, --points N with --range name=low:high, or "
        "--explore FILE"
    )


def look_in_current_folder(module: str) -> None:
    """Look for modules in the current folder, as `python -m` does.

    Only `run` does so: commands that read a folder must not import modules that lie in it.
    """
    here = current_folder()
    if here is None or sys.path[:1] == [str(here)]:
        return
    if is_objective(module):
        module = module.rpartition(":")[0]
    if is_path(module) and Path(module).resolve().parent != here:
        # A script in another folder must not import modules of the current one by accident.
        sys.path.append(str(here))
    else:
        sys.path.insert(0, str(here))


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


def _read_settings(preset: str | None, written: Sequence[str]) -> HyperparameterSettings | None:
    """The settings of --hparams and --set; None: neither is given."""
    if preset is None and not written:
        return None
    settings = get_settings(preset)
    known = [field.name for field in dataclasses.fields(settings)]
    changes = read_named("--set", written)
    for name in changes:
        if name not in known:
            raise SettingsError(
                f"--set {name}: no such field{suggestion(name, known)}; the fields are "
                f"{', '.join(known)}"
            )
    return dataclasses.replace(
        settings,
        **{name: read_value(text, f"--set {name}={text}") for name, text in changes.items()},
    )
