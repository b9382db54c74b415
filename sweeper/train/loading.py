"""Problem modules: where one is, and how it is imported; without torch, as far as it goes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.errors import ProblemError


class UnguardedCall(BaseException):
    """A problem module called `sweep` while it was being imported.

    What stands above the call is what is needed of it, so the import ends there.
    """


_loading: list[str] = []
"""The problem modules that are being imported."""


def is_loading() -> bool:
    """Whether a problem module is being imported."""
    return bool(_loading)


@dataclass(frozen=True, slots=True)
class ProblemRef:
    """Where a problem is, so that any process can import it."""

    name: str
    """The same however the problem was given: its own, or the module's last component."""
    module: str
    """The dotted name; a file's stem where `path` is set."""
    path: str | None = None


def import_module(ref: ProblemRef) -> ModuleType:
    """The module, imported by path or by name.

    Raises:
        ProblemError: it cannot be found or imported.
    """
    return _import_file(ref) if ref.path is not None else _import_name(ref.module)


def _import_file(ref: ProblemRef) -> ModuleType:
    path = str(ref.path)
    known = sys.modules.get(ref.module)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    spec = importlib.util.spec_from_file_location(ref.module, path)
    if spec is None or spec.loader is None:
        raise ProblemError(f"module={path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Scripts find their neighbours, and pickles and class parameters find their module.
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    if known is None:
        sys.modules[ref.module] = module
    loader = spec.loader
    try:
        _guarded(path, lambda: loader.exec_module(module))
    except BaseException:
        if known is None:
            del sys.modules[ref.module]
        raise
    return module


def _import_name(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = _find_spec(name)
    # An import that stops at an unguarded call removes the module again, so that by hand too.
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    try:
        _guarded(name, lambda: loader.exec_module(module))
    except BaseException:
        del sys.modules[name]
        raise
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    return module


def _find_spec(name: str) -> Any:
    try:
        spec = importlib.util.find_spec(name)
    except Exception as error:  # whatever a package above it raises
        raise ProblemError(
            f"module={name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if spec is None or spec.loader is None or spec.origin is None:
        raise ProblemError(
            f"module={name!r} cannot be found: give a dotted name that can be imported from here, "
            "or the path of a .py file"
        )
    return spec


def _guarded(name: str, execute: Callable[[], object]) -> None:
    _loading.append(name)
    try:
        execute()
    except UnguardedCall:
        pass
    except (Exception, SystemExit) as error:
        raise ProblemError(
            f"module={name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        _loading.pop()
