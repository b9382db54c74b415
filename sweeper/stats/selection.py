"""The true mean of the best point, corrected for its selection."""

from __future__ import annotations

import math

from sweeper.stats.components import Estimate


def best_interval(best: Estimate, rivals: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for the true mean of the point with the best observed mean.

    The best observed mean tends to be too high.  The upper end is Student's; the lower end accounts
    for any of `rivals` + 1 points being the best by chance, by Bonferroni's inequality (as the
    simultaneous intervals of J. C. Hsu, 1984, do for differences).

    Args:
        best: the observed best mean; larger is better.
        rivals: number of points that it was not told apart from.
        confidence: confidence level of the interval.

    Returns:
        Lower and upper end; NaN if the point has too few trials.
    """
    if not best.enough:
        return math.nan, math.nan
    from scipy.special import ndtri, stdtrit

    def reach(level: float) -> float:
        free = best.freedom
        quantile = ndtri(1 - level) if math.isinf(free) else stdtrit(free, 1 - level)
        return float(quantile) * math.sqrt(best.variance)

    level = (1 - confidence) / 2
    return best.mean - reach(level / (rivals + 1)), best.mean + reach(level)
