"""Starts the fork server of a problem before the rest of `sweep()` is imported.

What the driver imports takes a fifth of a second.  The fork server imports torch meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from sweeper.code.importing import ModuleRef, find_ref, installed_imports
from sweeper.run.backends import DEFAULT
from sweeper.run.backends.local import prepare
from sweeper.train.workload import PRELOAD


def start_early(module: object, backend: object) -> object:
    """Start the fork server for what is surely a problem; returns its location.

    Whatever else was given is returned as it is, and read later.

    Raises:
        ProblemError: there is no such file.
        UsageError: it is in no file, and uses something that no worker could be given.
    """
    if backend != DEFAULT or not isinstance(module, ModuleType | Path | str):
        return module
    if isinstance(module, str) and ":" in module:  # perhaps an objective: "pkg.module:name"
        return module
    ref = find_ref(module)
    begin_import(ref)
    return ref


def begin_import(ref: ModuleRef) -> None:
    """Start importing, in the fork server, what a problem's workers need and what it imports."""
    prepare(PRELOAD, modules_before(ref))


def modules_before(ref: ModuleRef) -> tuple[str, ...]:
    """What a module imports that the fork server can import before it."""
    if ref.carried is not None:
        return ()
    return installed_imports(ref.module if ref.path is None else Path(ref.path))
