"""Artifacts: arrays that an objective returns beside its metrics, kept in the trial's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.disk.arrays import pack_arrays
from sweeper.disk.files import write_swapped
from sweeper.program.trial.arrays import as_arrays
from sweeper.records import ARTIFACTS


def split(given: Any) -> tuple[Any, Mapping[Any, Any]]:
    """What an objective returned as its metrics and its artifacts, which may be none.

    They are a pair of metrics and a mapping from names to arrays.
    """
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
        return given
    return given, {}


def save_artifacts(given: Mapping[Any, Any], folder: Path) -> str:
    """Write `artifacts.npz`, durable on return; returns its SHA-256 in hexadecimal.

    Raises:
        TypeError: a value is no array.
        DiskError: it cannot be written.
    """
    data = pack_arrays(as_arrays(given, "artifacts"))
    write_swapped(folder / ARTIFACTS, data, sync=True)
    return hashlib.sha256(data).hexdigest()
