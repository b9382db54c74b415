"""Arrays and texts as bytes: `.npz` files in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def pack_arrays(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an `.npz` without pickled objects; no arrays give no bytes.

    Raises:
        ValueError: an array holds objects.
    """
    if not arrays:
        return b""
    # Not `np.savez`: older numpy would save `allow_pickle=False` as one more array.
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"array {name!r} holds objects, which only pickle can save")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack_arrays(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that `pack_arrays` wrote.

    Raises:
        ValueError: the bytes are something else, or damaged.
    """
    if not data:
        return {}
    try:
        return _read_npz(data)
    except Exception as error:  # whatever reading a zip or a header raises
        raise ValueError(f"arrays cannot be read: {error}") from error


def add_texts(data: bytes, texts: Mapping[str, str | Sequence[str]]) -> bytes:
    """Add texts to the bytes of `pack_arrays`: one or several per name.

    The result equals that of `pack_arrays` with the texts as its last arrays.
    """
    arrays = {name: np.array(text) for name, text in texts.items()}
    if not data or not arrays:
        return data or pack_arrays(arrays)
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def read_texts(data: bytes) -> dict[str, str | list[str]]:
    """The texts among the arrays that `pack_arrays` or `add_texts` wrote.

    Raises:
        ValueError: the bytes are no `.npz`, or damaged.
    """
    if b"'<U" not in data and b"'>U" not in data:  # no header names a text type
        return {}
    found = unpack_arrays(data)
    return {name: array.tolist() for name, array in found.items() if array.dtype.kind == "U"}


def _read_npz(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        parts = packed.infolist()
    # sweeper never compresses arrays: an entry larger than its bytes is a decompression bomb.
    stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    if not stored or sum(part.file_size for part in parts) > len(data):
        raise ValueError("it would unpack to more than its own size")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) for array in found.values()):
        raise ValueError("an entry is not an array")
    return found
