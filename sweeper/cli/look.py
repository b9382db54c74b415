"""The commands that read a sweep's folder: status, show, compare, effects, export."""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from sweeper.cli.common import Command, Folder, print_results, say
from sweeper.disk.locking import folder_lock
from sweeper.errors import FolderError, UsageError, plural
from sweeper.results import SweepResult
from sweeper.show.clean import clean
from sweeper.show.code import code_difference
from sweeper.show.export import json_text
from sweeper.show.status import describe_status
from sweeper.show.table import failures_in_full
from sweeper.show.usage import usage_lines
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate, csv_text
from sweeper.store.results.load import check_begun, load, read_results
from sweeper.store.sources import read_code_history
from sweeper.store.status import checkpoint_size, read_status

# -- status ---------------------------------------------------------------------------------------


def status(folder: Folder) -> Command:
    """Show how far a sweep has come, also while it runs.

    \b
    Example:
      sweeper status out/digits
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_status, folder)


def _status(folder: Path) -> int:
    paths = Paths(folder)
    with Store.read(paths.database) as store, store.snapshot():
        status = read_status(store, paths)
        if status.driver is None:
            check_begun(store)
        results = read_results(store)
    say(describe_status(status, results, time.time(), checkpoint_size(paths)))
    return 0


# -- show -----------------------------------------------------------------------------------------


def show(
    folder: Folder,
    *,
    failures: Annotated[
        bool, typer.Option("--failures", help="Show what failed, with tracebacks.")
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Order the table by a metric's mean, the best first; with --usage by started, "
            "seconds, cpu_seconds or peak_memory, the largest first.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Only the N best points, by --sort or as points are judged; with --usage the N "
            "first trials by --sort.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the points that only earlier runs asked for.")
    ] = False,
    usage: Annotated[
        bool, typer.Option("--usage", help="Show what each trial of a program used, and where.")
    ] = False,
    code: Annotated[
        bool, typer.Option("--code", help="Show how the problem's code has changed.")
    ] = False,
) -> Command:
    """Print the table of results, and which differences are larger than their intervals.

    \b
    Examples:
      sweeper show out/digits
      sweeper show out/digits --sort loss_val --top 10
      sweeper show out/digits --failures
      sweeper show out/digits --usage --sort peak_memory --top 10
      sweeper show out/digits --code
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    _check_together(failures=failures, usage=usage, code=code, all=everything, sort=sort, top=top)
    if code:
        return functools.partial(_show_code, folder)
    if failures:
        return functools.partial(_show_failures, folder, everything=everything)
    look = _show_usage if usage else _show
    return functools.partial(look, folder, sort, top, everything=everything)


_GOES_WITH = {"failures": ["all"], "usage": ["all", "sort", "top"], "code": []}
"""What may be given with each option that shows something else than the table of results."""


def _check_together(**given: Any) -> None:
    """Check that the options of `show` that are given go together.

    Raises:
        UsageError: one would be ignored; or `--top` breaks its rule.
    """
    asked = [name for name, value in given.items() if value is not False and value is not None]
    for shown, others in _GOES_WITH.items():
        for name in asked if shown in asked else ():
            if name not in (shown, *others):
                goes_with = ", ".join(f"--{other}" for other in others) or "no other option"
                raise UsageError(
                    f"--{shown} and --{name} do not go together: --{shown} goes with {goes_with}"
                )
    if "top" in asked and given["top"] < 1:
        raise UsageError(f"--top {given['top']}: it must be a whole number, 1 or more")


def _show_usage(folder: Path, sort: str | None, top: int | None, *, everything: bool) -> int:
    for line in usage_lines(load(folder, everything=everything), sort, top):
        say(line)
    return 0


def _show_failures(folder: Path, *, everything: bool) -> int:
    say(failures_in_full(load(folder, everything=everything)))
    return 0


def _show(folder: Path, sort: str | None, top: int | None, *, everything: bool) -> int:
    results = load(folder, everything=everything)
    if sort is None and top is None:
        print_results(results, folder)
    else:
        print_results(results, folder, results.ranking(sort)[:top])
    return 0


def _show_code(folder: Path) -> int:
    """Each change of the code, with the points kept apart because of it, and later edits."""
    with Store.read(Paths(folder).database) as store, store.snapshot():
        history = read_code_history(store)
    if history is None:
        say("this folder was begun by a version of sweeper that did not store code")
        return 0
    versions = [*(change.before for change in history.changes), history.kept]
    lines: list[str] = []
    for change, (before, after) in zip(history.changes, itertools.pairwise(versions), strict=True):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change.time))
        lines += [f"changed {when}; kept apart: {'; '.join(change.apart) or 'nothing'}"]
        lines += code_difference(before, after, ("before", "after"))
    lines += code_difference(history.kept, history.read_now(), ("kept", "now"))
    for line in lines or ["the code has not changed"]:
        say(clean(line))
    return 0


# -- compare, effects -----------------------------------------------------------------------------


_Metric: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A metric, such as loss_val [default: perf_val; of a program, its first with a "
        "direction].",
    ),
]


def _markdown(what: str) -> Any:
    return typer.Option("--markdown", help=f"Print {what} in Markdown.")


class Against(StrEnum):
    """Which pairs `compare` compares."""

    BEST = "best"
    ALL = "all"


def compare(
    folder: Folder,
    points: Annotated[
        list[str] | None,
        typer.Argument(metavar="[A B]", help="Two points, each by a unique part of its name."),
    ] = None,
    *,
    metric: _Metric = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="A", help="Compare every point with this point.")
    ] = None,
    by: Annotated[
        Against, typer.Option(help="best: the best point with every other. all: every pair.")
    ] = Against.BEST,
    markdown: Annotated[bool, _markdown("a table")] = False,
) -> Command:
    """Show which points are better, which are not told apart, and how many more trials would tell.

    \b
    Examples:
      sweeper compare out/digits
      sweeper compare out/digits "hidden=32 nonlinearity=Tanh" "hidden=8 nonlinearity=Tanh"
      sweeper compare out/digits --by all --metric loss_val --markdown
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    asked = {"metric": metric, "baseline": baseline, "by": by.value}
    return functools.partial(_compare, folder, points or [], asked, markdown=markdown)


def _compare(folder: Path, points: Sequence[str], asked: dict[str, Any], *, markdown: bool) -> int:
    comparison = load(folder).compare(*points, **asked)
    text = comparison.to_markdown() if markdown else str(comparison)
    say(clean(text.rstrip()) or "nothing to compare: fewer than two points have trials")
    return 0


def effects(
    folder: Folder,
    *,
    metric: _Metric = None,
    markdown: Annotated[bool, _markdown("tables")] = False,
) -> Command:
    """Show which parameters matter, and each one's share of the variance.

    \b
    Examples:
      sweeper effects out/digits
      sweeper effects out/digits --metric loss_val --markdown
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_effects, folder, metric, markdown=markdown)


def _effects(folder: Path, metric: str | None, *, markdown: bool) -> int:
    effects = load(folder).effects(metric)
    say(clean((effects.to_markdown() if markdown else str(effects)).rstrip()))
    return 0


# -- export ---------------------------------------------------------------------------------------


class Format(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    JSON = "json"


def export(
    folder: Folder,
    file_format: Annotated[
        Format,
        typer.Option("--format", help="csv: one row per trial. json: everything."),
    ] = Format.CSV,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Output file [default: standard output]."),
    ] = None,
    *,
    usage: Annotated[
        bool,
        typer.Option(
            "--usage",
            help="CSV: also when and where each trial of a program ran, and what it used.",
        ),
    ] = False,
) -> Command:
    """Write the results for other programs, and rebuild the files under points/.

    \b
    Examples:
      sweeper export out/digits --format csv --output digits.csv
      sweeper export out/digits --format json | jq '.points[].summary'
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_export, folder, file_format, output, usage=usage)


def _export(folder: Path, file_format: Format, output: Path | None, *, usage: bool) -> int:
    paths = Paths(folder)
    with Store.read(paths.database) as store:
        identity = store.meta.get("identity", {})
        results = _rebuild_views(store, paths)
    if file_format is Format.CSV:
        text = csv_text(results.rows(usage=usage))
        if results.failures:
            count = plural(len(results.failures), "failure")
            say(f"sweeper: {count} not in the CSV; --format json has them", sys.stderr)
    else:
        text = json_text(identity, results)
    if output is None:
        # A terminal would act on escape sequences; a file stores them unchanged.
        sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
        return 0
    try:
        output.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--output {output}: {reason}") from error
    return 0


def _rebuild_views(store: Store, paths: Paths) -> SweepResult:
    """Rebuild the views, unless a driver is running, which will do so; returns the results."""
    try:
        with folder_lock(paths.lock):
            return collate(store, paths, every_point=True)
    except FolderError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot be written: {error}"
    say(clean(f"sweeper: the files under {paths.points} were not rebuilt: {reason}"), sys.stderr)
    return load(paths.folder)
