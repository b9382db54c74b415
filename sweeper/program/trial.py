"""What an objective is told of its trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.program.metrics import read_values
from sweeper.records import Params


class Trial:
    """One trial, for an objective with a parameter named `trial`."""

    def __init__(
        self,
        number: int,
        seed: int,
        params: Params,
        folder: Path,
        cores: int,
        budget: int | None = None,
        declared: Sequence[str] = (),
        parent_folder: Path | None = None,
    ) -> None:
        self.number = number
        """From 0, within its point."""
        self.seed = seed
        """Its own seed, from 0 to 2**31 - 1: it depends on the sweep's seed, the point, the number
        and its parents alone.  random, numpy and torch are seeded from it where they are
        imported."""
        self.params = params
        """The point's parameters, as the selector gave them."""
        self.cores = cores
        """How many cores it has."""
        self.budget = budget
        """How many iterations it was asked for; None: as many as it likes."""
        self.parent_folder = parent_folder
        """The folder of the trial that it begins from, to be read only; None: it begins from
        nothing.  It exists if that trial has asked for its own."""
        self.history: list[dict[str, float]] = []
        """What was reported or yielded, an entry per iteration."""
        self._folder, self._declared = folder, declared

    @property
    def folder(self) -> Path:
        """A folder of its own for files, made when it is first asked for.

        A trial that is tried again finds there what it wrote before.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def report(self, **metrics: Any) -> None:
        """Add an iteration to the history, which is kept with the trial's outcome.

        Raises:
            ValueError: a metric cannot have this name, or there is none.
        """
        self.keep(metrics)

    def keep(self, values: Any) -> None:
        """Add what an iteration gave to the history; see `read_values` for what is raised."""
        self.history.append(read_values(values, self._declared))


def last_values(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last value of each metric."""
    return {name: value for entry in history for name, value in entry.items()}


def in_arrays(history: Sequence[Mapping[str, float]]) -> dict[str, npt.NDArray[np.float64]]:
    """By metric: its values over the iterations, NaN where an iteration has none."""
    names = dict.fromkeys(name for entry in history for name in entry)
    return {
        name: np.array([entry.get(name, np.nan) for entry in history], dtype=np.float64)
        for name in names
    }
