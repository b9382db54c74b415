"""Sequential comparison of several means: which are worse, valid for any number of looks.

A group-sequential design (C. Jennison and B. Turnbull, 1999) with looks that are fixed in advance.
Each look may spend a part of alpha (K. Lan and D. DeMets, 1983; the power family of K. Kim and
D. DeMets, 1987), and within a look it is shared among points and rivals.  Both use the
union bound, so nothing is assumed about the dependence between statistics of different looks or
pairs.  A point that was found worse leaves its share to the others (S. Holm, 1979; with looks:
W. Maurer and F. Bretz, 2013).

scipy is imported on use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

GROWTH = 1.2
"""Each look has this many times the trials of the one before."""

POWER = 1.5
"""At the fraction t of all trials, alpha times t to this power is spent: between Pocock's boundary
(1) and O'Brien and Fleming's (3)."""

MOST_PRIOR = 30.0
"""Maximum degrees of freedom that a point gets from other points' variances."""


def plan_looks(first: int, last: int, tunings: int = 1) -> tuple[int, ...]:
    """The numbers of trials per point at which to look: geometric, from `first` to `last`.

    All but the last are multiples of `tunings`, so that each tuning has equally many trials.
    """
    looks: list[int] = []
    trials = first
    while not looks or looks[-1] < last:
        looks.append(min(last, math.ceil(trials / tunings) * tunings))
        trials = max(looks[-1] + 1, math.ceil(looks[-1] * GROWTH))
    return tuple(looks)


def spend(alpha: float, looks: Sequence[int], place: int) -> float:
    """The part of `alpha` that the look with index `place` may spend."""
    before = looks[place - 1] if place else 0
    return alpha * float((looks[place] / looks[-1]) ** POWER - (before / looks[-1]) ** POWER)


@dataclass(frozen=True, slots=True)
class Sample:
    """One point's trials, each with its tuning."""

    values: Floats
    """Shape `(trials,)`; at least two."""
    tunings: NDArray[np.int64]
    """Shape `(trials,)`; all different if every trial is an independent repeat."""


@dataclass(frozen=True, slots=True)
class Means:
    """The means of some points with their estimated variances."""

    mean: Floats
    variance: Floats
    """Variance of each mean, including that between tunings."""
    freedom: Floats
    """Degrees of freedom of each point's own variance."""
    shared: float
    """Degrees of freedom of the shared part: the variance between tunings."""

    def p_values(self, worse: Sequence[int], better: int, margin: float = 0.0) -> Floats:
        """One-sided p-values for the claims that each of `worse`, plus `margin`, is below `better`.

        By Welch's t (B. L. Welch, 1947).  1 if neither varies at all: values that are equal by
        chance do not prove that all would be.
        """
        from scipy.special import stdtr

        places = np.asarray(worse, dtype=int)
        one, other = self.variance[places], self.variance[better]
        total = one + other
        known = total > 0
        one, other = np.where(known, one, 0.5), np.where(known, other, 0.5)
        total = np.where(known, total, 1.0)
        own = (one / total) ** 2 / self.freedom[places]
        own += (other / total) ** 2 / self.freedom[better]
        difference = self.mean[better] - self.mean[places] - margin
        p_values = stdtr(1 / (own + 1 / self.shared), -difference / np.sqrt(total))
        return np.where(known, p_values, 1.0)


def estimate_means(samples: Sequence[Sample]) -> Means:
    """Means and variances; points share information, since each has only a few trials.

    A trial is mu + b[tuning] + e[trial].  The variance of a point's trials is shrunk towards the
    others' as far as they are alike (G. Smyth, 2004).  The part between tunings, which does not
    shrink with more trials of the same tunings, is estimated from all points together: as a ratio
    and as a variance, of which the larger counts for a point.
    """
    parts = [_divide(sample) for sample in samples]
    mean, trials, crowding, squares = _columns(parts, "mean", "trials", "crowding", "squares")
    spread, freedom = _shrink(squares / (trials - 1), trials - 1)
    ratio, between, shared = _between([part for part in parts if part.tells])
    within = spread / (1 + ratio * (trials - crowding) / (trials - 1))
    variance = (within + np.maximum(ratio * within, between) * crowding) / trials
    return Means(mean, variance, freedom, shared)


@dataclass(frozen=True, slots=True)
class _Squares:
    """A point's sum of squares, and the part of it between tunings."""

    mean: float
    trials: int
    tunings: int
    crowding: float
    """How many trials, on average, share a trial's tuning, itself included."""
    squares: float
    between: float

    @property
    def tells(self) -> bool:
        """Whether it can separate the variance between tunings from that within."""
        return 1 < self.tunings < self.trials and self.squares > 0


def _divide(sample: Sample) -> _Squares:
    trials = len(sample.values)
    mean = float(sample.values.sum()) / trials
    values = sample.values - mean
    squares = float(values @ values)
    counts = np.bincount(sample.tunings)
    if counts.max() == 1:
        return _Squares(mean, trials, trials, 1.0, squares, squares)
    sums = np.bincount(sample.tunings, values)[counts > 0]
    counts = counts[counts > 0]
    crowding = float(counts @ counts) / trials
    return _Squares(mean, trials, len(counts), crowding, squares, float((sums**2 / counts).sum()))


def _columns(parts: Sequence[_Squares], *names: str) -> list[Floats]:
    return [np.array([getattr(part, name) for part in parts], dtype=float) for name in names]


def _shrink(variances: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Each variance shrunk towards the mean of all, and its degrees of freedom.

    The weight is that of an empirical prior, whose degrees of freedom follow from the excess
    variance of the logarithms.  The excess is taken one standard error above its estimate, so that
    points that are alike by chance are not treated as alike.
    """
    pooled = float(variances.mean())
    if pooled <= 0 or len(variances) < 2:
        return variances, freedom
    logs = np.log(np.maximum(variances, 1e-5 * pooled)) + 1 / freedom + 1 / (3 * freedom**2)
    seen = float(logs.var(ddof=1)) * (1 + math.sqrt(2 / (len(logs) - 1)))
    by_chance = float((2 / freedom + 2 / freedom**2 + 4 / (3 * freedom**3)).mean())
    excess = max(seen - by_chance, 1e-9)
    # Where the trigamma function of half the degrees of freedom is the excess, nearly.
    prior = min((1 + math.sqrt(1 + 2 * excess)) / excess, MOST_PRIOR)
    shrunken = (freedom * variances + prior * pooled) / (freedom + prior)
    return shrunken, np.minimum(freedom + prior, freedom.sum())


def _between(parts: Sequence[_Squares]) -> tuple[float, float, float]:
    """The variance between tunings: as a ratio to that within, absolute, and its freedom.

    The ratio is taken over the points' shares of squares, so that no point counts for more because
    it varies more.  The absolute variance matters if tunings fail now and then: a point whose
    tunings all failed varies little.
    """
    if not parts:
        return 0.0, 0.0, math.inf
    squares, between, trials, tunings, crowding = _columns(
        parts, "squares", "between", "trials", "tunings", "crowding"
    )
    freedom = tunings - 1
    inside = np.maximum(squares - between, 0.0) / (trials - tunings)
    excess = between / freedom - inside
    repeats = (trials - crowding) / freedom
    weight = float((inside / squares * repeats).sum())
    ratio = float((excess / squares).sum()) / max(weight, 1e-12)
    return max(ratio, 0.0), max(float((excess / repeats).mean()), 0.0), float(freedom.sum())


def step_down(
    p_values: Mapping[int, float], level: float, racing: int, rivals: int
) -> dict[int, float]:
    """The points that are worse, each with its p-value adjusted to be compared with `level`.

    Args:
        p_values: Those of all points still in the race except the leaders.
        level: The part of alpha that this look may spend.
        racing: How many points are still in the race, leaders included: any may be the best.
        rivals: With how many others a point may have been compared since the first look.
    """
    found: dict[int, float] = {}
    for point, p_value in sorted(p_values.items(), key=lambda item: item[1]):
        adjusted = min(p_value * (racing - len(found)) * rivals, 1.0)
        if adjusted > level:
            break
        found[point] = adjusted
    return found
