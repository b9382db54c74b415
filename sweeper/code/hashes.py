"""The hash of code that has no file: the same in every process.

It covers bytecode, constants, names, defaults, attributes of functions, the values that a closure
has caught, and the globals that the code reads; what can be imported counts by its name.  Names of
files and numbers of lines do not count.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

from sweeper.errors import UsageError

_MADE_ANEW = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__"}
    # What abstract classes note of their subclasses, and pickling of a class.
    | {"_abc_impl", "__slotnames__"}
)
"""Attributes of classes that say nothing of what they do."""

_PLAIN = frozenset({type(None), type(...), bool, int, float, complex, str, bytes})

Cached = functools._lru_cache_wrapper  # noqa: SLF001 - the type has no other name
"""The type of functions with `lru_cache`, or `cache`."""

_DISPATCHING = functools.singledispatch(len).__code__  # type: ignore[attr-defined] # it is one
"""The code of all functions with `singledispatch`, which have no type of their own."""

DISPATCH_PARTS = frozenset({"register", "dispatch", "registry", "_clear_cache", "__wrapped__"})
"""The attributes that `singledispatch` gives a function."""

_NAMED = (FunctionType, type, BuiltinFunctionType, MethodType, Cached)
"""What may be importable by name."""

_OF_SETS: tuple[Any, ...] = (set.__reduce__, frozenset.__reduce__)
"""How sets are pickled, also those of subclasses: as lists, in an order of this process."""

_MADE_BY_CODE = 1 << 9
"""The flag of classes that are not part of the interpreter (`Py_TPFLAGS_HEAPTYPE`)."""

_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"})


def read_code(found: Any, what: str) -> tuple[str, tuple[str, ...]]:
    """The SHA-256 of what an objective or a problem does, and the modules that it uses, sorted.

    Args:
        found: The objective; or the names of a problem, with what each stands for.
        what: What it is, for the message: `"the objective"`.

    Raises:
        UsageError: it uses something that no process could be given, such as an open file; the
            message names it.
    """
    reader = _Reader(what)
    return reader.read(found).hex(), tuple(sorted(reader.modules))


def find_home(value: Any) -> tuple[str, str] | None:
    """The module, not `__main__`, in which a class or function is found, and its name there.

    None: there is none.  A module may offer a method of an object of its own as a function, as
    `random.gauss` is.
    """
    holder = type(getattr(value, "__self__", None))
    for module, name in (
        (getattr(value, "__module__", None), getattr(value, "__qualname__", None)),
        (holder.__module__, getattr(value, "__name__", None)),
    ):
        if isinstance(name, str) and isinstance(module, str) and module != "__main__":
            found: Any = sys.modules.get(module)
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is value:
                return module, name
    return None


def is_dispatching(value: Any) -> bool:
    """Whether a value is a function with `functools.singledispatch`."""
    return isinstance(value, FunctionType) and value.__code__ is _DISPATCHING


class _Reader:
    """Hashes values from the inside out."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.modules: set[str] = set()
        self._names: list[str] = []
        """The names under which the present value was found, outermost first."""
        self._open: list[int] = []
        """The identities of the values that the present one is in, outermost first."""
        self._read: dict[int, tuple[bytes, Any]] = {}
        """By identity: the hashes of values, with the value, so that no other gets its identity."""

    def read(self, value: Any) -> bytes:
        """The hash of a value."""
        if type(value) in _PLAIN:
            shown = value if isinstance(value, bytes) else repr(value).encode()
            return _hash(type(value).__name__, shown)
        if id(value) in self._read:
            return self._read[id(value)][0]
        if id(value) in self._open:
            return _hash("around", str(self._open.index(id(value))).encode())
        self._open.append(id(value))
        kind, parts = self._parts(value)
        found = _hash(kind, *parts)
        self._open.pop()
        self._read[id(value)] = found, value
        return found

    def _parts(self, value: Any) -> tuple[str, Iterable[bytes]]:
        """The kind of a value, and the hashes that make up its own."""
        kind = type(value)
        if kind in (tuple, list):
            return kind.__name__, self._each(value)
        if kind in (set, frozenset):
            return kind.__name__, sorted(self._each(value))
        if kind in (dict, MappingProxyType):
            return kind.__name__, self._mapping(value)
        if isinstance(value, ModuleType):
            self.modules.add(value.__name__)
            return "module", [value.__name__.encode()]
        if isinstance(value, _NAMED) and (home := find_home(value)):
            self.modules.add(home[0])
            return "name", [":".join(home).encode()]
        if isinstance(value, type) and not value.__flags__ & _MADE_BY_CODE:
            return "name", [f"{value.__module__}:{value.__qualname__}".encode()]
        return kind.__name__, self._code_parts(value) or self._object(value)

    def _code_parts(self, value: Any) -> Iterable[bytes]:
        """The hashes of a part of the code; empty: it is another value."""
        match value:
            case CodeType():
                return self._code(value)
            case CellType():
                return self._cell(value)
            case FunctionType():
                return (self._dispatching if is_dispatching(value) else self._function)(value)
            case type():
                return self._class(value)
            case MethodType():
                return self._each((value.__func__, value.__self__))
            case staticmethod() | classmethod():
                return self._each((value.__func__,))
            case Cached():
                return self._each((value.__wrapped__, value.cache_parameters()))
            case property():
                return self._each((value.fget, value.fset, value.fdel))
            case functools.cached_property() if type(value) is functools.cached_property:
                return self._each((value.func, value.attrname))  # each copy has a lock of its own
        return ()

    def _each(self, values: Iterable[Any]) -> list[bytes]:
        return [self.read(value) for value in values]

    def _mapping(self, named: Mapping[Any, Any]) -> list[bytes]:
        """Keys and values, each found under the name of its key."""
        found = []
        for key, value in named.items():
            self._names.append(str(key))
            found += [self.read(key), self.read(value)]
            self._names.pop()
        return found

    def _code(self, code: CodeType) -> list[bytes]:
        self.modules.update(_imports(code))
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return self._each((code.co_code, code.co_exceptiontable, counts, names, code.co_consts))

    def _cell(self, cell: CellType) -> list[bytes]:
        try:
            held = cell.cell_contents
        except ValueError:  # not filled yet
            return [b"empty"]
        return [self.read(held)]

    def _function(self, function: FunctionType) -> list[bytes]:
        code, known = function.__code__, function.__globals__
        used = {name: known[name] for name in sorted(set(_globals(code))) if name in known}
        caught = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        for module in [one for one in used.values() if isinstance(one, ModuleType)]:
            self.modules.update(_submodules(module.__name__, set(_names(code))))
        defaults = self._each((function.__defaults__, function.__kwdefaults__))
        named = [
            found for names in (caught, used, vars(function)) for found in self._mapping(names)
        ]
        return [self.read(code), *defaults, *named]

    def _dispatching(self, function: Any) -> list[bytes]:
        """What `singledispatch` was given; what it has found since then says nothing more."""
        own = {name: one for name, one in vars(function).items() if name not in DISPATCH_PARTS}
        given = self._each(("singledispatch", function.__wrapped__))
        return [*given, *self._mapping(function.registry), *self._mapping(own)]

    def _class(self, found: type) -> list[bytes]:
        own = {name: value for name, value in sorted(vars(found).items()) if name not in _MADE_ANEW}
        kinds = found.__bases__ if type(found) is type else (*found.__bases__, type(found))
        return [*self._each(kinds), *self._mapping(own)]

    def _object(self, value: Any) -> list[bytes]:
        """Any other object, by what it would be pickled as."""
        if _is_tensor(value):
            numbers = value.detach().cpu().contiguous().reshape(-1)
            raw = numbers.view(sys.modules["torch"].uint8).numpy().tobytes()
            is_trained = [b"requires_grad"] if value.requires_grad else []
            return [str(value.dtype).encode(), str(tuple(value.shape)).encode(), raw, *is_trained]
        try:
            known = copyreg.dispatch_table.get(type(value))
            reduced = known(value) if known else value.__reduce_ex__(4)
        except Exception as error:  # it may raise whatever it likes
            raise self._refusal(value) from error
        if isinstance(reduced, str):
            return [f"{type(value).__module__}:{reduced}".encode()]
        make, arguments, state, *items = (*reduced, None, None, None)[:5]
        if type(value).__reduce__ in _OF_SETS:
            arguments = tuple(map(frozenset, arguments))
        found = self._each((make, arguments))
        found += self._mapping(state) if isinstance(state, dict) else [self.read(state)]
        return found + [self.read(list(one)) for one in items if one is not None]

    def _refusal(self, value: Any) -> UsageError:
        name = f"{' of '.join(map(repr, reversed(self._names)))}, " if self._names else ""
        return UsageError(
            f"{self._what} uses {name}{value!r:.80} (a {type(value).__name__}), which cannot be "
            f"carried to a worker: make it inside of the function that uses it, or put "
            f"{self._what}, and what it uses, into a module"
        )


def _hash(kind: str, *parts: bytes) -> bytes:
    found = hashlib.sha256(f"{kind} {len(parts)}\n".encode())
    for part in parts:
        found.update(f"{len(part)}\n".encode())
        found.update(part)
    return found.digest()


def _globals(code: CodeType) -> Iterator[str]:
    """The names of globals that code uses, also in functions within it."""
    for one in dis.get_instructions(code):
        if one.opname in _GLOBAL:
            yield one.argval
    for inner in _inner(code):
        yield from _globals(inner)


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes that code uses, also in functions within it."""
    yield from code.co_names
    for inner in _inner(code):
        yield from _names(inner)


def _submodules(module: str, names: set[str]) -> Iterator[str]:
    """The imported modules of these names in a package, in those, and so on."""
    for name in names:
        if (full := f"{module}.{name}") in sys.modules:
            yield full
            yield from _submodules(full, names)


def _imports(code: CodeType) -> Iterator[str]:
    """The modules that code imports; a name imported from a package may be a module in it."""
    package = ""
    for one in dis.get_instructions(code):
        if one.opname == "IMPORT_NAME":
            package = one.argval
            yield package
        if one.opname == "IMPORT_FROM":
            yield f"{package}.{one.argval}"


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (one for one in code.co_consts if isinstance(one, CodeType))


def _is_tensor(value: Any) -> bool:
    """Whether a value is a tensor that has all its numbers; a sparse one is made of such."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.layout is torch.strided
