"""The metrics of trials as tuples of numbers, and the one that points are judged by.  Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sweeper.records import Metric
from sweeper.results import is_classic, judged_by


class Measures:
    """Turns the metrics of outcomes into tuples, and tuples into what selectors are told.

    Args:
        metrics: The metrics known beforehand: those of a problem are all of them; a program may
            measure others, whose names are added as they come.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._names = [metric.name for metric in metrics]
        self._learns = not is_classic(metrics)
        self._all = None if self._learns else operator.itemgetter(*self._names)
        self.judged = judged_by(metrics)
        """The metric by which points are ranked while the sweep runs; None: there is none."""
        self._place = 0 if self.judged is None else self._names.index(self.judged.name)
        self._judged_of = operator.itemgetter(self._place)
        self._sign = -1.0 if self.judged and self.judged.direction == "minimize" else 1.0

    @property
    def are_classic(self) -> bool:
        """Whether they are those of a problem."""
        return not self._learns

    def read(self, found: Mapping[str, float]) -> tuple[float, ...]:
        """An outcome's metrics; NaN where a program did not measure one."""
        if self._all is not None:
            values: tuple[float, ...] = self._all(found)
            return values
        self._names += [name for name in found if name not in self._names]
        return tuple([found.get(name, math.nan) for name in self._names])

    def merits(self, trials: Sequence[tuple[float, ...]]) -> list[float]:
        """How good trials are: larger is better, NaN is the worst; empty if nothing says."""
        if self.judged is None:
            return []
        found: list[float] = list(map(self._judged_of, trials))
        if self._sign < 0:
            found = [-one for one in found]
        if math.isnan(sum(found)):  # also of infinite ones
            found = [-math.inf if math.isnan(one) else one for one in found]
        return found

    def judged_values(self, trials: Sequence[tuple[float, ...]]) -> list[float]:
        """The values of the metric that points are judged by; of the first, where there is none.

        NaN for a trial that did not measure it.
        """
        return [each[self._place] if each else math.nan for each in trials]

    def value(self, merit: float) -> float:
        """The value of the metric that a merit stands for."""
        return self._sign * merit

    def columns(self, trials: Sequence[tuple[float, ...]]) -> dict[str, npt.NDArray[np.float64]]:
        """By name the values over trials, shape (trials,).

        What none of these trials of a program has measured is left out: a name that is known from
        other trials must not show how far these are.
        """
        width = len(self._names)
        rows = trials
        if self._learns:
            rows = [(*values, *[math.nan] * (width - len(values))) for values in trials]
        table = np.array(rows, dtype=float).reshape(len(trials), width).T
        return {
            name: column.copy()
            for name, column in zip(self._names, table, strict=True)
            if not self._learns or not np.isnan(column).all()
        }
