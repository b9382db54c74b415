"""Which points are better: differences of means, simultaneous over all statements.

Every pair is compared by Welch's t with the variances of `estimate_means`.  Simultaneous statements
are corrected together, by inequalities that need no tables and hold for unequal variances:

* The leader against each other point: `leader_p_values`.
* All pairs, or all points against a baseline: S. Holm's (1979) step-down test.

Intervals are Bonferroni's (O. J. Dunn, 1961) over the same comparisons.  A step-wise test may
reject more than single intervals do; then the interval ends at 0 (K. Strassburger and F.
Bretz, 2008, on intervals that go with a step-wise test).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.components import Estimate, FloatArray, estimate_means
from sweeper.stats.sampling import NO_PART, SamplesPart

Part = Callable[[int, int], SamplesPart]
"""For the indices of two points: what the choice of the samples adds to their difference."""

_POWER = 0.8416  # the normal quantile of 80 %: how likely more trials should tell
_MOST = 20.0  # more than this many times as many trials or tunings is never advised


@dataclass(frozen=True, slots=True)
class Pair:
    """Two points compared: `first` and `second` are their indices."""

    first: int
    second: int
    difference: float
    """mean(first) - mean(second)."""
    low: float = math.nan
    """Of the simultaneous interval; NaN where nothing can be said, as below."""
    high: float = math.nan
    p_value: float = math.nan
    """Adjusted for all that is said together."""
    verdict: int = 0
    """1: first is higher, -1: first is lower, 0: not told apart."""
    more_trials: int | None = None
    """So many more trials of each point would likely tell, if the difference is as observed."""
    more_tunings: int | None = None
    """So many more tunings of each point, with as many trials, if trials alone would not tell."""


@dataclass(frozen=True, slots=True)
class _Contrast:
    """The difference of two means and its variance."""

    difference: float
    variance: float
    freedom: float
    within: float
    """The part of `variance` that falls with more trials of the same tunings."""
    trials: int
    tunings: int
    fixed: float = 0.0
    """The part of `variance` that falls neither with trials nor with tunings."""


def compare_leader(
    means: Sequence[Estimate],
    leader: int,
    confidence: float = 0.95,
    part: Part | None = None,
) -> list[Pair]:
    """The leader, the point with the best observed mean, against each other point.

    Args:
        means: those of all points, from `estimate_means`.
        leader: index of the leader.
        confidence: probability that all statements together are true.
        part: what the choice of the validation samples adds; None: nothing.

    Returns:
        One `Pair` for each other point with enough trials, `first` being the leader.
    """
    places = [(leader, other) for other in range(len(means)) if other != leader]
    contrasts = _contrasts(means, places, part)
    count = len(contrasts) + 1
    raw = {place: _p_value(found) for place, found in contrasts.items()}
    adjusted = dict(zip(raw, leader_p_values(list(raw.values())), strict=True))
    return _judge(contrasts, raw, adjusted, count * (count - 1) // 2, confidence)


def compare_all(
    means: Sequence[Estimate],
    baseline: int | None = None,
    confidence: float = 0.95,
    part: Part | None = None,
) -> list[Pair]:
    """Every pair of points, or every point (`first`) against the baseline (`second`).

    Otherwise as `compare_leader`.  A pair's `first` is the one with the higher mean.
    """
    if baseline is None:
        order = sorted(range(len(means)), key=lambda place: -means[place].mean)
        places = [(a, b) for at, a in enumerate(order) for b in order[at + 1 :]]
    else:
        places = [(other, baseline) for other in range(len(means)) if other != baseline]
    contrasts = _contrasts(means, places, part)
    raw = {place: _p_value(found) for place, found in contrasts.items()}
    adjusted = dict(zip(raw, holm_p_values(list(raw.values())), strict=True))
    return _judge(contrasts, raw, adjusted, len(contrasts), confidence)


def compare_paired(
    samples: Sequence[FloatArray],
    tunings: Sequence[NDArray[np.int64]],
    numbers: Sequence[NDArray[np.int64]],
    reference: int,
    *,
    chosen: bool = True,
    confidence: float = 0.95,
    part: Part | None = None,
) -> list[Pair]:
    """`reference` against each other point, by the differences of trials with the same number.

    For trials that share their split of the data by number.  A trial without a partner is left
    out.

    Args:
        samples: for each point the values of its trials, shape (trials,).
        tunings: for each point the tuning of each trial, same shapes.
        numbers: for each point the number of each trial, same shapes.
        reference: index of the point that all others are compared with.
        chosen: whether the reference is the observed best (else: Holm's test, as for a baseline).
        confidence: probability that all statements together are true.
        part: what the choice of the validation samples adds; None: nothing.
    """
    others = [place for place in range(len(samples)) if place != reference]
    series, which = [], []
    for other in others:
        _, at, there = np.intersect1d(numbers[reference], numbers[other], return_indices=True)
        series.append(samples[reference][at] - samples[other][there])
        which.append(tunings[reference][at])
    contrasts = {
        (reference, other): _paired(one, NO_PART if part is None else part(reference, other))
        for other, one in zip(others, estimate_means(series, which), strict=True)
        if one.enough
    }
    raw = {place: _p_value(found) for place, found in contrasts.items()}
    adjust = leader_p_values if chosen else holm_p_values
    adjusted = dict(zip(raw, adjust(list(raw.values())), strict=True))
    count = len(contrasts)
    family = count * (count + 1) // 2 if chosen else count
    return _judge(contrasts, raw, adjusted, family, confidence)


def leader_p_values(values: Sequence[float]) -> list[float]:
    """Adjusted p-values of the leader against each other point.  NaN stays NaN.

    The leader was chosen by the same data, so every pair among the points counts: the j-th largest
    p-value is one of the j (j + 1) / 2 pairs among j + 1 points.  The test steps up, as that of Y.
    Hochberg (1988): if the largest p-value is below the level itself, the leader is better than
    all; if not, the next is tested at a third of the level, then at a sixth, and so on.
    """
    p = np.asarray(values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(-p[known], kind="stable")]
    ranks = np.arange(1, len(known) + 1)
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum.accumulate(np.minimum(1, p[order] * ranks * (ranks + 1) / 2))
    return adjusted.tolist()


def holm_p_values(values: Sequence[float]) -> list[float]:
    """Adjusted p-values by S. Holm (1979).  NaN stays NaN."""
    p = np.asarray(values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(known), 0, -1)
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted.tolist()


def _contrasts(
    means: Sequence[Estimate],
    places: Sequence[tuple[int, int]],
    part: Part | None,
) -> dict[tuple[int, int], _Contrast]:
    found = {}
    for a, b in places:
        if means[a].enough and means[b].enough:
            samples = NO_PART if part is None else part(a, b)
            found[a, b] = _contrast(means[a], means[b], samples)
    return found


def _contrast(a: Estimate, b: Estimate, samples: SamplesPart) -> _Contrast:
    variance = a.variance + b.variance + samples.variance
    freedom = math.inf
    if variance > 0:
        parts = (a.variance / variance, b.variance / variance)
        # An estimate from all points together has the same error for both.
        common = sum(part * math.sqrt(e.shared) for part, e in zip(parts, (a, b), strict=True))
        inverse = common**2 + parts[0] ** 2 * a.own + parts[1] ** 2 * b.own
        inverse += (samples.spread / variance) ** 2
        freedom = max(1.0, 1 / inverse) if inverse else math.inf
    trials, tunings = min(a.n, b.n), min(a.tunings, b.tunings)
    within = a.within / a.n + b.within / b.n
    fixed = samples.variance
    return _Contrast(a.mean - b.mean, variance, freedom, within, trials, tunings, fixed)


def _paired(one: Estimate, samples: SamplesPart) -> _Contrast:
    """From the mean of the differences of trials."""
    variance = one.variance + samples.variance
    freedom = one.freedom
    if variance > 0:
        inverse = (one.variance / variance) ** 2 / freedom + (samples.spread / variance) ** 2
        freedom = max(1.0, 1 / inverse) if inverse else math.inf
    within, fixed = one.within / one.n, samples.variance
    return _Contrast(one.mean, variance, freedom, within, one.n, one.tunings, fixed)


def _p_value(found: _Contrast) -> float:
    """Two-sided; NaN if nothing varies, which does not prove that nothing would."""
    if not found.variance > 0:
        return math.nan
    from scipy.special import stdtr

    return float(2 * stdtr(found.freedom, -abs(found.difference) / math.sqrt(found.variance)))


def _quantile(freedom: float, level: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(1 - level / 2) if math.isinf(freedom) else stdtrit(freedom, 1 - level / 2))


def _judge(
    contrasts: dict[tuple[int, int], _Contrast],
    raw: dict[tuple[int, int], float],
    adjusted: dict[tuple[int, int], float],
    family: int,
    confidence: float,
) -> list[Pair]:
    pairs = []
    for place, found in contrasts.items():
        pair = Pair(*place, found.difference)
        if not math.isnan(raw[place]):
            pair = _judged(pair, found, adjusted[place], (1 - confidence, family))
        pairs.append(pair)
    return pairs


def _judged(pair: Pair, found: _Contrast, adjusted: float, level: tuple[float, int]) -> Pair:
    alpha, family = level
    half = _quantile(found.freedom, alpha / family) * math.sqrt(found.variance)
    low, high = found.difference - half, found.difference + half
    told = adjusted <= alpha and found.difference != 0
    if not told:
        trials, tunings = how_many_more(found, alpha / family)
        low, high = min(low, 0.0), max(high, 0.0)
        return replace(
            pair, low=low, high=high, p_value=adjusted, more_trials=trials, more_tunings=tunings
        )
    if found.difference > 0:
        return replace(pair, low=max(low, 0.0), high=high, p_value=adjusted, verdict=1)
    return replace(pair, low=low, high=min(high, 0.0), p_value=adjusted, verdict=-1)


def how_many_more(found: _Contrast, level: float) -> tuple[int | None, int | None]:
    """How many more trials, or tunings, of both points would tell them apart in 80 % of cases.

    From the observed variances and difference.  (None, None): more than 20 times as many as now.
    """
    needed = (abs(found.difference) / (_quantile(found.freedom, level) + _POWER)) ** 2
    rest = found.variance - found.within
    if needed > rest:
        factor = found.within / (needed - rest)
        if factor <= _MOST:
            return max(1, math.ceil(found.trials * (factor - 1))), None
    falls, needed = found.variance - found.fixed, needed - found.fixed
    if found.tunings > 1 and needed > 0 and falls / needed <= _MOST:
        return None, max(1, math.ceil(found.tunings * (falls / needed - 1)))
    return None, None
