"""Statistics: means, intervals, comparisons.  Pure: numbers in, numbers out.

scipy is imported on use: reading a folder's status should not pay for it.
"""

from sweeper.stats.compare import (
    Pair,
    compare_all,
    compare_leader,
    compare_paired,
    sampling_variance,
)
from sweeper.stats.comparison import By, ComparedPair, Comparison, Sample
from sweeper.stats.components import Estimate, estimate_means
from sweeper.stats.effects import Setting, find_effects
from sweeper.stats.effects_table import Effect, Effects, LevelMean
from sweeper.stats.intervals import Difference, Interval, mean_difference, mean_interval
from sweeper.stats.selection import best_interval
from sweeper.stats.verdict import compare_points, find_point

__all__ = [
    "By",
    "ComparedPair",
    "Comparison",
    "Difference",
    "Effect",
    "Effects",
    "Estimate",
    "Interval",
    "LevelMean",
    "Pair",
    "Sample",
    "Setting",
    "best_interval",
    "compare_all",
    "compare_leader",
    "compare_paired",
    "compare_points",
    "estimate_means",
    "find_effects",
    "find_point",
    "mean_difference",
    "mean_interval",
    "sampling_variance",
]
