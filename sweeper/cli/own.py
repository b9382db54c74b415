"""A problem as a command line of its own: `sweeper.main(__name__)` at the end of its file."""

from __future__ import annotations

import sys

from sweeper.cli import COMMANDS, run_and_exit
from sweeper.errors import UsageError


def main(name: str) -> None:
    """Make the module of this name a command line, where it is the program that runs.

    `python problem.py --grid hidden=8,32` is `sweeper run problem.py --grid hidden=8,32`; where the
    first argument is a command (`python problem.py show out/problem`), it is that command.  Where
    the module is imported nothing happens, so that no `if __name__ == "__main__":` is needed.

    Raises:
        UsageError: the module has no file.
    """
    if name != "__main__":
        return
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise UsageError("sweeper.main(__name__): this program is no file: use sweeper.sweep()")
    arguments = sys.argv[1:]
    own = arguments[:1] and arguments[0] in COMMANDS
    run_and_exit(arguments if own else ["run", file, *arguments])
