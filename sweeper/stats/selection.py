"""What the best reached, without the luck that made it the best."""

from __future__ import annotations

import math

from sweeper.stats.components import Estimate


def best_interval(best: Estimate, rivals: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for the true mean of the point whose mean came out best.

    The one that came out best was lucky more often than not.  Its upper end is Student's; its
    lower end counts that any of `rivals` + 1 points might have come out best by luck alone, by
    Bonferroni's inequality (as the simultaneous intervals of J. C. Hsu, 1984, do for differences).

    Args:
        best: its mean, the larger the better.
        rivals: points that it was not told apart from.
        confidence: of the interval.

    Returns:
        Lower and upper end; NaN where the point has too few trials.
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
