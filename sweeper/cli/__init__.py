"""The command line: reads arguments and calls `api`, `store` and `show`.

Exit codes: 0 success, 1 something failed, 2 wrong usage, 130 interrupted.  Only `run` imports
torch, as late as possible, so that every other command answers at once.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sweeper import __version__
from sweeper.cli import doctor, execute, look, manual, run, steer
from sweeper.cli.command import WithCommand
from sweeper.cli.common import (
    BROKEN_PIPE,
    FAILED,
    INTERRUPTED,
    WRONG,
    Command,
    complain,
    say,
)
from sweeper.cli.explain import explain_writing, own_traceback, place_of
from sweeper.disk.files import open_standard_streams
from sweeper.errors import ProblemError, SelectorError, SweeperError, UsageError
from sweeper.show.clean import clean

app = typer.Typer(
    name="sweeper",
    add_completion=False,
    pretty_exceptions_enable=False,
    # Without rich: the lines of the examples are kept, and help is shown quickly.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# The error for a wrong command line: the module of this class differs between versions of typer.
_ClickUsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """The entry point of `sweeper` and of `python -m sweeper`."""
    run_and_exit(sys.argv[1:])


def run_and_exit(arguments: Sequence[str]) -> None:
    """Execute a command line, and exit with its exit code."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a result is worth more than its ± sign
    try:
        code = _run_command_line(arguments)
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter would write the rest of the buffer again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            code = BROKEN_PIPE
        else:
            code = complain(f"standard output: {error.strerror or error}", FAILED)
    sys.exit(code)


def _open_streams() -> None:
    """Open the null device in place of a standard output or error that is closed (`>&-`)."""
    open_standard_streams()
    for name, fd in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w", closefd=False))  # noqa: SIM115 - open to the end


def _run_command_line(arguments: Sequence[str]) -> int:
    def parse_and_run() -> int:
        # typer only parses here.
        command = _parser()(list(arguments), prog_name="sweeper", standalone_mode=False)
        return command() if callable(command) else int(command or 0)

    return _explained(parse_and_run)


@functools.cache
def _parser() -> Any:
    """All commands as they are parsed: `app` itself would put them together at every call."""
    return typer.main.get_command(app)


def run_here(arguments: execute.Run) -> None:
    """Execute `run` in a process of its own (`--detach`), and exit with its exit code."""
    sys.exit(_explained(functools.partial(execute.execute, arguments)))


def _explained(command: Command) -> int:
    """The exit code of a command; its errors are explained on standard error."""
    try:
        return command()
    except _ClickUsageError as error:
        return complain(explain_writing(error), WRONG)
    except KeyboardInterrupt as error:  # SweepInterrupted is one
        return complain(str(error) or "interrupted", INTERRUPTED)
    except UsageError as error:
        place = place_of(error.__cause__) if isinstance(error, ProblemError) else ""
        return complain(f"{error}{place}", WRONG)
    except SweeperError as error:
        if isinstance(error, SelectorError) and error.__cause__ is not None:
            say(clean(own_traceback(error.__cause__)).rstrip(), sys.stderr)
        return complain(str(error), FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return complain(str(error), FAILED)


# -- the commands ---------------------------------------------------------------------------------


def _print_version(value: bool) -> None:
    if value:
        say(f"sweeper {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _sweeper(
    context: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> Command:
    """Compare architectures fairly, on every core of this machine.

    \b
    Examples:
      sweeper run examples.digits --grid hidden=8,32 --grid nonlinearity=Tanh,ReLU --trials 4
      sweeper run examples.digits --detach
      sweeper attach out/digits
      sweeper status out/digits
      sweeper show out/digits
      sweeper export out/digits --format csv --output digits.csv
      sweeper doctor

    \b
    Exit codes: 0 success, 1 some trials failed, 2 wrong usage, 130 interrupted.
    """  # noqa: D301 - typer keeps the lines of a paragraph after \b
    if context.invoked_subcommand is None:
        say(context.get_help())
        return lambda: WRONG
    return lambda: 0


# Help lists the commands in this order.
app.command("run", cls=WithCommand, short_help="Run a sweep, or resume it.")(run.run)
app.command("status", short_help="Show how far a sweep has come.")(look.status)
app.command("list", short_help="Show all sweeps below a folder.")(steer.list_sweeps)
app.command("attach", short_help="Show the table of a sweep that runs.")(steer.attach)
app.command("stop", short_help="Stop a sweep that runs elsewhere.")(steer.stop)
app.command("show", short_help="Print the table of results.")(look.show)
app.command("add", short_help="Add a point to a manual search.")(manual.add)
app.command("finish", short_help="Say that no more points come.")(manual.finish)
app.command("compare", short_help="Compare points: which are better.")(look.compare)
app.command("effects", short_help="Show which parameters matter.")(look.effects)
app.command("export", short_help="Write the results as CSV or JSON.")(look.export)
app.command("doctor", short_help="Check cores, pinning and versions.")(doctor.doctor)

COMMANDS = frozenset(command.name for command in app.registered_commands if command.name)
