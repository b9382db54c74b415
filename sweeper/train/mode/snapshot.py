"""What objects hold, to be compared with itself later: whether training has changed anything."""

from __future__ import annotations

import copyreg
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.vectorize.trace import CannotPackError


def contents(parts: Sequence[Any]) -> list[Any]:
    """What each holds, equal where it still holds the same; the buffers of modules are left out.

    Module-level globals that their methods use are not seen.

    Raises:
        CannotPackError: something cannot be looked into.
    """
    look = _Look(parts)
    return [[(name, look(value)) for name, value in _held(part)] for part in parts]


def _held(part: Any) -> list[tuple[str, Any]]:
    """By name: the attributes of an object, and of those of its classes that are its author's."""
    kinds = [
        kind
        for kind in type(part).__mro__
        if kind.__module__.partition(".")[0] not in {"torch", "builtins"}
    ]
    shared = [item for kind in kinds for item in vars(kind).items() if _is_state(*item)]
    if not isinstance(part, nn.Module):
        return [*shared, ("", part)]
    return [*shared, *(item for item in part.__dict__.items() if item[0] != "_buffers")]


def _is_state(name: str, value: Any) -> bool:
    """Whether an attribute of a class may hold something that changes; its functions may."""
    named = not name.startswith(("__", "_abc_")) and not hasattr(value, "__get__")
    return named or isinstance(value, types.FunctionType)


class _Look:
    """What can be compared later, of anything: numbers and texts by value, objects by contents."""

    def __init__(self, known: Sequence[Any]) -> None:
        """`known` are looked at by themselves."""
        self._known = {id(part) for part in known if isinstance(part, nn.Module)}
        # Kept alive, since what was made to be looked at has its identity only as long as it lives.
        self._seen: dict[int, tuple[int, Any]] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, _FIXED) or id(value) in self._known:
            return id(value)
        if isinstance(value, Tensor):
            return id(value), value._version, value.data_ptr()  # noqa: SLF001
        if isinstance(value, np.ndarray):
            return value.shape, value.dtype.str, value.tobytes()
        if id(value) in self._seen:
            return self._seen[id(value)][0]
        self._seen[id(value)] = (len(self._seen), value)
        if isinstance(value, Mapping):
            pairs = [(self(key), self(item)) for key, item in value.items()]
            return pairs, self(getattr(value, "__dict__", None))
        if isinstance(value, list | tuple | set | frozenset):
            kind = type(value).__name__
            return kind, [*map(self, value)], self(getattr(value, "__dict__", None))
        return type(value).__name__, self(self._inside(value))

    @staticmethod
    def _inside(value: Any) -> Any:
        """What it holds, as far as that can be had.

        Raises:
            CannotPackError: it cannot.
        """
        if isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or () if cell != _EMPTY]
            given = [value.__defaults__, value.__kwdefaults__]
            return [value.__code__, cells, given, value.__dict__]
        if isinstance(value, types.MethodType):
            return [value.__self__, value.__func__]
        if isinstance(value, types.BuiltinFunctionType):
            return [value.__name__, value.__self__]
        if isinstance(value, weakref.ReferenceType):
            return value()
        if isinstance(value, nn.Module):  # not among the model's own
            return value.__dict__
        try:  # as copies and files do: what it takes to make another
            reduce = copyreg.dispatch_table.get(type(value))
            how: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise CannotPackError(f"it holds a {type(value).__name__}, which may change") from error
        if isinstance(how, str):
            return how
        return [list(part) if isinstance(part, Iterator) else part for part in how]


_EMPTY = types.CellType()

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})

_FIXED = (
    *(type, types.ModuleType, types.CodeType, types.UnionType, np.dtype),
    *(torch.dtype, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
    *(torch.jit.ScriptFunction, torch._ops.OpOverload, torch._ops.OpOverloadPacket),  # noqa: SLF001
)
"""What stays as it is: told apart by identity."""
