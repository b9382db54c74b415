"""The checksum of samples: all that is in them, tensors or not."""

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
    """What a tensor holds, as it lies in memory where it is contiguous."""
    # By way of uint8, since numpy lacks some of torch's types.
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


class Checksum:
    """Of batches of samples, one after the other.

    Earlier releases looked at tensors alone, within lists, tuples and dicts.  Where there is
    nothing else the checksum is still theirs; else `earlier` is what they had.
    """

    def __init__(self) -> None:
        self._tensors, self._rest = hashlib.sha256(), hashlib.sha256()
        self._only_tensors = True
        self.unknown: dict[str, None] = {}
        """The types of what could not be looked into."""

    def begin(self, samples: int) -> None:
        """A set of so many samples begins."""
        self._tensors.update(f"{samples} samples".encode())

    def add(self, batch: Any) -> None:
        """Take in a batch."""
        self._add(batch, was_seen=True)

    @property
    def sha256(self) -> str:
        """Of all that was added."""
        if self._only_tensors:
            return self._tensors.hexdigest()
        return hashlib.sha256(self._tensors.digest() + self._rest.digest()).hexdigest()

    @property
    def earlier(self) -> str:
        """The checksum of earlier releases where it is another one, else empty."""
        return "" if self._only_tensors else self._tensors.hexdigest()

    def _add(self, value: Any, *, was_seen: bool) -> None:
        """`was_seen`: whether earlier releases came here, too."""
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
        """What earlier releases passed over."""
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
            # By qualified name: the module's own name depends on how the problem was given.
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
    """Its pairs in an order that is the same however it was filled."""
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
"""Types whose `repr` says everything."""


def _written(value: Any) -> bytes | None:
    """A value that holds no others, as bytes; None: nobody knows how."""
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
    """The tensors that earlier releases found in a sample."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
