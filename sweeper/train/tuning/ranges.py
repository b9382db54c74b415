"""The mathematics of range tests: from curves as numpy arrays to ranges.

The method is the range test of L. N. Smith, "Cyclical learning rates for training neural
networks" (2017), section 3.3, read off the derivative of a smoothed curve: the range worth
training in is where performance rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HELD = 0.8
"""Share of a rising interval's integral that the chosen part holds."""

LEAST_POINTS = 3
"""The fewest points of a curve that a range spans."""


@dataclass(frozen=True, slots=True)
class Range:
    """Where a curve rises."""

    low: float
    high: float
    """`low < high`."""
    at_end: bool
    """Whether the curve still rises at the last point."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Several initialisations' curves, smoothed and combined."""

    smoothed: Array
    """Shape (inits, points)."""
    combined: Array
    """Shape (points,): log-mean-exp over the initialisations."""
    derived: Array
    """Shape (points,): the smoothed derivative of `combined`."""

    def arrays(self, raw: Array) -> dict[str, Array]:
        """All arrays, by their names in files."""
        return {
            "raw": raw,
            "smoothed": self.smoothed,
            "combined": self.combined,
            "derived": self.derived,
        }


def window_length(points: int) -> int:
    """A tenth of the points, odd, from 3 to 101."""
    return int(np.clip(points // 10, 3, 101)) // 2 * 2 + 1


def smooth(curve: Array) -> Array:
    """Savitzky-Golay of order 1 along the last axis; fewer than three points stay as they are."""
    points = curve.shape[-1]
    window = min(window_length(points), (points - 1) // 2 * 2 + 1)
    if window < 3:
        return curve.copy()
    from scipy.signal import savgol_filter

    return np.asarray(savgol_filter(curve, window, 1, axis=-1), dtype=float)


def log_mean_exp(values: Array) -> Array:
    """log(mean(exp(values))) over the first axis: a mean that favours the better runs."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(values, axis=0) - np.log(len(values)), dtype=float)


def derive(x: Array, curves: Array) -> Curves:
    """Smooth each curve, combine, differentiate along `x`, smooth.

    `x` has shape (points,), rising; `curves` (inits, points); at least two points.
    """
    smoothed = smooth(curves)
    combined = log_mean_exp(smoothed)
    derived = smooth(np.gradient(combined, x))
    return Curves(smoothed, combined, derived)


def rising_range(x: Array, derived: Array, *, widest: bool = False) -> Range | None:
    """The part of the curve that is worth training in; None if nothing rises.

    Among the intervals where the derivative is positive, the one with the largest integral (or
    the `widest`); within it the shortest part that holds 80 % of the integral, and at least three
    points.
    """
    intervals = _positive_intervals(derived)
    if not intervals or len(x) < LEAST_POINTS:
        return None
    steps = np.gradient(x)
    mass = np.clip(derived, 0.0, None) * steps

    def worth(interval: tuple[int, int]) -> float:
        first, last = interval
        return float(x[last] - x[first]) if widest else float(mass[first : last + 1].sum())

    first, last = max(intervals, key=worth)
    at_end = last == len(x) - 1
    first, last = _widen(first, last, len(x))
    low, high = _shortest_holding(x, mass, first, last)
    return Range(float(x[low]), float(x[high]), at_end and high >= len(x) - LEAST_POINTS)


def _positive_intervals(derived: Array) -> list[tuple[int, int]]:
    """First and last index of each run of positive values."""
    positive = np.concatenate([[False], derived > 0, [False]]).astype(int)
    turns = np.diff(positive)
    starts, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1) - 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _widen(first: int, last: int, points: int) -> tuple[int, int]:
    while last - first + 1 < LEAST_POINTS:
        if last < points - 1:
            last += 1
        else:
            first -= 1
    return first, last


def _shortest_holding(x: Array, mass: Array, first: int, last: int) -> tuple[int, int]:
    """The shortest part of [first, last], in x, that holds its share of the mass."""
    total = np.concatenate([[0.0], np.cumsum(mass[first : last + 1])])
    # Despite rounding in the sums, the whole interval must reach the share.
    wanted = HELD * total[-1] * (1 - 1e-9)
    best = (first, last)
    high = 0
    for low in range(len(total) - LEAST_POINTS):
        high = max(high, low + LEAST_POINTS - 1)
        while high < last - first and total[high + 1] - total[low] < wanted:
            high += 1
        if total[high + 1] - total[low] < wanted:
            break
        if x[first + high] - x[first + low] < x[best[1]] - x[best[0]]:
            best = (first + low, first + high)
    return best


def is_flat(curves: Array) -> bool:
    """Whether curves of shape (inits, points) rise less than two standard errors.

    The rise is from the mean of the first window to the best window's; the noise of evaluation is
    what smoothing takes off; the error is that of a difference of two window means.
    """
    inits, points = curves.shape
    if points < LEAST_POINTS:
        return True
    window = min(window_length(points), points)
    mean = curves.mean(axis=0)
    means = np.convolve(mean, np.ones(window) / window, mode="valid")
    rise = float(means.max() - means[0])
    noise = float(np.std(curves - smooth(curves)))
    return rise <= 2 * noise * float(np.sqrt(2 / (window * inits)))


def surviving_steps(lengths: Sequence[int], steps: int) -> int | None:
    """The steps before the first divergence; None if no run diverged.

    `lengths` are the finished steps of each run, `steps` those of a full one.
    """
    shortest = min(lengths)
    return None if shortest >= steps else shortest


def mean_by_size(sizes: NDArray[Any], values: Array) -> tuple[Array, Array]:
    """Values by batch size: distinct `sizes`, shape (s,), and `values` averaged, (inits, s).

    `sizes` has shape (steps,), `values` (inits, steps).
    """
    distinct, place = np.unique(sizes, return_inverse=True)
    counts = np.bincount(place)
    sums = np.stack([np.bincount(place, weights=row) for row in values])
    return distinct.astype(float), sums / counts


def sampling_weights(sizes: Array, derived: Array, candidates: NDArray[Any]) -> Array:
    """Sampling weights of candidate batch sizes: their derivative, at least 5 % of its maximum.

    `sizes` and `derived` have shape (s,), `candidates` (c,); the weights sum to 1.
    """
    slopes = np.interp(candidates, sizes, derived)
    top = float(slopes.max())
    if top <= 0:
        return np.full(len(candidates), 1 / len(candidates))
    weights = np.maximum(slopes, 0.05 * top)
    return np.asarray(weights / weights.sum(), dtype=float)


def learning_rates(start: float, end: float, steps: int, spacing: str) -> Array:
    """The rates of a range run, shape (steps,): `spacing` is `"linear"` or `"log"`."""
    if spacing == "log":
        return np.geomspace(start, end, steps)
    return np.linspace(start, end, steps)


def batch_sizes(start: int, end: int, samples: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The sizes of a batch-size range run, shape (steps,): linear in samples consumed."""
    sizes: list[int] = []
    consumed = 0
    while consumed < samples:
        sizes.append(round(start + (end - start) * consumed / samples))
        consumed += sizes[-1]
    return np.array(sizes)
