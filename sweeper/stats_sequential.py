"""Sequential comparison of several means: which are worse, however often one looks.

A group-sequential design (C. Jennison and B. Turnbull, 1999) with looks that are fixed in advance.
Each look may spend a part of alpha (K. Lan and D. DeMets, 1983; the power family of K. Kim and
D. DeMets, 1987), and within a look it is shared among points and rivals.  Both shares are by the
union bound, so nothing is assumed of how statistics of different looks or pairs depend on each
other.  A point that was found worse leaves its share to the others (S. Holm, 1979; with looks:
W. Maurer and F. Bretz, 2013).

scipy is imported where it is used.
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
"""Each look has so many times the trials of the one before."""

POWER = 1.5
"""With t of all trials, t to this power of alpha is spent: between Pocock's boundary (1) and
O'Brien and Fleming's (3)."""

MOST_PRIOR = 30.0
"""Degrees of freedom that other points' variances may be worth to a point, at most."""


def plan_looks(first: int, last: int, tunings: int = 1) -> tuple[int, ...]:
    """The numbers of trials of a point at which to look: from `first` to `last`, geometric.

    All but the last are multiples of `tunings`, so that each tuning has as many trials.
    """
    looks: list[int] = []
    trials = first
    while not looks or looks[-1] < last:
        looks.append(min(last, math.ceil(trials / tunings) * tunings))
        trials = max(looks[-1] + 1, math.ceil(looks[-1] * GROWTH))
    return tuple(looks)


def spend(alpha: float, looks: Sequence[int], place: int) -> float:
    """The part of `alpha` that the look at this place may spend."""
    before = looks[place - 1] if place else 0
    return alpha * float((looks[place] / looks[-1]) ** POWER - (before / looks[-1]) ** POWER)


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one point: its trials, each with the tuning that it was trained with."""

    values: Floats
    """Shape `(trials,)`; at least two."""
    tunings: NDArray[np.int64]
    """Shape `(trials,)`; all different where every trial is an independent repeat."""


@dataclass(frozen=True, slots=True)
class Means:
    """The means of some points with their estimated variances."""

    mean: Floats
    variance: Floats
    """Of the mean, between tunings included."""
    freedom: Floats
    """Degrees of freedom of each point's own variance."""
    shared: float
    """Degrees of freedom of what all have in common: the part that is between tunings."""

    def p_value(self, worse: int, better: int, margin: float = 0.0) -> float:
        """One-sided, for the claim that `worse` + `margin` is below `better`.

        By Welch's t (B. L. Welch, 1947).  1 where neither varies at all: values that are equal by
        chance are no proof that all would be.
        """
        parts = self.variance[[worse, better]]
        total = float(parts.sum())
        if total <= 0:
            return 1.0
        from scipy.special import stdtr

        own = float(((parts / total) ** 2 / self.freedom[[worse, better]]).sum())
        freedom = 1 / (own + 1 / self.shared)
        difference = float(self.mean[better] - self.mean[worse]) - margin
        return float(stdtr(freedom, -difference / math.sqrt(total)))


def estimate_means(samples: Sequence[Sample]) -> Means:
    """Means and variances, where points lend each other what two or three trials cannot tell.

    A trial is mu + b[tuning] + e[trial].  The spread of a point is its own, shrunken towards the
    others' as far as they are alike (G. Smyth, 2004); how much of it lies between tunings, and so
    does not shrink with more trials of the same tunings, is one ratio for all points.
    """
    trials = np.array([len(sample.values) for sample in samples], dtype=float)
    mean = np.array([sample.values.mean() for sample in samples])
    squares = np.array([((sample.values - sample.values.mean()) ** 2).sum() for sample in samples])
    spread, freedom = _shrink(squares / (trials - 1), trials - 1)
    crowding = np.array([_crowding(sample) for sample in samples])
    ratio, shared = _between(samples, squares, crowding)
    inflation = (1 + ratio * crowding) / (1 + ratio * (trials - crowding) / (trials - 1))
    return Means(mean, spread / trials * inflation, freedom, shared)


def _shrink(variances: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Each variance drawn towards the mean of all, and its degrees of freedom.

    The weight is that of an empirical prior, whose degrees of freedom follow from how much the
    logarithms differ beyond chance.  Their excess is taken one standard error above its estimate:
    points that look alike by chance must not be taken for alike.
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


def _crowding(sample: Sample) -> float:
    """How many trials share a trial's tuning, on average, itself included."""
    counts = np.unique(sample.tunings, return_counts=True)[1]
    return float((counts**2).sum() / counts.sum())


def _between(
    samples: Sequence[Sample], squares: Floats, crowding: Floats
) -> tuple[float, float]:
    """The variance between tunings over that within, and its degrees of freedom.

    From each point's share of squares between tunings, so that no point counts for more because it
    spreads more.
    """
    excess = weight = 0.0
    freedom = 0
    for sample, total, crowd in zip(samples, squares, crowding, strict=True):
        names, places = np.unique(sample.tunings, return_inverse=True)
        between, within = len(names) - 1, len(places) - len(names)
        if not between or not within or total <= 0:
            continue
        counts = np.bincount(places)
        means = np.bincount(places, sample.values) / counts
        share = float((counts * (means - sample.values.mean()) ** 2).sum() / total)
        inside = max(1 - share, 0.0) / within
        excess += share / between - inside
        weight += inside * (len(places) - crowd) / between
        freedom += between
    if not freedom:
        return 0.0, math.inf
    return max(excess, 0.0) / max(weight, 1e-12), float(freedom)


def step_down(
    p_values: Mapping[int, float], level: float, racing: int, rivals: int
) -> dict[int, float]:
    """The points that are worse, each with its p-value adjusted to be compared with `level`.

    Args:
        p_values: Of all points that are still in the race but the leaders.
        level: What this look may spend.
        racing: How many are still in the race, leaders included: any may be the best.
        rivals: With how many others a point might have been compared since the first look.
    """
    found: dict[int, float] = {}
    for point, p_value in sorted(p_values.items(), key=lambda item: item[1]):
        adjusted = min(p_value * (racing - len(found)) * rivals, 1.0)
        if adjusted > level:
            break
        found[point] = adjusted
    return found
