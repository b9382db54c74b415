"""The checksum of samples, over all that they contain, tensors or not."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import hashlib
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import torch
from torch import Tensor


def bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's bytes, in the order of a contiguous tensor."""
    # Through uint8, since numpy lacks some of torch's types.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


class Checksum:
    """The checksum of batches of samples, added one after the other.

    Earlier releases read tensors only, within lists, tuples and dicts.  If samples contain nothing
    else, the checksum is the same as theirs; otherwise `earlier` is theirs.
    """

    def __init__(self) -> None:
        self._tensors, self._rest = hashlib.sha256(), hashlib.sha256()
        self._only_tensors = True
        self.unknown: dict[str, None] = {}
        """Types of objects that could not be inspected."""

    def begin(self, samples: int) -> None:
        """Begin a set of `samples` samples."""
        self._tensors.update(f"{samples} samples".encode())

    def add(self, batch: Any) -> None:
        """Add a batch."""
        self._add(batch, was_seen=True)

    @property
    def sha256(self) -> str:
        """The checksum of all that was added."""
        if self._only_tensors:
            return self._tensors.hexdigest()
        return hashlib.sha256(self._tensors.digest() + self._rest.digest()).hexdigest()

    @property
    def earlier(self) -> str:
        """The checksum of earlier releases if it differs, else empty."""
        return "" if self._only_tensors else self._tensors.hexdigest()

    def _add(self, value: Any, *, was_seen: bool) -> None:
        """`was_seen`: whether earlier releases read this value, too."""
        if isinstance(value, Tensor):
            self._rest.update(b"tensor;")
            _write_tensor(value, self._tensors if was_seen else self._rest)
        elif isinstance(value, Mapping):
            self._only_tensors = False
            pairs = _sorted(value)
            self._tag("mapping", len(pairs))
            for key, item in pairs:
                self._rest.update(self._digest_of(key))
                self._add(item, was_seen=was_seen and isinstance(value, dict))
        elif isinstance(value, list | tuple):
            if hasattr(value, "_fields"):  # a named tuple
                self._only_tensors = False
                self._tag(",".join(value._fields), len(value))
            self._tag("sequence", len(value))
            for item in value:
                self._add(item, was_seen=was_seen)
        else:
            self._only_tensors = False
            self._add_other(value)

    def _add_other(self, value: Any) -> None:
        """Add a value that earlier releases ignored."""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
            self._tag(type(value).__qualname__, len(fields))
            for name, item in fields:
                self._tag(name, 1)
                self._add(item, was_seen=False)
        elif isinstance(value, AbstractSet):
            self._tag("set", len(value))
            for digest in sorted(map(self._digest_of, value)):
                self._rest.update(digest)
        elif isinstance(value, np.ndarray) and value.dtype.hasobject:
            self._tag(f"array {value.shape}", value.size)
            for item in value.ravel().tolist():
                self._add(item, was_seen=False)
        else:
            written = _written(value)
            if written is None:
                self.unknown[type(value).__name__] = None
                written = b""
            # By qualified name: the module's name depends on how the problem was given.
            self._tag(type(value).__qualname__, len(written))
            self._rest.update(written)

    def _tag(self, what: str, count: int) -> None:
        self._rest.update(f"{what} {count};".encode("utf-8", "surrogatepass"))

    def _digest_of(self, value: Any) -> bytes:
        inner = Checksum()
        inner._add(value, was_seen=False)
        self.unknown |= inner.unknown
        return inner._rest.digest()


def _write_tensor(value: Tensor, digest: Any) -> None:
    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
    digest.update(bytes_of(value))


def _sorted(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Its pairs in an order that does not depend on how it was filled."""
    try:
        keys: Iterable[Any] = sorted(value)
    except TypeError:  # keys of several types
        keys = sorted(value, key=lambda key: (type(key).__qualname__, repr(key)))
    return [(key, value[key]) for key in keys]


_SHOWN = (
    *(type(None), bool, int, complex, range, slice, torch.dtype, torch.device, torch.Size),
    *(dt.date, dt.time, dt.timedelta, dt.tzinfo),
    *(decimal.Decimal, fractions.Fraction, pathlib.PurePath, uuid.UUID),
)
"""Types whose `repr` is complete."""


def _written(value: Any) -> bytes | None:
    """An atomic value as bytes; None if its type is not known."""
    if isinstance(value, enum.Enum):
        return value.name.encode("utf-8", "surrogatepass")
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, float):
        return value.hex().encode()
    return repr(value).encode("utf-8", "surrogatepass") if isinstance(value, _SHOWN) else None


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a sample that earlier releases read."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
