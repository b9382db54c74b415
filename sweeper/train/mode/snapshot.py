"""Snapshots of objects' contents: compared later, they show whether training changed anything."""

from __future__ import annotations

import copyreg
import hashlib
import types
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.vectorize.trace import CannotPackError


def contents(parts: Sequence[Any]) -> list[Any]:
    """A snapshot of each object, equal to a later one if nothing changed; buffers are left out.

    Module-level globals that methods use are not seen.

    Raises:
        CannotPackError: an object cannot be inspected.
    """
    look = _Look(parts)
    return [[(name, look(value)) for name, value in _held(part)] for part in parts]


def described(parts: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
    """As `contents`, equal in another process, too, to one of an object with the same contents.

    `tensors` are left out: they are named by their place.  Other tensors count by their values.

    Raises:
        CannotPackError: an object cannot be inspected.
    """
    look = _LookAnywhere(parts, tensors)
    return [[(name, look(value)) for name, value in _held(part)] for part in parts]


def _held(part: Any) -> list[tuple[str, Any]]:
    """Attributes by name: the object's own, and those of its classes that the user wrote."""
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
    """Whether a class attribute may hold state that changes; functions may, too."""
    named = not name.startswith(("__", "_abc_")) and not hasattr(value, "__get__")
    return named or isinstance(value, types.FunctionType)


class _Look:
    """A comparable form of any value: numbers and texts by value, objects by their contents."""

    def __init__(self, known: Sequence[Any]) -> None:
        """`known` are objects with a snapshot of their own; here they count by identity."""
        self._known = {id(part) for part in known if isinstance(part, nn.Module)}
        # Kept alive: the id of an object made during the inspection is unique only while it lives.
        self._seen: dict[int, tuple[int, Any]] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) in _PLAIN:
            return repr(value)
        if isinstance(value, _FIXED) or id(value) in self._known:
            return self._name(value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
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

    def _name(self, value: Any) -> Any:
        """Which immutable object, or which of the known ones."""
        return id(value)

    def _tensor(self, tensor: Tensor) -> Any:
        return id(tensor), tensor._version, tensor.data_ptr()  # noqa: SLF001

    def _array(self, array: Any) -> Any:
        return array.shape, array.dtype.str, array.tobytes()

    @staticmethod
    def _inside(value: Any) -> Any:
        """The contents of an object.

        Raises:
            CannotPackError: they cannot be read.
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
        if isinstance(value, nn.Module):  # not a part of the model
            return value.__dict__
        try:  # as copy and pickle do
            reduce = copyreg.dispatch_table.get(type(value))
            how: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise CannotPackError(f"it holds a {type(value).__name__}, which may change") from error
        if isinstance(how, str):
            return how
        return [list(part) if isinstance(part, Iterator) else part for part in how]


def bytes_of(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The bytes of its numbers, in order."""
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy(force=True)


class _LookAnywhere(_Look):
    """As `_Look`, without addresses of this process."""

    def __init__(self, known: Sequence[Any], tensors: Sequence[Tensor]) -> None:
        super().__init__(known)
        self._bytes = 0
        self._place = {id(part): place for place, part in enumerate([*known, *tensors])}

    def _name(self, value: Any) -> Any:
        if id(value) in self._known:
            return self._place[id(value)]
        if isinstance(value, types.CodeType):
            return value.co_qualname, value.co_firstlineno
        if isinstance(value, type | types.ModuleType):
            return getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__)
        return type(value).__name__, str(value)

    def _tensor(self, tensor: Tensor) -> Any:
        if id(tensor) in self._place:
            return self._place[id(tensor)], tensor.requires_grad
        return str(tensor.dtype), tuple(tensor.shape), self._array(bytes_of(tensor))

    def _array(self, array: Any) -> Any:
        self._bytes += array.nbytes
        if array.dtype.hasobject or self._bytes > _MOST_BYTES:
            raise CannotPackError("it holds an array that is too large to be compared")
        digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        return array.shape, array.dtype.str, digest


_MOST_BYTES = 2**30


_EMPTY = types.CellType()

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})

_FIXED = (
    *(type, types.ModuleType, types.CodeType, types.UnionType, np.dtype),
    *(torch.dtype, torch.layout, torch.memory_format, torch.finfo, torch.iinfo),
    *(torch.jit.ScriptFunction, torch._ops.OpOverload, torch._ops.OpOverloadPacket),  # noqa: SLF001
)
"""Immutable kinds, compared by identity."""
