"""The metric by which a selector judges points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import CLASSIC, DIRECTIONS
from sweeper.search.selector import TrialResults, TrialValues

_SIGNS = {"maximize": 1.0, "minimize": -1.0}


@dataclass(frozen=True, slots=True)
class Goal:
    """A metric, and whether large or small values of it are better."""

    metric: str
    sign: float
    """1 if large values are better, -1 if small ones are."""

    def mean(self, result: TrialResults) -> float | None:
        """The mean over an ask's trials, negated if small values are better: larger is better.

        None if no trial has a finite value for each of the others to be compared with: one failed,
        or one diverged.

        Raises:
            UsageError: trials have no such metric.
        """
        values = self.values(result)
        if not len(values) or not np.isfinite(values).all():
            return None
        return float(values.mean())

    def values(self, result: TrialResults) -> TrialValues:
        """The metric of an ask's trials, negated if small values are better: shape `(trials,)`.

        Raises:
            UsageError: trials have no such metric.
        """
        metrics = result.metrics
        found = metrics.get(self.metric, metrics.get(f"{self.metric}_val"))
        if found is None:
            raise UsageError(f"metric={self.metric!r}: choose one of {', '.join(metrics)}")
        return self.sign * found


def read_goal(metric: str, direction: str | None = None) -> Goal:
    """The goal of a selector's arguments `metric` and `direction`.

    `direction` is needed for a metric that the workload declares, since a selector does not know
    it.

    Raises:
        UsageError: `direction` is needed and not given, or is none of the two, or contradicts the
            metric's own.
    """
    known = {one.name: one.direction for one in CLASSIC}
    if direction is not None and direction not in _SIGNS:
        raise UsageError(f"direction={direction!r}: choose one of {', '.join(DIRECTIONS[:2])}")
    if metric in known and direction not in (None, known[metric]):
        raise UsageError(f"direction={direction!r}: the direction of {metric} is {known[metric]}")
    found = known.get(metric, direction)
    if found is None:
        raise UsageError(
            f"metric={metric!r}: is it better when large or small? Give direction='maximize' or "
            f"'minimize'; {', '.join(known)} need no direction"
        )
    return Goal(metric, _SIGNS[found])
