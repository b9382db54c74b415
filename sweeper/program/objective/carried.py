"""Objectives that no worker could import: closures, lambdas, and what is typed in.

They are carried to workers by value (cloudpickle), and go by the hash of their code.
"""

from __future__ import annotations

import inspect
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.errors import UsageError
from sweeper.program.objective.identity import read_code
from sweeper.sources import read_imported
from sweeper.workload import Source


@dataclass(frozen=True, slots=True)
class Carried:
    """An objective by value."""

    pickled: bytes
    sha256: str
    """Of what it does: see `sweeper.program.objective.identity`."""
    modules: tuple[str, ...]
    """The modules that it uses, which workers import."""
    text: str
    """Its source text, for people; empty if not known."""


def carry(objective: Any) -> Carried:
    """Pack an objective for workers.

    Raises:
        UsageError: it uses something that no worker could be given.
    """
    import cloudpickle

    sha256, modules = read_code(objective)
    try:
        pickled = cloudpickle.dumps(objective)
    except Exception as error:  # pickling runs the user's code
        raise UsageError(
            f"objective={objective!r} cannot be carried to a worker ({type(error).__name__}: "
            f"{error}): put it, and what it uses, into a module"
        ) from error
    try:
        text = inspect.getsource(objective)
    except (OSError, TypeError):
        text = ""
    return Carried(pickled, sha256, modules, text)


def unpack(carried: Carried) -> Callable[..., Any]:
    """A fresh copy of the objective: what a trial changes in it, no other sees."""
    found: Callable[..., Any] = pickle.loads(carried.pickled)  # noqa: S301 - made by `carry`
    return found


def module_of(objective: Any, name: str) -> ModuleType:
    """A module `name` with the globals of a carried objective, which has none of its own."""
    module = ModuleType(name)
    vars(module).update(getattr(objective, "__globals__", {}))
    return module


def sources_of(carried: Carried, label: str) -> tuple[Source, ...]:
    """Its code as a source, and the files that it imports; a changed lambda is changed code."""
    folder = Path.cwd()
    # Not Python, so that it is compared by its hash alone: the same text may have caught others.
    text = f"{carried.text}\n? SHA-256 of the code and of what it uses: {carried.sha256}\n"
    own = Source(label, str(folder / label), carried.sha256, zlib.compress(text.encode(), 9))
    return tuple(sorted((own, *read_imported(carried.modules, folder)), key=lambda it: it.label))
