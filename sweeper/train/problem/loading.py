"""Imports a problem, in a process that trains or reads it."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from sweeper.code.importing import ModuleRef, import_module
from sweeper.errors import ProblemError
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.sets import shown
from sweeper.train.problem.threads import own_threads


def load_problem(ref: ModuleRef) -> Problem:
    """Import the problem, by path or by name.

    Raises:
        ProblemError: the module cannot be imported, or lacks something.
    """
    with own_threads():
        module = import_module(ref)
    return Problem(_named(ref, module), module)


def _named(ref: ModuleRef, module: ModuleType) -> ModuleRef:
    name = getattr(module, "name", None)
    last = ref.module.removesuffix(".__main__").rpartition(".")[2]
    if not isinstance(name, str):
        return replace(ref, name=last)
    # By default the folder has the problem's name.
    if name in ("", ".", "..") or len(name) > _LONGEST_NAME or not _is_file_name(name):
        raise ProblemError(
            f"problem {last}: name is {shown(name)}; expected one that a folder could have, of at "
            f"most {_LONGEST_NAME} characters, without slashes and control characters"
        )
    return replace(ref, name=name)


_LONGEST_NAME = 60


def _is_file_name(name: str) -> bool:
    return name.isprintable() and not set(name) & set("/\\:")
