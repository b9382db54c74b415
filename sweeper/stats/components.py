"""The variance of a point's mean, from both components of variance: between tunings and within.

A point is tuned T times independently and its n trials are spread over the tunings, so trials of
one tuning share that tuning's luck.  The model is the one-way random-effects model: trial = mean of
the point + luck of its tuning + luck of the trial (S. R. Searle, G. Casella and C. E. McCulloch,
*Variance Components*, 1992).  With T of 2 to 4, a point alone says next to nothing about its
variance between tunings, so points share information as far as they are alike:

* The variance within tunings of each point is moderated: shrunk towards the points' common one as
  far as they are alike (G. K. Smyth, 2004, *Linear models and empirical Bayes methods*).
* The ratio of the mean squares between tunings to those within (F) is averaged over all points.
  An outlier counts as at most `_CAP` medians, so that one point with very different tunings does
  not widen the intervals of the others; for that point itself at least `_OWN` of its own F counts.
* Degrees of freedom are those of F. E. Satterthwaite (1946).

With one tuning each, a mean's variance comes from its own trials (Welch), and statements are about
the point as tuned.  benchmarks/verdicts.py measures all this; docs/method.md says what else was
tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.intervals import Interval

FloatArray = NDArray[np.float64]

_CAP = 5.0
"""In the average an F counts as at most this many times the median F."""
_OWN = 0.4
"""Minimum part of its own F that counts for a point."""
_FLOOR = 0.25
"""Minimum variance of a point tuned once, as a part of the median point's: a few trials that agree
by chance do not prove that all would."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean of a point's trials and its variance."""

    n: int
    """Number of finite values."""
    tunings: int
    """Number of tunings that the trials are spread over."""
    mean: float
    """Mean of the trials; NaN without any."""
    std: float
    """Sample standard deviation of the trials (n - 1); NaN below 2."""
    variance: float = math.nan
    """Variance of the mean; NaN if there are too few trials (see `enough`)."""
    within: float = math.nan
    """Variance of a trial within a tuning."""
    between: float = 0.0
    """Variance between tunings; 0 with one."""
    own: float = 0.0
    """1 / degrees of freedom of the part estimated from this point alone."""
    shared: float = 0.0
    """1 / degrees of freedom of the part estimated from all points together."""

    @property
    def enough(self) -> bool:
        """Whether there are enough trials to estimate the variance of the mean."""
        return not math.isnan(self.variance)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of `variance`."""
        total = self.own + self.shared
        return max(1.0, 1 / total) if total else math.inf

    def interval(
        self, confidence: float = 0.95, bounds: tuple[float, float] | None = None
    ) -> Interval:
        """The mean with its interval by Student's t; without a half width if not `enough`."""
        half = math.nan
        if self.enough:
            from scipy.special import stdtrit

            half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * math.sqrt(self.variance)
        return Interval(self.n, self.mean, self.std, half, bounds)


@dataclass(frozen=True, slots=True)
class _Squares:
    """The analysis of variance of one point."""

    n: int
    tunings: int
    mean: float
    std: float
    within: float
    """Mean squares within tunings; NaN without degrees of freedom."""
    between: float
    """Mean squares between tunings; NaN with one."""
    size: float
    """Trials per tuning, as in the expectation of `between`."""
    weight: float
    """Sum of the squares of the tunings' shares of the trials."""

    @property
    def freedom(self) -> int:
        """Degrees of freedom of `within`."""
        return self.n - self.tunings


def estimate_means(
    samples: Sequence[FloatArray], tunings: Sequence[NDArray[Any]] | None = None
) -> list[Estimate]:
    """The mean of each point with the variance of that mean, from all points together.

    Args:
        samples: for each point the values of its trials, shape (trials,); values that are not
            finite are left out.
        tunings: for each point the tuning of each trial, same shapes; None: one tuning each.

    Returns:
        One `Estimate` per point.  If any point has two tunings or more, a point with one tuning is
        not `enough`, since it does not show how much another tuning would change.
    """
    if tunings is None:
        tunings = [np.zeros(len(values), dtype=np.int64) for values in samples]
    points = [_squares(values, which) for values, which in zip(samples, tunings, strict=True)]
    if all(point.tunings < 2 for point in points):
        return _as_tuned(points)
    return _over_tunings(points)


def _squares(values: FloatArray, tunings: NDArray[Any]) -> _Squares:
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    values = values[finite]
    n = len(values)
    if n == 0:
        return _Squares(0, 0, *[math.nan] * 6)
    names, places = np.unique(np.asarray(tunings)[finite], return_inverse=True)
    count = len(names)
    if count == 1:
        std = float(values.std(ddof=1)) if n > 1 else math.nan
        return _Squares(n, 1, float(values.mean()), std, std**2, math.nan, float(n), 1.0)
    sizes = np.bincount(places, minlength=count).astype(float)
    means = np.bincount(places, values, count) / sizes
    mean = float(values.mean())
    inside = float(((values - means[places]) ** 2).sum())
    across = float((sizes * (means - mean) ** 2).sum())
    return _Squares(
        n,
        count,
        mean,
        float(values.std(ddof=1)),
        inside / (n - count) if n > count else math.nan,
        across / (count - 1),
        (n - float((sizes**2).sum()) / n) / (count - 1),
        float(((sizes / n) ** 2).sum()),
    )


def _as_tuned(points: Sequence[_Squares]) -> list[Estimate]:
    """Each variance from the point's own trials (B. L. Welch, 1947), with a floor."""
    floor = _FLOOR * _median([point.within for point in points])
    found = []
    for point in points:
        start = (point.n, point.tunings, point.mean, point.std)
        if point.n < 2:
            found.append(Estimate(*start))
            continue
        within = max(point.within, floor)
        found.append(Estimate(*start, within / point.n, within, 0.0, own=1 / (point.n - 1)))
    return found


def _over_tunings(points: Sequence[_Squares]) -> list[Estimate]:
    found = [Estimate(point.n, point.tunings, point.mean, point.std) for point in points]
    usable = [place for place, point in enumerate(points) if point.tunings > 1]
    shared = [place for place in usable if points[place].freedom > 0]
    scale = _median([points[place].within for place in shared])
    if not scale > 0:  # trials of a tuning do not vary: only tunings do
        shared = []
    rest = sorted(set(usable) - set(shared))
    floor = _FLOOR * _median([points[place].between / points[place].n for place in rest])
    for place in rest:
        found[place] = _by_tunings(points[place], floor)
    pooled = _pooled([points[place] for place in shared], scale) if shared else []
    for place, estimate in zip(shared, pooled, strict=True):
        found[place] = estimate
    return found


def _by_tunings(point: _Squares, floor: float) -> Estimate:
    """With one trial per tuning: Welch's t over the means of the tunings."""
    variance = max(point.between / point.n, floor)
    start = (point.n, point.tunings, point.mean, point.std)
    return Estimate(*start, variance, 0.0, variance * point.tunings, own=1 / (point.tunings - 1))


def _pooled(points: Sequence[_Squares], scale: float) -> list[Estimate]:
    freedom = np.array([point.freedom for point in points], dtype=float)
    within, kept = moderate(np.maximum([point.within for point in points], 1e-3 * scale), freedom)
    # The part of a point's own estimate that is not shared with the other points.
    alone = kept**2 / freedom * (1 - 1 / len(points))
    # The reciprocal of an estimated variance is too large on average.
    unbiased = np.maximum(0.5, 1 - 2 * alone)
    ratios = np.array([point.between for point in points]) / within * unbiased
    sizes = np.array([point.size for point in points])
    size = float(sizes.mean())
    ratios = 1 + (ratios - 1) * size / sizes  # as if points had equally many trials
    degrees = np.array([point.tunings - 1 for point in points], dtype=float)
    capped = np.minimum(ratios, _CAP * max(float(np.median(ratios)), 0.0))
    common = max(1.0, float(np.average(capped, weights=degrees)))
    found = []
    for place, point in enumerate(points):
        ratio = max(common, _OWN * float(ratios[place]))
        inside = float(within[place])
        between = inside * (ratio - 1) / size
        found.append(
            Estimate(
                point.n,
                point.tunings,
                point.mean,
                point.std,
                inside / point.n + between * point.weight,
                inside,
                between,
                own=float(alone[place]),
                shared=1 / float(degrees.sum()),
            )
        )
    return found


def moderate(variances: FloatArray, freedom: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances, shape (k,), shrunk towards their common one (G. K. Smyth, 2004, section 6.2).

    Returns:
        The moderated variances and the weight of each point's own variance in it, shapes (k,).
    """
    if len(variances) < 2:
        return variances, np.ones_like(variances)
    from scipy.special import digamma, polygamma

    half = freedom / 2
    logs = np.log(variances) - digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if excess <= 0:  # no more different than equal variances would be
        return np.full_like(variances, np.average(variances, weights=freedom)), 0 * freedom
    prior = 2 * _inverse_trigamma(excess)
    common = math.exp(float(logs.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    kept = freedom / (prior + freedom)
    return kept * variances + (1 - kept) * common, kept


def _inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = value > 0, by Newton's method."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return float(np.median(finite)) if finite else 0.0
