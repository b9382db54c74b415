"""What no worker could import: closures, lambdas, and what is typed in, also a whole problem.

It is carried to workers by value (cloudpickle), and goes by the hash of its code.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, ClassVar

from sweeper.code.hashes import DISPATCH_PARTS, Cached, find_home, is_dispatching, read_code
from sweeper.errors import UsageError

COPIED = "workers get a copy: its identity is the hash of its code and of the values that it uses"
"""What the summary says of what is carried."""

NO_FILE = " (no file)"
"""How the name of its code ends among those of files."""

PROBLEM = (
    *("model", "dataset", "loss", "accuracy_style", "metrics", "optimizer", "handlers"),
    *("clip_grad_norm", "clip_grad_value", "validation", "name"),
)
"""The names that a problem may have."""


@dataclass(frozen=True, slots=True)
class Carried:
    """An objective, or the names of a problem, by value."""

    pickled: bytes
    sha256: str
    """Of what it does: see `sweeper.code.hashes`."""
    modules: tuple[str, ...]
    """The modules that it uses, which workers import."""
    text: str
    """Its source text, for people; empty if not known."""


def carry(objective: Callable[..., Any]) -> Carried:
    """Pack an objective for workers.

    Raises:
        UsageError: it uses something that no worker could be given.
    """
    return _carry(objective, f"objective={objective!r}", "the objective", [objective])


def carry_problem(names: Mapping[str, Any]) -> Carried:
    """Pack a problem for workers, given the names of the program that has no file.

    Classes and functions that are defined there go with it, since parameters may name them.  What
    cannot be carried, and what uses sweeper itself, as code that begins a sweep or shows its
    results, stays behind.

    Raises:
        UsageError: the problem uses something that no worker could be given.
    """
    own = {name: names[name] for name in PROBLEM if name in names}
    others = {name: names[name] for name in sorted(names) if _goes_along(name, names[name])}
    found = {**own, **others}
    return _carry(found, "the problem", "the problem", found.values())


def _goes_along(name: str, value: Any) -> bool:
    """Whether a parameter of a point may name it."""
    if not isinstance(value, type | FunctionType) or value.__module__ != "__main__":
        return False
    if value.__qualname__ != name:
        return False
    try:
        _, modules = read_code(value, "the problem")
    except UsageError:
        return False
    return not any(module.partition(".")[0] == "sweeper" for module in modules)


def _carry(found: Any, given: str, what: str, parts: Iterable[Any]) -> Carried:
    sha256, modules = read_code(found, what)
    try:
        pickled = _pickle(found)
    except Exception as error:  # pickling runs the user's code
        raise UsageError(
            f"{given} cannot be carried to a worker ({type(error).__name__}: {error}): put it, "
            "and what it uses, into a module"
        ) from error
    return Carried(pickled, sha256, modules, "\n".join(filter(None, map(_text, parts))))


def _pickle(found: Any) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc] # it ships no types
        dispatch_table: ClassVar[Any] = ChainMap(
            {
                Cached: _reduce_cached,
                functools.cached_property: _reduce_cached_property,
                MethodType: _reduce_method,
                BuiltinFunctionType: _reduce_method,
            },
            cloudpickle.CloudPickler.dispatch_table,
        )

        def reducer_override(self, value: Any) -> Any:
            if is_dispatching(value) and find_home(value) is None:
                return _reduce_dispatching(value)
            return _without_tracker(super().reducer_override(value), value)

    file = io.BytesIO()
    Pickler(file).dump(found)
    return file.getvalue()


def _without_tracker(reduced: Any, value: Any) -> Any:
    """How a class is pickled so that each copy is a class of its own.

    By its tracker cloudpickle would find the class itself in this process, or an earlier copy in a
    worker, and change its attributes.
    """
    if isinstance(value, type) and isinstance(reduced, tuple):
        make, arguments, *state = reduced
        if make.__name__.startswith("_make_skeleton_"):
            return make, (*arguments[:-2], None, *arguments[-1:]), *state
    return reduced


def _reduce_cached(cached: Any) -> Any:
    """How a function with `lru_cache` is pickled, which cloudpickle leaves to its name."""
    if find_home(cached) is not None:
        return cached.__qualname__
    return _make_cached, (cached.__wrapped__, cached.cache_parameters())


def _reduce_method(method: Any) -> Any:
    """How a method is pickled: by name if a module offers it, as `random.gauss`.

    With a copy of its object, the worker's own generator would be neither used nor seeded.
    """
    home = find_home(method)
    if home is not None and not isinstance(method.__self__, ModuleType):
        return getattr, (sys.modules[home[0]], home[1])
    if isinstance(method, MethodType):
        return MethodType, (method.__func__, method.__self__)
    return method.__reduce_ex__(4)


def _make_cached(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(found: Any) -> Any:
    """How a `cached_property` is pickled: with a lock of its own."""
    state = {name: value for name, value in vars(found).items() if name != "lock"}
    return functools.cached_property, (None,), state


def _reduce_dispatching(function: Any) -> Any:
    """How a function with `singledispatch` is pickled: by what it was given.

    What it was given may use the function itself, so that it is filled once it is there.
    """
    own = {name: value for name, value in vars(function).items() if name not in DISPATCH_PARTS}
    state = function.__wrapped__, list(function.registry.items()), own
    return _make_dispatching, (function.__name__,), state, None, None, _fill_dispatching


def _make_dispatching(name: str) -> Any:
    def empty(_: object) -> None:
        pass

    empty.__name__ = name
    return functools.singledispatch(empty)


def _fill_dispatching(function: Any, state: tuple[Any, list[tuple[type, Any]], Any]) -> None:
    wrapped, registry, own = state
    for kind, implementation in registry:
        function.register(kind, implementation)
    functools.update_wrapper(function, wrapped)
    vars(function).update(own)


def _text(part: Any) -> str:
    """The source text of a part that has no module of its own."""
    if find_home(part) is not None:
        return ""
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):
        return ""


def unpack(carried: Carried) -> Any:
    """A fresh copy of what was carried: what a trial changes in it, no other sees."""
    return pickle.loads(carried.pickled)  # noqa: S301 - made by `carry`
