"""The command line: arguments in, `api`, `store` and `show` joined.

Exit codes: 0 all is well, 1 something failed, 2 wrong usage, 130 interrupted.  torch is imported
by `run` only, and there as late as possible, so that everything else answers at once.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import itertools
import os
import platform
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TextIO, TypeAlias

import typer
from rich.console import Console

from sweeper import __version__
from sweeper.errors import (
    FolderError,
    ProblemError,
    SelectorError,
    SettingsError,
    SweeperError,
    UsageError,
)
from sweeper.files import current_folder, open_standard_streams, unpack_arrays
from sweeper.locking import folder_lock
from sweeper.results import SweepResult
from sweeper.search.spaces import (
    DEFAULT_TRIALS,
    Space,
    modules_own,
    race_of,
    read_named,
    read_value,
    suggestion,
)
from sweeper.settings import HyperparameterSettings, get_settings
from sweeper.show.clean import clean
from sweeper.show.code import code_difference
from sweeper.show.doctor import Examined, judge
from sweeper.show.export import json_text
from sweeper.show.status import describe_status
from sweeper.show.table import failure_lines, failures_in_full, findings, plural, results_table
from sweeper.store.collate import collate, csv_text
from sweeper.store.database import Store
from sweeper.store.load import load, read_results
from sweeper.store.paths import Paths
from sweeper.store.sources import read_code_history
from sweeper.store.status import read_status
from sweeper.train.problem.importing import is_path

FAILED, WRONG, INTERRUPTED = 1, 2, 130
BROKEN_PIPE = 128 + 13
"""As a shell reports a program that ended because its reader had (`| head`)."""

Command: TypeAlias = Callable[[], int]
"""What a command line comes to; gives the exit code."""

app = typer.Typer(
    name="sweeper",
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: it keeps the examples' lines, and costs nothing to show.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# How a command line is written wrongly: this class's place differs between versions of typer.
_WrittenWrong: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """The entry point of `sweeper` and of `python -m sweeper`."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a result is worth more than its ± sign
    try:
        code = _run_command_line(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter would write what is left once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            code = BROKEN_PIPE
        else:
            code = _complain(f"standard output: {error.strerror or error}", FAILED)
    sys.exit(code)


def _open_streams() -> None:
    """Lose what is printed where standard output or standard error is closed (`>&-`)."""
    open_standard_streams()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w", closefd=False))  # noqa: SIM115 - open to the end


def _run_command_line(arguments: Sequence[str]) -> int:
    try:
        # Commands are only read here and executed below, where no other layer answers for errors.
        command = app(list(arguments), prog_name="sweeper", standalone_mode=False)
        return command() if callable(command) else int(command or 0)
    except _WrittenWrong as error:
        return _complain(_explain_writing(error), WRONG)
    except KeyboardInterrupt as error:  # SweepInterrupted is one
        return _complain(str(error) or "interrupted", INTERRUPTED)
    except UsageError as error:
        place = _place(error.__cause__) if isinstance(error, ProblemError) else ""
        return _complain(f"{error}{place}", WRONG)
    except SweeperError as error:
        if isinstance(error, SelectorError) and error.__cause__ is not None:
            _say(clean(_own_traceback(error.__cause__)).rstrip(), sys.stderr)
        return _complain(str(error), FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(str(error), FAILED)


def _say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(f"{text}\n")


def _complain(message: str, code: int) -> int:
    _say(f"sweeper: {clean(message)}", sys.stderr)
    return code


def _explain_writing(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sweeper"
    message = getattr(error, "format_message", error.__str__)()
    return f"{' '.join(message.split())} (see {command} --help)"


_HERE = str(Path(__file__).parents[1])  # the folder of the package


def _own_traceback(error: BaseException) -> str:
    """The traceback from the first line on that is not sweeper's."""
    found = error.__traceback__
    while found is not None and _is_ours(found) and found.tb_next is not None:
        found = found.tb_next
    return "".join(traceback.format_exception(type(error), error, found))


def _is_ours(found: TracebackType) -> bool:
    return found.tb_frame.f_code.co_filename.startswith(_HERE)


def _place(cause: BaseException | None) -> str:
    """Where in the user's own code it was raised, as a remark."""
    libraries = (_HERE, "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib")))
    if cause is None:
        return ""
    # One that was raised in another process has brought along where that was.
    frames = getattr(cause, "frames", None) or traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


# -- the commands ---------------------------------------------------------------------------------


def _print_version(value: bool) -> None:
    if value:
        _say(f"sweeper {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _sweeper(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option("--version", help="Say the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> Command:
    """Compare architectures fairly, on every core of this machine.

    \b
    Examples:
      sweeper run examples.digits --grid hidden=8,32 --grid nonlinearity=Tanh,ReLU --trials 4
      sweeper status out/digits
      sweeper show out/digits
      sweeper export out/digits --format csv --output digits.csv
      sweeper doctor

    \b
    Exit codes: 0 all is well, 1 some trials failed, 2 wrong usage, 130 interrupted.
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    if context.invoked_subcommand is None:
        _say(context.get_help())
        return lambda: WRONG
    return lambda: 0


@app.command("run", short_help="Sweep a problem, or go on where it was.")
def _command_run(
    module: Annotated[
        str,
        typer.Argument(
            metavar="MODULE", help="The problem: a dotted name, or the path of a .py file."
        ),
    ],
    *,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="NAME=A,B,…", help="Every combination of these values."),
    ] = None,
    random: Annotated[
        int | None,
        typer.Option("--random", metavar="N", help="N points at random from the ranges."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", metavar="NAME=LOW:HIGH", help="A range for --random, or choices: NAME=A,B,C."
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Trials of each point [default: the module's own `trials`, or {DEFAULT_TRIALS}].",
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
    cores: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Initialisations averaged in tuning, and the most cores that tuning one point "
            "takes. It changes results.",
        ),
    ] = 4,
    total_cores: Annotated[
        int | None,
        typer.Option(metavar="N", help="The most cores to use [default: all there are]."),
    ] = None,
    cores_per_trial: Annotated[int, typer.Option(metavar="N", help="Cores of each training.")] = 1,
    pack: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Train trials of a point together on a core, at most N; off: one by one, which "
            "changes the last bits of results.",
        ),
    ] = "auto",
    max_tries: Annotated[
        int,
        typer.Option(
            metavar="N", help="How often a training is begun whose worker dies, or lacks memory."
        ),
    ] = 3,
    stop_after_failures: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Stop once so many trials, or points, have failed [default: never]."
        ),
    ] = None,
    trial_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="End a training that takes longer, and count it as failed [default: never].",
        ),
    ] = None,
    hparams: Annotated[
        str,
        typer.Option(
            metavar="PRESET", help="How much care goes in: fastest, fast, slow or slowest."
        ),
    ] = "fast",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change one field of the preset."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Where everything is kept [default: out/<problem>]."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Move what the folder holds to history/ first.")
    ] = False,
    allow_changed_code: Annotated[
        bool,
        typer.Option(
            "--allow-changed-code",
            help="Go on where it is not known whether a change of the code concerns results.",
        ),
    ] = False,
    no_models: Annotated[
        bool, typer.Option("--no-models", help="Do not keep the trained weights.")
    ] = False,
    curve_samples: Annotated[
        int, typer.Option(metavar="N", help="Points of each trial's curves; 0 for none.")
    ] = 40,
    backend: Annotated[
        str,
        typer.Option(metavar="NAME", help="local (processes) or inline (in this one, to debug)."),
    ] = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the results as JSON instead of a table.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> Command:
    """Tune and train every point of a search; the same command goes on where it was.

    \b
    Examples:
      sweeper run examples.digits --grid hidden=16,64 --grid nonlinearity=Tanh,ReLU
      sweeper run problem.py --random 20 --range hidden=8:128 --range dropout=0.0:0.5 --trials 5
      sweeper run examples.digits --hparams fastest --set cycles=1 --folder out/quick
      sweeper run examples.digits --grid hidden=2,8,32 --race --trials 30

    Values are read as int, float, true, false or none (null) where they look like one, else as
    text. In quotes they are text, commas included; in brackets a list [16,32], a tuple (16,32) or
    a dict {key: value}, which the shell leaves alone if all of it is quoted:

    \b
      --grid "act='a,b',c"        two texts: a,b and c
      --grid "sizes=[16,32],[64]" two lists

    NaN is refused, since it equals nothing. Without --grid and --random the module's own
    `selector` or `points` are used. Progress goes to standard error, the table (or JSON) to
    standard output.
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    arguments = _Run(
        module=module,
        grid=tuple(grid or ()),
        random=random,
        ranges=tuple(ranges or ()),
        trials=trials,
        race=race,
        seed=seed,
        hparams=hparams,
        fields=tuple(settings or ()),
        folder=folder,
        as_json=as_json,
        quiet=quiet,
        passed_on={
            "cores": cores,
            "total_cores": total_cores,
            "cores_per_trial": cores_per_trial,
            "pack": int(pack) if pack.isdecimal() and len(pack) < 10 else pack,
            "max_tries": max_tries,
            "stop_after_failures": stop_after_failures,
            "trial_timeout": trial_timeout,
            "backend": backend,
            "resume": not no_resume,
            "save_models": "none" if no_models else "final",
            "curve_samples": curve_samples,
            "allow_changed_code": allow_changed_code,
        },
    )
    return functools.partial(_run, arguments)


_Folder: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The folder of a sweep.")
]


@app.command("status", short_help="Say how far a sweep is.")
def _command_status(folder: _Folder) -> Command:
    """Say how far a sweep is, also while it runs.

    \b
    Example:
      sweeper status out/digits
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_status, folder)


@app.command("show", short_help="Print the table of results.")
def _command_show(
    folder: _Folder,
    *,
    failures: Annotated[
        bool, typer.Option("--failures", help="Show what failed, with the tracebacks.")
    ] = False,
    code: Annotated[
        bool, typer.Option("--code", help="Show how the problem's code has changed.")
    ] = False,
) -> Command:
    """Print the table of results, and which differences are larger than their intervals.

    \b
    Examples:
      sweeper show out/digits
      sweeper show out/digits --failures
      sweeper show out/digits --code
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return (
        functools.partial(_show_code, folder)
        if code
        else functools.partial(_show, folder, failures=failures)
    )


class Against(StrEnum):
    """What `compare` compares."""

    BEST = "best"
    ALL = "all"


@app.command("compare", short_help="Say which points are better.")
def _command_compare(
    folder: _Folder,
    points: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B]", help="Two points, each by any part that only it has."),
    ] = None,
    *,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="perf_val, loss_val, perf_train or loss_train.")
    ] = "perf_val",
    baseline: Annotated[
        str | None, typer.Option(metavar="A", help="Compare every point with this one.")
    ] = None,
    by: Annotated[
        Against, typer.Option(help="best: the best with every other. all: every pair.")
    ] = Against.BEST,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a table in Markdown.")
    ] = False,
) -> Command:
    """Say which points are better, which are not told apart, and what would tell.

    \b
    Examples:
      sweeper compare out/digits
      sweeper compare out/digits hidden=32 "hidden=8 nonlinearity=Tanh"
      sweeper compare out/digits --by all --metric loss_val --markdown
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    asked = {"metric": metric, "baseline": baseline, "by": by.value}
    return functools.partial(_compare, folder, points or [], asked, markdown=markdown)


@app.command("effects", short_help="Say which parameter matters.")
def _command_effects(
    folder: _Folder,
    *,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="perf_val, loss_val, perf_train or loss_train.")
    ] = "perf_val",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")] = False,
) -> Command:
    """Say which parameter matters, and how much of what varies is due to each.

    \b
    Examples:
      sweeper effects out/digits
      sweeper effects out/digits --metric loss_val --markdown
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_effects, folder, metric, markdown=markdown)


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    JSON = "json"


@app.command("export", short_help="Write the results as CSV or JSON.")
def _command_export(
    folder: _Folder,
    file_format: Annotated[
        Format,
        typer.Option("--format", help="csv: one row a trial. json: everything, failures too."),
    ] = Format.CSV,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it [default: standard output]."),
    ] = None,
) -> Command:
    """Write the results for other programs, and rebuild the files under points/.

    \b
    Examples:
      sweeper export out/digits --format csv --output digits.csv
      sweeper export out/digits --format json | jq '.points[].summary'
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_export, folder, file_format, output)


@app.command("doctor", short_help="Check cores, pinning and versions.")
def _command_doctor(
    total_cores: Annotated[
        int | None,
        typer.Option(metavar="N", help="The most cores to use [default: all there are]."),
    ] = None,
    cores_per_trial: Annotated[int, typer.Option(metavar="N", help="Cores of each training.")] = 1,
) -> Command:
    """Say which cores were found and why, and prove that each worker stays on its own."""
    return functools.partial(_doctor, total_cores, cores_per_trial)


# -- run ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """The arguments of `run`, as they were written."""

    module: str
    grid: tuple[str, ...]
    random: int | None
    ranges: tuple[str, ...]
    trials: int | None
    race: bool
    seed: int
    hparams: str
    fields: tuple[str, ...]
    folder: Path | None
    as_json: bool
    quiet: bool
    passed_on: dict[str, Any]
    """To `sweep`, unchanged."""


def _run(arguments: _Run) -> int:
    _look_in_current_folder(arguments.module)
    settings = _read_settings(arguments.hparams, arguments.fields)
    space = Space.read(
        arguments.grid, arguments.random, arguments.ranges, arguments.trials, arguments.seed
    )
    from sweeper.reading import read_problem

    with read_problem(arguments.module, arguments.passed_on["backend"]) as reading:
        import sweeper.engine  # noqa: F401 - needed next, and the fork server imports torch now
        from sweeper.api import sweep

        problem = reading.brief
        known = None if problem.model is None else problem.model.names
        selector = space.selector(problem.ref.name, known)
        if selector is None:
            said = problem.search()
            selector = modules_own(problem.ref.name, problem.ref.module, said, arguments.trials)
        race = race_of(selector, problem.ref.name) if arguments.race else None
        folder = arguments.folder or Path("out") / problem.ref.name
        results = sweep(
            reading,
            race or selector,
            hparams=settings,
            folder=folder,
            seed=arguments.seed,
            progress=False if arguments.quiet else None,
            **arguments.passed_on,
        )
    files = f"files are in {folder}; load them with sweeper.load({str(folder)!r})"
    if arguments.as_json:
        with Store.read(Paths(folder).database) as store:
            sys.stdout.write(json_text(store.meta["identity"], results))
        if not arguments.quiet:
            _say(clean(files), sys.stderr)
    else:
        _print_results(results, folder)
        if race is not None:
            _say(clean(f"race:\n{race.summary()}"))
        _say(clean(files))
    return FAILED if results.failures else 0


def _look_in_current_folder(module: str) -> None:
    """Find modules there, as `python -m` does.

    Only where a problem is swept: what is in a folder that is looked at must not be imported.
    """
    here = current_folder()
    if here is None or sys.path[:1] == [str(here)]:
        return
    if is_path(module) and Path(module).resolve().parent != here:
        # A script elsewhere does not see modules here, whose names may be those of others.
        sys.path.append(str(here))
    else:
        sys.path.insert(0, str(here))


def _read_settings(preset: str, written: Sequence[str]) -> HyperparameterSettings:
    settings = get_settings(preset)
    known = [field.name for field in dataclasses.fields(settings)]
    changes = read_named("--set", written)
    for name in changes:
        if name not in known:
            raise SettingsError(
                f"--set {name}: there is no such field{suggestion(name, known)}; the fields are "
                f"{', '.join(known)}"
            )
    return dataclasses.replace(
        settings,
        **{name: read_value(text, f"--set {name}={text}") for name, text in changes.items()},
    )


# -- show, status, export -------------------------------------------------------------------------


def _show(folder: Path, *, failures: bool) -> int:
    results = load(folder)
    if failures:
        _say(failures_in_full(results))
    else:
        _print_results(results, folder)
    return 0


def _compare(folder: Path, points: Sequence[str], asked: dict[str, Any], *, markdown: bool) -> int:
    comparison = load(folder).compare(*points, **asked)
    text = comparison.to_markdown() if markdown else str(comparison)
    _say(clean(text.rstrip()) or "there is nothing to compare: fewer than two points have trials")
    return 0


def _effects(folder: Path, metric: str, *, markdown: bool) -> int:
    effects = load(folder).effects(metric)
    _say(clean((effects.to_markdown() if markdown else str(effects)).rstrip()))
    return 0


def _show_code(folder: Path) -> int:
    """Each change of the code with the points that were kept apart for it, and what is new now."""
    with Store.read(Paths(folder).database) as store, store.snapshot():
        history = read_code_history(store)
    if history is None:
        _say("this folder was begun by a version of sweeper that kept no code")
        return 0
    versions = [*(change.before for change in history.changes), history.kept]
    lines: list[str] = []
    for change, (before, after) in zip(history.changes, itertools.pairwise(versions), strict=True):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change.time))
        lines += [f"changed {when}; kept apart: {'; '.join(change.apart) or 'nothing'}"]
        lines += code_difference(before, after, ("before", "after"))
    lines += code_difference(history.kept, history.read_now(), ("kept", "now"))
    for line in lines or ["the code is what it was"]:
        _say(clean(line))
    return 0


def _print_results(results: SweepResult, folder: Path) -> None:
    # Where nobody looks at it as it is printed, nothing is cut and nothing is left out.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    width = console.width if sys.stdout.isatty() else None
    with console.capture() as captured:
        console.print(results_table(results, width))
    for line in captured.get().splitlines():
        _say(line.rstrip())
    for line in (*findings(results), *failure_lines(results, folder)):
        _say(line)
    for note in results.notes:
        _say(clean(note))


def _status(folder: Path) -> int:
    paths = Paths(folder)
    with Store.read(paths.database) as store, store.snapshot():
        results = read_results(store)
        status = read_status(store, paths, results)
    _say(describe_status(status, results, time.time()))
    return 0


def _export(folder: Path, file_format: Format, output: Path | None) -> int:
    paths = Paths(folder)
    with Store.read(paths.database) as store:
        identity = store.meta.get("identity", {})
        results = _rebuild_views(store, paths)
    if file_format is Format.CSV:
        text = csv_text(results.rows())
        if results.failures:
            count = plural(len(results.failures), "failure")
            _say(f"sweeper: {count} without a row here; --format json has them", sys.stderr)
    else:
        text = json_text(identity, results)
    if output is None:
        # A terminal obeys what it is sent; a file keeps it as it is.
        sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
        return 0
    try:
        output.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--output {output}: {reason}") from error
    return 0


def _rebuild_views(store: Store, paths: Paths) -> SweepResult:
    """Collate, unless somebody drives the folder and will do so; the results either way."""
    try:
        with folder_lock(paths.lock):
            return collate(store, paths, every_point=True)
    except FolderError as error:
        reason = str(error)
    except OSError as error:
        reason = f"they cannot be written: {error}"
    _say(clean(f"sweeper: the files under {paths.points} stay as they are: {reason}"), sys.stderr)
    return load(paths.folder)


# -- doctor ---------------------------------------------------------------------------------------


_EXAMINE = "sweeper.train.doctor:execute"


def _doctor(total_cores: int | None, width: int) -> int:
    from sweeper.run.backends.local import default_start_method
    from sweeper.run.cores import slots as core_slots
    from sweeper.run.examine import examine
    from sweeper.run.topology import usable_cores

    topology = usable_cores(total_cores)
    slots = core_slots(topology, width)
    versions = [f"{name} {_version(name)}" for name in ("torch", "numpy", "pytorch-ignite")]
    versions = [f"sweeper {__version__}", f"python {platform.python_version()}", *versions]
    _say(f"versions      {', '.join(versions)}")
    _say(f"cores         {', '.join(map(str, topology.cores))}: {topology.reason}")
    _say(f"start method  {default_start_method()}")
    _say(f"pinning       {'yes' if topology.pinned else 'no'}")
    sys.stdout.flush()
    all_well = True
    for slot, report in examine(_EXAMINE, width, slots, pinned=topology.pinned).items():
        arrays = unpack_arrays(report.arrays)
        examined = Examined(
            slot=slot,
            cores=slots[slot] if topology.pinned else (),
            threads_promised=width,
            mask=frozenset(arrays["mask"].tolist()),
            threads=int(report.metrics["threads"]),
            ran_on=frozenset(arrays["ran_on"].tolist()),
        )
        line, well = judge(examined)
        all_well &= well
        _say(line)
    return 0 if all_well else FAILED


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
