"""Finds and imports problem modules, and what they need; does not import torch itself."""

from __future__ import annotations

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.code.carried import Carried, carry_problem, unpack
from sweeper.code.references import main_globals, name_of_file, script_name
from sweeper.errors import ProblemError


class UnguardedCall(BaseException):
    """A problem module called `sweep` while it was being imported.

    All that is needed of the module stands above the call, so the import ends there.
    """


_loading: list[str] = []
"""The problem modules that are being imported."""


_cut_short: set[str] = set()
"""Those whose import has ended at a call of `sweep`, by name or by file."""


def is_cut_short(module: ModuleType) -> bool:
    """Whether the import of a module has ended at a call of `sweep`, so that it lacks the rest."""
    return bool(_cut_short & {module.__name__, getattr(module, "__file__", None)})


def is_loading() -> bool:
    """Whether a problem module is being imported."""
    return bool(_loading)


@dataclass(frozen=True, slots=True)
class ModuleRef:
    """The location of a problem, from which any process can import it."""

    name: str
    """The problem's `name`, or the module's last component, however the problem was given."""
    module: str
    """The dotted name; the file's stem if `path` is set."""
    path: str | None = None
    carried: Carried | None = field(default=None, repr=False)
    """What is sent to workers, if the problem is in no file."""


def find_ref(given: ModuleType | str | Path | ModuleRef) -> ModuleRef:
    """Locate a problem without importing it; its name is not known yet.

    One that was located stays so.

    Raises:
        ProblemError: it cannot be a module, or the file does not exist.
        UsageError: it is in no file, and uses something that no worker could be given.
    """
    if isinstance(given, ModuleRef):
        return given
    if isinstance(given, ModuleType):
        return _ref_of(given)
    if not isinstance(given, str | Path):
        raise ProblemError(
            f"module={given!r} is a {type(given).__name__}: give a module, a dotted name, "
            "__name__, or the path of a .py file"
        )
    text = str(given)
    if text == "__main__":
        return _ref_to(main_globals(), current=True)
    if is_path(text):
        path = _resolved(text)
        if path.is_dir():
            path /= "__main__.py"
        if not path.is_file():
            raise ProblemError(f"module={text!r}: there is no such file")
        return ModuleRef("", name_of_file(path), str(path))
    # If the caller has imported a module of that name, it means that one, from wherever it came.
    known = sys.modules.get(text)
    return ModuleRef("", text) if _file_in(known) is None else _ref_of(sys.modules[text])


def is_path(text: str) -> bool:
    """Whether the text is a file's path (the file need not exist), not a dotted name."""
    return text.endswith(".py") or "/" in text or Path(text).is_file()


def _resolved(text: str) -> Path:
    try:
        return Path(text).resolve()
    except FileNotFoundError:
        raise ProblemError(
            f"module={text!r}: the current folder is gone: change to an existing one, or give "
            "an absolute path"
        ) from None


def _file_in(module: object) -> Path | None:
    """The file that a module was loaded from."""
    path = getattr(module, "__file__", None)
    return None if path is None else Path(path).resolve()


def _ref_of(module: ModuleType) -> ModuleRef:
    return _ref_to(vars(module), current=sys.modules.get(module.__name__) is module)


def _ref_to(names: Mapping[str, Any], *, current: bool) -> ModuleRef:
    """A reference by name if importing that name gives this module's file, else by file.

    `names` is the module's namespace; `current` says that the module is in `sys.modules`.
    """
    name = names["__name__"]
    file = names.get("__file__")
    path = None if file is None else _resolved(file)
    is_main = name == "__main__"
    if is_main and (path is None or not path.is_file()):  # a notebook, `python -c`, or typed in
        return ModuleRef("", script_name(names), carried=carry_problem(names))
    if path is None:
        raise ProblemError(
            f"module {name} has no file that a worker could import: put model, dataset, loss and "
            "accuracy_style into a .py file, and give its path"
        )
    spec = names.get("__spec__")
    by_path = not current
    if is_main:
        name = script_name(names)
        by_path = spec is None or spec.name == "__main__"
    if not by_path:
        spec = find_importable_spec(name)
        origin = spec and spec.has_location and spec.origin
        by_path = not origin or Path(origin).resolve() != path
    return ModuleRef("", name, str(path) if by_path else None)


def find_importable_spec(name: str) -> ModuleSpec | None:
    """The spec that a fresh process would find for a module; no code is run.

    For a module that is imported already, `importlib.util.find_spec` returns its present origin.
    """
    parent, _, _ = name.rpartition(".")
    places: Any = None
    if parent:
        above = find_importable_spec(parent)
        if above is None:
            return None
        loaded = sys.modules.get(parent)
        # A package may have changed its search path during import.
        same = above.origin is None or _file_in(loaded) == Path(above.origin).resolve()
        places = getattr(loaded, "__path__", None) if loaded is not None and same else None
        places = places if places is not None else above.submodule_search_locations
        if places is None:
            return None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = None if find is None else find(name, places)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec is not None:
            return spec
    return None


# -- what a module needs --------------------------------------------------------------------------

_MOST_FILES = 50


def installed_imports(given: ModuleType | str | Path) -> tuple[str, ...]:
    """The installed modules that a problem and its neighbouring files import at top level.

    The files are parsed, not run.  Modules that cannot be found are left out, and so are Python's
    own: those that take long to import are few.
    """
    waiting, seen = [_file_of(given)], set[Path]()
    found: dict[str, None] = {}
    while waiting and len(seen) < _MOST_FILES:
        path = waiting.pop()
        if path is None or path in seen:
            continue
        seen.add(path)
        for name in _imports_of(path):
            if name.partition(".")[0] in sys.stdlib_module_names:
                continue
            file = _locate(name)
            if file is not None and _is_installed(file):
                found[name] = None
            else:
                waiting.append(file)
    return tuple(found)


def _file_of(given: object) -> Path | None:
    if isinstance(given, ModuleType):
        given = Path(getattr(given, "__file__", None) or "nowhere.py")
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith(".py")):
        return Path(given).resolve()
    return _locate(given) if isinstance(given, str) else None


def _imports_of(path: Path) -> list[str]:
    """The full names of the modules that a file imports at top level."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, ValueError, SyntaxError):
        return []
    found = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module)
    return found


def _locate(name: str) -> Path | None:
    """A module's file; only its outermost package is looked up, so that no code is run."""
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    # A package without `__init__.py` has a search path but no origin; a built-in has neither.
    places = spec.submodule_search_locations
    if not places or not rest:
        return Path(spec.origin) if spec.origin and spec.has_location else None
    inner = Path(next(iter(places))).joinpath(*rest)
    inside = inner / "__init__.py"
    return inside if inside.exists() else inner.with_suffix(".py")


def _is_installed(path: Path) -> bool:
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return any(path.is_relative_to(folder) for folder in folders)


# -- importing it ---------------------------------------------------------------------------------


def import_module(ref: ModuleRef) -> ModuleType:
    """The module, imported by path or by name, or made of what was carried.

    Raises:
        ProblemError: it cannot be found or imported.
    """
    if ref.carried is not None:
        return _module_of(ref.carried, ref.module)
    return _import_file(ref) if ref.path is not None else _import_name(ref.module)


@lru_cache(maxsize=1)
def _module_of(carried: Carried, name: str) -> ModuleType:
    """A module with what was carried, the same one at each call, as if it were imported."""
    module = ModuleType(name)
    _guarded(name, lambda: vars(module).update(unpack(carried)))
    return module


def _import_file(ref: ModuleRef) -> ModuleType:
    path = str(ref.path)
    known = sys.modules.get(ref.module)
    if known is not None and str(_file_in(known)) == path:
        return known
    spec = importlib.util.spec_from_file_location(ref.module, path)
    if spec is None:  # a script need not end in .py
        loader: Any = _ScriptLoader(ref.module, path)
        spec = importlib.util.spec_from_file_location(ref.module, path, loader=loader)
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


class _ScriptLoader(SourceFileLoader):
    """Loads a file without `.py`, whose byte code would replace that of a `.py` namesake."""

    def path_stats(self, path: str) -> Any:
        """Raises OSError, so that no byte code is read or written."""
        raise OSError(path)


def _import_name(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = _find_spec(name)
    # Python removes a module whose import fails, so this must, too.
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
    except Exception as error:  # raised by a parent package
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
        _cut_short.add(name)
    except (Exception, SystemExit) as error:
        raise ProblemError(
            f"module={name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        _loading.pop()
