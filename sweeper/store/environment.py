"""What a sweep ran in, as texts: in the database, and as files for people."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping
from typing import Any

from sweeper.disk.files import write_swapped
from sweeper.store.database.rows import are_texts, expect
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths

_KIND = "environment"

_LARGEST = 1 << 27
"""Bytes that may be unpacked: more are no environment, but an attack on memory."""


def save_environment(store: Store, paths: Paths, texts: Mapping[str, str]) -> None:
    """Store what this run was in, unless that is what the last one was in, and write the files.

    Raises:
        DiskError: it cannot be written.
    """
    if texts == read_environment(store):
        return
    packed = zlib.compress(json.dumps(dict(texts)).encode())
    value = {"zlib": base64.b64encode(packed).decode("ascii")}
    store.add_event(time.time(), _KIND, value)
    folder = Paths(paths.folder.resolve()).environment
    for name, text in texts.items():
        write_swapped(folder / name, text.encode(errors="backslashreplace"))
    for path in folder.iterdir():  # of an earlier run
        if path.name not in texts:
            path.unlink()


def read_environment(store: Store) -> dict[str, str]:
    """The last environment, by name of file; empty if none is stored.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    query = "SELECT value FROM events WHERE kind = ? ORDER BY seq DESC LIMIT 1"
    with store.understood():
        row = store.connection.execute(query, (_KIND,)).fetchone()
        return {} if row is None else _unpacked(json.loads(row[0])["zlib"])


def _unpacked(packed: str) -> dict[str, str]:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(base64.b64decode(packed, validate=True), _LARGEST)
    except zlib.error as error:
        raise ValueError("an environment cannot be unpacked") from error
    expect(unpacker.eof, "an environment", packed)
    found: dict[str, Any] = json.loads(text)
    expect(isinstance(found, dict) and are_texts(found.values()), "an environment", found)
    return found
