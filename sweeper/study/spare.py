"""Spare trials: what idle slots run once all that was asked is running.  Pure.

Each goes to the point whose mean is known worst: the one with the widest 95 % interval, among the
trials that are compared in the end.  Trials that run count as if they had ended and varied as the
others, so that one point does not get all slots.  Which trials there are depends on time; what each
of them comes to does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from sweeper.records import Failure, generation_of
from sweeper.stats.intervals import half_width_of, mean_interval
from sweeper.study.measures import Measures
from sweeper.study.state import PointState, Series

MOST_SPARE = 1000
"""So many spare trials of a point, and no more: beyond, an interval hardly gets narrower, and short
trials would fill the disk while a long one runs."""

Candidate = tuple[PointState, Series]
"""A point, and those of its trials that may get further ones."""


def widest(
    points: Iterable[PointState], group: str, most_cores: int, measures: Measures
) -> Candidate | None:
    """The point whose interval will be widest when all that runs has ended; None: there is none.

    Of several, the one with the fewest trials; then the one that was asked for first.

    Args:
        points: All, in the order of asking.
        group: The group whose trials are compared in the end.
        most_cores: The cores that are idle: a point whose trials have more is left out.
        measures: What trials measure.
    """
    best: Candidate | None = None
    most = (-math.inf, 0)
    for state, series in _compared(points, group):
        if state.point.width > most_cores or series.next_spare() - series.asked >= MOST_SPARE:
            continue
        width = _expected_width(series, measures)
        rank = (width, -series.row)
        if not math.isnan(width) and (best is None or rank > most):
            best, most = (state, series), rank
    return best


def _compared(points: Iterable[PointState], group: str) -> Iterator[Candidate]:
    """The trials that are compared in the end (see `sweeper.results.selection.judged`)."""
    found = [
        (state, series)
        for state in points
        if state.step.is_tuned
        for series in state.series.values()
        if series.asked and series.groups[-1] == group
    ]
    longest = max((_length(series) for _, series in found), default=None)
    return (one for one in found if _length(one[1]) == longest)


def _length(series: Series) -> tuple[int, float]:
    """The generation, and the budget; the workload's own length is the largest."""
    return generation_of(series.lineage), series.budget or math.inf


def _expected_width(series: Series, measures: Measures) -> float:
    """Half of the interval's width when all that runs has ended; infinite while nothing is known.

    NaN if more trials are of no use: one has failed, or most have no finite value.
    """
    known = len(series.trials)
    if series.spread[0] != known:
        series.spread = (known, _spread(series, measures))
    spread = series.spread[1]
    return half_width_of(spread, series.row) if math.isfinite(spread) else spread


def _spread(series: Series, measures: Measures) -> float:
    """The standard deviation of the trials that have ended; see `_expected_width`."""
    measured = [one for one in series.trials.values() if not isinstance(one, Failure)]
    if len(measured) < len(series.trials):
        return math.nan
    known = mean_interval(measures.judged_values(measured))
    if known.n < 2:
        return math.inf if len(measured) < 2 else math.nan
    return known.std
