"""The commands of a manual search: add, finish."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Annotated

import typer

from sweeper.api.folder import SweepFolder
from sweeper.api.folder import open as open_folder
from sweeper.cli.common import Command, Folder, say
from sweeper.errors import plural
from sweeper.search import Ask
from sweeper.search.reading.spaces import DEFAULT_TRIALS
from sweeper.search.reading.values import read_params
from sweeper.show.clean import clean
from sweeper.summary import show_params


def add(
    folder: Folder,
    params: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]…", help="The point's parameters, by name."),
    ] = None,
    *,
    trials: Annotated[
        int, typer.Option(metavar="N", help="How many further trials of the point.")
    ] = DEFAULT_TRIALS,
    budget: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How far they go, in learning-rate cycles or iterations [default: a whole trial].",
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(metavar="NAME", help="A label that tables and exports keep.")
    ] = "",
) -> Command:
    """Add a point to a manual search, whether it runs or not.

    \b
    Examples:
      sweeper run examples.digits --selector manual --folder out/digits
      sweeper add out/digits hidden=32 nonlinearity=Tanh --trials 5
      sweeper finish out/digits

    Values are written as for `run --grid`. A point that is added again gets further trials.
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    ask = functools.partial(Ask, trials=trials, budget=budget, group=group)
    return functools.partial(_add, folder, tuple(params or ()), ask)


def _add(folder: Path, written: tuple[str, ...], ask: functools.partial[Ask]) -> int:
    found = open_folder(folder)
    asked = ask(read_params(written))
    closed = found.is_closed
    found.add(asked.params, asked.trials, budget=asked.budget, group=asked.group)
    count = plural(asked.trials, "trial")
    say(clean(f"added {show_params(asked.params)} with {count}{_when(found, closed)}"))
    return 0


def how_to_add(folder: Path) -> str:
    """The commands that add points to the search in this folder, and end it."""
    where = shlex.quote(str(folder))
    return f"sweeper add {where} NAME=VALUE --trials N; end with: sweeper finish {where}"


def _when(found: SweepFolder, closed: bool) -> str:
    """What must happen for a point to be trained, if it is more than waiting."""
    if not found.has_run:
        return (
            f"; no sweep has run in {found.folder} yet: "
            f"sweeper run MODULE --selector manual --folder {shlex.quote(str(found.folder))}"
        )
    return "; the search was finished: run it again to train this point" if closed else ""


def finish(folder: Folder) -> Command:
    """End a manual search once the points that were added are done.

    \b
    Example:
      sweeper finish out/digits
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    return functools.partial(_finish, folder)


def _finish(folder: Path) -> int:
    open_folder(folder).finish()
    say(clean(f"{folder}: no more points come; those that were added are trained"))
    return 0
