"""Checkpoint files: their names, and a form that shows whether one is whole and whose it is.

A file begins with the SHA-256 of all that follows, then the identity of what it belongs to, a
SHA-256 in hexadecimal.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sweeper.disk.files import write_swapped

PART, END = ".part", ".end"
"""Suffixes of checkpoints: of a trial that has not ended, and of a trial's end.  When the outcome
is durable, the driver removes the part."""

_DIGEST, _IDENTITY = 32, 64
"""Bytes of the SHA-256 with which a file begins, and of the identity that follows."""


def write_sealed(path: Path, identity: str, body: bytes) -> None:
    """Write a file, durable on return.

    Raises:
        DiskError: it cannot be written.
    """
    data = identity.encode() + body
    write_swapped(path, hashlib.sha256(data).digest() + data, sync=True)


def read_sealed(path: Path, identity: str) -> bytes | None:
    """The file's body; None: it is not there, damaged, a link, or belongs to anything else."""
    if path.is_symlink() or not path.is_file():  # reading a pipe would never end
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = _DIGEST + _IDENTITY
    whole = hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]
    return data[body:] if whole and data[_DIGEST:body] == identity.encode() else None
