"""What command groups share: exit codes, printing, and common options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TextIO, TypeAlias

import typer
from rich.console import Console

from sweeper.results import SweepResult
from sweeper.show.clean import clean
from sweeper.show.table import failure_lines, findings, results_table

FAILED, WRONG, INTERRUPTED = 1, 2, 130
BROKEN_PIPE = 128 + 13
"""The exit code of a program that ended because its reader did (`| head`), as in a shell."""

Command: TypeAlias = Callable[[], int]
"""A parsed command, ready to execute; returns the exit code."""

# -- options and arguments ------------------------------------------------------------------------

Folder: TypeAlias = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a sweep.")]
TotalCores: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="Maximum number of cores to use [default: all]."),
]
CoresPerTrial: TypeAlias = Annotated[int, typer.Option(metavar="N", help="Cores per training.")]

# -- what is printed ------------------------------------------------------------------------------


def say(text: str, stream: TextIO | None = None) -> None:
    """Print one or more lines, on standard output unless another `stream` is given."""
    (stream or sys.stdout).write(f"{text}\n")


def complain(message: str, code: int) -> int:
    """Print an error on standard error; returns the exit code."""
    say(f"sweeper: {clean(message)}", sys.stderr)
    return code


def _table_lines(results: SweepResult, places: Sequence[int] | None) -> list[str]:
    if not len(results):
        return ["no point has been asked for yet"]
    # Only a terminal limits the width: in a file nothing is cut or left out.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    width = console.width if sys.stdout.isatty() else None
    with console.capture() as captured:
        console.print(results_table(results, width, places))
    return [line.rstrip() for line in captured.get().splitlines()]


def print_results(results: SweepResult, folder: Path, places: Sequence[int] | None = None) -> None:
    """Print the table of results, the verdicts, and what failed.

    The table has the points at these places, in this order; None: all, as asked for.
    """
    for line in _table_lines(results, places):
        say(line)
    for line in (*findings(results), *failure_lines(results, folder)):
        say(line)
    for note in results.notes:
        say(clean(note))
