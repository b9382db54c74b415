"""Means and intervals of small samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its uncertainty."""

    n: int
    mean: float
    """NaN where n is 0."""
    std: float
    """Sample standard deviation (n - 1); NaN below 2."""
    half_width: float
    """Half of the interval's width; NaN below 2."""
    bounds: tuple[float, float] | None = None
    """The smallest and largest possible mean, if the interval has to respect them."""

    @property
    def low(self) -> float:
        """The lower end."""
        return keep_within(self.mean, self.half_width, self.half_width, self.bounds)[0]

    @property
    def high(self) -> float:
        """The upper end."""
        return keep_within(self.mean, self.half_width, self.half_width, self.bounds)[1]

    @property
    def symmetric(self) -> bool:
        """Whether the interval is `mean` ± `half_width`."""
        return self.bounds is None or (
            self.bounds[0] <= self.mean - self.half_width
            and self.mean + self.half_width <= self.bounds[1]
        )


def keep_within(
    mean: float, down: float, up: float, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """The ends mean - down, mean + up; if one would pass a bound, computed on a logit scale.

    By the delta method (A. W. van der Vaart, *Asymptotic Statistics*, 1998, chapter 3): `down` and
    `up` are divided by the slope of the inverse logit at the mean; the ends are transformed back.
    """
    low, high = mean - down, mean + up
    if bounds is None or not (low < bounds[0] or high > bounds[1]):
        return low, high
    span = bounds[1] - bounds[0]
    share = (mean - bounds[0]) / span
    if not 0 < share < 1:
        return max(low, bounds[0]), min(high, bounds[1])
    logit, slope = math.log(share / (1 - share)), share * (1 - share) * span
    return (
        bounds[0] + span * _expit(logit - down / slope),
        bounds[0] + span * _expit(logit + up / slope),
    )


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def mean_interval(
    values: Sequence[float] | NDArray[Any],
    confidence: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """The mean of `values`, shape (n,), with its interval by Student's t.

    Values that are not finite are left out (a diverged loss has no mean).  `bounds` are the limits
    of the mean; an interval that would pass one is computed on a logit scale.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    n = len(finite)
    if n == 0:
        return Interval(0, math.nan, math.nan, math.nan, bounds)
    mean = float(finite.mean())
    if n == 1:
        return Interval(1, mean, math.nan, math.nan, bounds)
    std = float(finite.std(ddof=1))
    return Interval(n, mean, std, half_width_of(std, n, confidence), bounds)


def half_width_of(std: float, n: int, confidence: float = 0.95) -> float:
    """Half of the width of the interval by Student's t, for `n` ≥ 2 values that vary by `std`."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + confidence) / 2)) * std / math.sqrt(n)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two means with its uncertainty."""

    mean: float
    half_width: float
    """Half of the interval's width; NaN if a sample has fewer than 2 values, or neither varies at
    all: two values that are equal by chance do not prove that all would be."""
    p_value: float
    """Two-sided, for no difference; NaN if `half_width` is."""


def mean_difference(
    first: Sequence[float] | NDArray[Any],
    second: Sequence[float] | NDArray[Any],
    confidence: float = 0.95,
) -> Difference:
    """mean(first) - mean(second) with its interval by Welch's t (B. L. Welch, 1947).

    The samples, shapes (n,) and (m,), are independent and may have unequal variances.
    """
    a, b = mean_interval(first), mean_interval(second)
    mean = a.mean - b.mean
    if a.n < 2 or b.n < 2:
        return Difference(mean, math.nan, math.nan)
    var_a, var_b = a.std**2 / a.n, b.std**2 / b.n
    error = math.sqrt(var_a + var_b)
    if error == 0:
        return Difference(mean, math.nan, math.nan)
    from scipy.special import stdtr, stdtrit

    part = var_a / (var_a + var_b)  # squares of small variances would underflow
    freedom = 1 / (part**2 / (a.n - 1) + (1 - part) ** 2 / (b.n - 1))
    half_width = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    return Difference(mean, half_width, float(2 * stdtr(freedom, -abs(mean) / error)))
