"""The results of a sweep: a sequence of points with the arrays of their trials."""

from sweeper.results.metrics import METRICS, TEST_METRICS, is_classic, judged_by, with_bounds
from sweeper.results.points import (
    FailureReport,
    FloatArray,
    IntArray,
    PointResult,
    PointTrials,
    ProgramPoint,
    Tested,
    tuned_settings,
)
from sweeper.results.result import SweepResult
from sweeper.results.table import TAKEN_NAMES, TRIAL_COLUMNS, params_columns

__all__ = [
    "METRICS",
    "TAKEN_NAMES",
    "TEST_METRICS",
    "TRIAL_COLUMNS",
    "FailureReport",
    "FloatArray",
    "IntArray",
    "PointResult",
    "PointTrials",
    "ProgramPoint",
    "SweepResult",
    "Tested",
    "is_classic",
    "judged_by",
    "params_columns",
    "tuned_settings",
    "with_bounds",
]
