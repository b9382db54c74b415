"""What command groups share: exit codes, what is printed, and options that several have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO, TypeAlias

import typer
from rich.console import Console

from sweeper.results import SweepResult
from sweeper.show.clean import clean
from sweeper.show.table import failure_lines, findings, results_table

FAILED, WRONG, INTERRUPTED = 1, 2, 130
BROKEN_PIPE = 128 + 13
"""As a shell reports a program that ended because its reader had (`| head`)."""

Command: TypeAlias = Callable[[], int]
"""What a command line comes to; gives the exit code."""

# -- options and arguments ------------------------------------------------------------------------

Folder: TypeAlias = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a sweep.")]
TotalCores: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="N", help="The most cores to use [default: all there are]."),
]
CoresPerTrial: TypeAlias = Annotated[int, typer.Option(metavar="N", help="Cores of each training.")]

# -- what is printed ------------------------------------------------------------------------------


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line or more, on standard output unless another `stream` is given."""
    (stream or sys.stdout).write(f"{text}\n")


def complain(message: str, code: int) -> int:
    """Say on standard error what is wrong; gives the exit code."""
    say(f"sweeper: {clean(message)}", sys.stderr)
    return code


def print_results(results: SweepResult, folder: Path) -> None:
    """Print the table of results, what can be said of it, and what failed."""
    # Where nobody looks at it as it is printed, nothing is cut and nothing is left out.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    width = console.width if sys.stdout.isatty() else None
    with console.capture() as captured:
        console.print(results_table(results, width))
    for line in captured.get().splitlines():
        say(line.rstrip())
    for line in (*findings(results), *failure_lines(results, folder)):
        say(line)
    for note in results.notes:
        say(clean(note))
