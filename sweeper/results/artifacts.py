"""What a folder has of trials besides their metrics, read when needed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sweeper.disk.arrays import unpack_arrays
from sweeper.disk.files import explained
from sweeper.errors import FolderError

Array = np.ndarray[Any, Any]


class TrialRecords(Protocol):
    """The records of one point's trials with one budget."""

    def histories(self) -> Mapping[int, Mapping[str, Array]]:
        """By trial number: arrays by name, each of shape (iterations,).

        Raises:
            FolderError: the folder is gone or damaged.
        """

    def artifacts(self) -> Mapping[int, Artifacts]:
        """By trial number, where there are any.

        Raises:
            FolderError: as `histories`.
        """

    def correct(self) -> Mapping[int, Array]:
        """Which validation samples trials got right, as packed bits (`numpy.packbits`).

        By trial number, of the few trials that stored it, whichever group they are of.

        Raises:
            FolderError: as `histories`.
        """


class Artifacts(Mapping[str, Array]):
    """The arrays of one trial by name; read, and kept, when the first is asked for.

    Raises:
        DiskError: the file is gone, or cannot be read.
        FolderError: it is not the one that the trial wrote.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path
        """An `.npz` in the trial's folder."""
        self.sha256 = sha256
        """Its checksum, which the trial's outcome has."""

    def __repr__(self) -> str:
        return f"<Artifacts: {self.path}>"

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @functools.cached_property
    def _arrays(self) -> dict[str, Array]:
        with explained(self.path):
            data = self.path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise FolderError(
                f"{self.path} is not the file that its trial wrote: its SHA-256 is {found}, and "
                f"the outcome has {self.sha256}"
            )
        return unpack_arrays(data)


class HeldRecords:
    """The records of one point's trials in memory: see `TrialRecords`."""

    def __init__(self, records: TrialRecords) -> None:
        """Read them all; the errors are those of `TrialRecords` and `Artifacts`."""
        self._histories = records.histories()
        self._artifacts = records.artifacts()
        self._correct = records.correct()
        for found in self._artifacts.values():
            len(found)  # reads the file

    def histories(self) -> Mapping[int, Mapping[str, Array]]:
        """See `TrialRecords`."""
        return self._histories

    def artifacts(self) -> Mapping[int, Artifacts]:
        """See `TrialRecords`."""
        return self._artifacts

    def correct(self) -> Mapping[int, Array]:
        """See `TrialRecords`."""
        return self._correct
