"""What can be said: means, intervals, comparisons.  Pure: numbers in, numbers out.

scipy is imported where it is used: reading a folder's status should not pay for it.
"""

from sweeper.stats.compare import (
    Pair,
    compare_all,
    compare_leader,
    compare_paired,
    sampling_variance,
)
from sweeper.stats.components import Estimate, estimate_means
from sweeper.stats.intervals import Difference, Interval, mean_difference, mean_interval
from sweeper.stats.selection import best_interval

__all__ = [
    "Difference",
    "Estimate",
    "Interval",
    "Pair",
    "best_interval",
    "compare_all",
    "compare_leader",
    "compare_paired",
    "estimate_means",
    "mean_difference",
    "mean_interval",
    "sampling_variance",
]
