"""Checkpoints of a program's trials: what an objective saves, and from which it goes on.

The files are those of problems (`sweeper.store.checkpoints` says which are still needed): `N.part`
of a trial that has not ended, with a budget `N@3.part`; and `N@3.end`, the last save of a trial
that has ended, from which a larger budget goes on.  A file that is damaged, or belongs to anything
else, is ignored: the trial then begins afresh.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.disk.sealed import END, PART, read_sealed, write_sealed
from sweeper.program.trial.arrays import Arrays

_ABOUT, _SAVED = "about", "saved."
"""Names in the `.npz`: the history and the random generators as JSON, and before each array."""

History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Saved:
    """A trial where its objective has saved it."""

    history: History
    """What it had reported by then."""
    random: dict[str, Any]
    """The states of the random generators (see `read_random`)."""
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where one trial is saved."""

    folder: Path
    name: str
    """The trial's number; with a budget `"0@3"`."""
    identity: str
    """A digest of all that its results depend on, but for the budget."""
    budget: int | None

    def write(self, saved: Saved) -> None:
        """Make it durable.

        Raises:
            DiskError: it cannot be written.
        """
        about = json.dumps({"history": saved.history, "random": saved.random}).encode()
        arrays = {f"{_SAVED}{name}": array for name, array in saved.arrays.items()}
        packed = pack_arrays({_ABOUT: np.frombuffer(about, dtype=np.uint8), **arrays})
        write_sealed(self._path(PART), self.identity, packed)

    def read(self) -> Saved | None:
        """The latest from which this trial may go on, if there is any."""
        if not self.folder.is_dir():
            return None
        found = [saved for path in self._candidates() if (saved := self._read(path)) is not None]
        usable = [one for one in found if self.budget is None or len(one.history) <= self.budget]
        return max(usable, key=lambda one: len(one.history), default=None)

    def end(self) -> None:
        """Keep the last save for larger budgets: the trial has ended."""
        if self.budget is not None:
            with contextlib.suppress(OSError):  # a larger budget then begins afresh
                self._path(PART).replace(self._path(END))

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"

    def _candidates(self) -> Iterator[Path]:
        """Its own file, and those of the same trial with other budgets."""
        if self.budget is None:
            yield self._path(PART)
            return
        number, _, _ = self.name.partition("@")
        for path in sorted(self.folder.glob(f"{number}@*")):
            if path.suffix in {PART, END}:
                yield path

    def _read(self, path: Path) -> Saved | None:
        body = read_sealed(path, self.identity)
        if body is None:
            return None
        with contextlib.suppress(Exception):  # whatever is in the file
            return _unpack(body)
        return None


def _unpack(data: bytes) -> Saved:
    arrays = unpack_arrays(data)
    about = json.loads(arrays.pop(_ABOUT).tobytes())
    saved = {name.removeprefix(_SAVED): array for name, array in arrays.items()}
    return Saved(about["history"], about["random"], saved)
