"""The results of a sweep: a sequence of points with the arrays of their trials.

`SweepResult` is imported when it is asked for: workers need names alone, not all statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.records import METRICS
from sweeper.results.metrics import TEST_METRICS, is_classic, judged_by, with_bounds
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
from sweeper.results.table import TAKEN_NAMES, TRIAL_COLUMNS, params_columns

if TYPE_CHECKING:
    from sweeper.results.result import SweepResult

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


def __getattr__(name: str) -> Any:
    if name != "SweepResult":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeper.results.result import SweepResult

    return SweepResult
