"""The results of a sweep: a sequence of points with the arrays of their trials."""

from sweeper.results.points import (
    METRICS,
    TAKEN_NAMES,
    TEST_METRICS,
    TRIAL_COLUMNS,
    FailureReport,
    FloatArray,
    PointResult,
    ProgramPoint,
    Tested,
    is_classic,
    judged_by,
    params_columns,
    with_bounds,
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
    "ProgramPoint",
    "SweepResult",
    "Tested",
    "is_classic",
    "judged_by",
    "params_columns",
    "with_bounds",
]
