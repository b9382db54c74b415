"""`sweeper.main(__name__)` at the end of a problem's file makes it a command-line program."""

from __future__ import annotations

import sys

from sweeper.cli import COMMANDS, run_and_exit
from sweeper.errors import UsageError


def main(name: str) -> None:
    """Run the command line for the module of this name, if it is the running program.

    `python problem.py --grid hidden=8,32` is `sweeper run problem.py --grid hidden=8,32`; if the
    first argument is a command (`python problem.py show out/problem`), that command is run.  If
    the module is only imported, nothing happens: no `if __name__ == "__main__":` is needed.

    Raises:
        UsageError: the module has no file.
    """
    if name != "__main__":
        return
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise UsageError("sweeper.main(__name__): this program has no file: use sweeper.sweep()")
    arguments = sys.argv[1:]
    own = arguments[:1] and arguments[0] in COMMANDS
    run_and_exit(arguments if own else ["run", file, *arguments])
