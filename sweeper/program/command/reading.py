"""Reads what a sweep must know of a command: its files.  Nothing is run or imported."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from sweeper.code.sources import read_source
from sweeper.errors import UsageError
from sweeper.program.command.command import Command
from sweeper.program.command.process import start_fault
from sweeper.program.objective.locate import Takes
from sweeper.program.spec import ProgramSpec

LARGEST = 1 << 24
"""Files of more bytes are data: they are not looked at."""


def read_command(command: Command) -> ProgramSpec:
    """What is known of a command: the files that are on its command line.

    Raises:
        UsageError: the program or its script cannot be started.
    """
    own = _own_file(command)
    paths = {own, *(path for path in _files(command) if path.stat().st_size <= LARGEST)}
    sources = sorted((read_source(path, own.parent) for path in paths), key=lambda it: it.label)
    return ProgramSpec(
        command,
        Takes((), (), more=True, trial=False),
        yields=False,
        sources=tuple(sources),
        own_label=own.name,
        stale=(),
        uses_torch=False,
    )


def _own_file(command: Command) -> Path:
    """The file of what is run: the script, the module, or the program itself.

    Raises:
        UsageError: there is no such program, or it is not executable.
    """
    program = command.argv[0]
    found = shutil.which(program)
    if found is None:
        there = os.sep in program and Path(program).is_file()
        raise UsageError(start_fault(program, errno.EACCES if there else errno.ENOENT))
    script = Path(command.script)
    if command.script != program and script.is_file():
        return script.absolute()
    module = command.python_module
    return (_file_of_module(module) if module else None) or Path(found).absolute()


def _file_of_module(name: str) -> Path | None:
    """The file of a module in the current folder, where Python looks first."""
    place = Path(*name.split("."))
    for path in (place.with_name(f"{place.name}.py"), place / "__main__.py"):
        if path.is_file():
            return path.absolute()
    return None


def _files(command: Command) -> list[Path]:
    """The files among the arguments, also in `--option=FILE`."""
    texts = [part for each in command.argv[1:] for part in (each, each.partition("=")[2])]
    return [Path(text).absolute() for text in texts if text and _is_file(text)]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # it is too long
        return False
