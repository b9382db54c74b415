"""The results of a sweep: a sequence of points with the arrays of their trials."""

from sweeper.results.points import (
    METRICS,
    TAKEN_NAMES,
    TEST_METRICS,
    TRIAL_COLUMNS,
    FailureReport,
    FloatArray,
    PointResult,
    Tested,
    params_columns,
)
from sweeper.results.result import SweepResult

__all__ = [
    "METRICS",
    "TAKEN_NAMES",
    "TEST_METRICS",
    "TRIAL_COLUMNS",
    "FailureReport",
    "FloatArray",
    "PointResult",
    "SweepResult",
    "Tested",
    "params_columns",
]
