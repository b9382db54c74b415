"""Classes and functions by their names, `"module:Name"`, as folders store them."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sweeper.errors import ParamError


def reference(value: Any, name: str = "parameter") -> str:
    """`"module:Name"` of an importable class or function.

    For one defined in the running script, the module is the script's file name, as workers see it.

    Raises:
        ParamError: it cannot be found by that name.
    """
    module_name = _home(value)
    tried = []
    for qualified in _names(value):
        if module_name is not None and _within(module_name, qualified) is value:
            return f"{script_name() if module_name == '__main__' else module_name}:{qualified}"
        tried.append(qualified)
    raise ParamError(f"{name}={value!r} cannot be imported by name: {_why(module_name, tried)}")


def _home(value: Any) -> str | None:
    """The name of the module in which `value` was defined, if it has one."""
    for holder in (value, getattr(value, "__objclass__", None)):  # a method of a built-in class
        found = getattr(holder, "__module__", None)
        if isinstance(found, str):
            return found
    return None


def _names(value: Any) -> list[str]:
    """Names that `value` may have in its module, the likeliest first.

    `torch.tanh`, for example, calls itself a method of a class that cannot be imported.
    """
    found = (getattr(value, name, None) for name in ("__qualname__", "__name__"))
    # An instance may have the `__name__` of its class, but is not the class.
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _within(module_name: str, qualified: str) -> Any:
    """The attribute `qualified` of an imported module; None if there is none."""
    if module_name == "__main__":
        return _attribute(SimpleNamespace(**main_globals()), qualified)
    return _attribute(sys.modules.get(module_name), qualified)


def _why(module_name: str | None, tried: list[str]) -> str:
    """Why none of the `tried` names was found, and what to do."""
    if not tried or module_name is None or "<" in tried[0]:
        return (
            "use a class or function that is defined at the top of a module (no lambda, no "
            "instance, nothing local)"
        )
    found = _within(module_name, tried[0])
    there = "has nothing" if found is None else "has something else"
    return (
        f"module {module_name} {there} called {tried[0]}: use a class or function that is found "
        "under its own name in the module where it is defined"
    )


def main_globals() -> Mapping[str, Any]:
    """The global names of the running script.

    If Python was started with a profiler or a debugger, the script that it runs is the caller,
    which has the name `__main__`, too.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__":
            return frame.f_globals
        frame = frame.f_back
    return vars(sys.modules["__main__"])


def script_name(main: Mapping[str, Any] | None = None) -> str:
    """The name under which the running script, or a module run by `-m`, can be imported.

    `main` are its global names, if already known.  One that is in no file is called `script`.
    """
    names = main_globals() if main is None else main
    spec = names.get("__spec__")
    if spec is not None and spec.name != "__main__":  # else a folder is being run
        return str(spec.name)
    file = names.get("__file__") or ""
    return name_of_file(Path(file)) if file not in ("", "<stdin>") else "script"


def name_of_file(path: Path) -> str:
    """The module name of a file; `__main__.py` takes its folder's name."""
    if path.stem != "__main__":
        return path.stem
    return Path(os.path.abspath(path)).parent.name.replace(".", "_") or "__main__"  # noqa: PTH100 - keeps links


def _attribute(module: Any, qualified: str) -> Any:
    found = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def find_importable(name: str) -> Any:
    """The class or function of `"module:Name"`, imported.

    Raises:
        ParamError: there is none.
    """
    module_name, _, qualified = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ParamError(f"{name!r} cannot be imported: {error}") from error
    found = _attribute(module, qualified)
    if found is None:
        raise ParamError(f"{name!r}: module {module_name} has no {qualified}")
    return found
