"""Parts of results: some of their points, several points as one, and those that may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import FINAL, Params
from sweeper.results.points import (
    METRICS,
    TEST_METRICS,
    FailureReport,
    FloatArray,
    PointResult,
    ProgramPoint,
    Tested,
    params_columns,
)
from sweeper.results.result import SweepResult, tuned_settings

T = TypeVar("T")


def columns_of(results: SweepResult, place: int) -> dict[str, Any]:
    """A point's parameters, its budget and its group, by the names of columns."""
    own = {"budget": results.budgets[place], "group": results.groups[place]}
    return dict(params_columns(results[place].params, own)) | own


def only(results: SweepResult, places: Sequence[int]) -> SweepResult:
    """The points at these places."""

    def chosen(values: Sequence[T]) -> list[T]:
        return [values[place] for place in places]

    return SweepResult(
        chosen(tuple(results)),
        chosen(results.trial_numbers),
        _failures(results, places),
        results.notes,
        chosen(results.tunings),
        chosen(results.flags),
        results.n_val,
        chosen(results.settings),
        None if results.test is None else chosen(results.test),
        paired=results.paired,
        metrics=results.metrics,
        declared={name: chosen(found) for name, found in results.declared.items()},
        budgets=chosen(results.budgets),
        groups=chosen(results.groups),
        compare_by=results.compare_by,
    )


def _failures(results: SweepResult, places: Sequence[int]) -> list[FailureReport]:
    kept = {results.key(place) for place in places}
    return [one for one in results.failures if one.key in kept]


# -- several points as one ------------------------------------------------------------------------


def places_by(results: SweepResult, places: Sequence[int], names: Sequence[str]) -> list[list[int]]:
    """The places of points that agree on these parameters, in order.

    Raises:
        UsageError: a point has no parameter of this name.
    """
    found: dict[str, list[int]] = {}
    for place in places:
        columns = dict(params_columns(results[place].params))
        lacking = [name for name in names if name not in columns]
        if lacking:
            raise UsageError(
                f"{lacking[0]}: a point has no such parameter: choose of {', '.join(columns)}"
            )
        found.setdefault(repr([columns[name] for name in names]), []).append(place)
    return list(found.values())


def pooled(
    results: SweepResult, groups: Sequence[Sequence[int]], names: Sequence[str]
) -> SweepResult:
    """Each of these groups of points as one point, with the parameters `names`.

    Each of the points that it stands for is one of its tunings.
    """
    return SweepResult(
        [_pooled_point(results, places, names) for places in groups],
        [np.concatenate([results.trial_numbers[place] for place in places]) for places in groups],
        (),
        results.notes,
        [_tunings(results, places) for places in groups],
        ["; ".join(filter(None, {results.flags[place] for place in places})) for places in groups],
        results.n_val,
        [[one for place in places for one in tuned_settings(results[place])] for places in groups],
        _tested(results, groups),
        metrics=results.metrics,
        declared={
            name: [_joined(found, places) for places in groups]
            for name, found in results.declared.items()
        },
        budgets=[results.budgets[places[0]] for places in groups],
        groups=[results.groups[places[0]] for places in groups],
    )


def _pooled_point(results: SweepResult, places: Sequence[int], names: Sequence[str]) -> Any:
    first = results[places[0]]
    params = first.params
    chosen: Params = {name: dict(params_columns(params))[name] for name in names}
    if results.of_program:
        measured = results.declared.items()
        return ProgramPoint(chosen, {name: _joined(found, places) for name, found in measured})
    columns = [_joined([getattr(point, metric) for point in results], places) for metric in METRICS]
    return PointResult(chosen, *first[1:4], *columns)


def _joined(values: Sequence[FloatArray], places: Sequence[int]) -> FloatArray:
    return np.concatenate([values[place] for place in places])


def _tunings(results: SweepResult, places: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    sizes = [len(results.trial_numbers[place]) for place in places]
    return np.repeat(np.arange(len(places), dtype=np.int64), sizes)


def _tested(results: SweepResult, groups: Sequence[Sequence[int]]) -> list[Tested] | None:
    if results.test is None:
        return None
    columns: Mapping[str, list[FloatArray]] = {
        metric: [getattr(tested, metric) for tested in results.test] for metric in TEST_METRICS
    }
    return [
        Tested(*(_joined(columns[metric], places) for metric in TEST_METRICS)) for places in groups
    ]


# -- what may be compared -------------------------------------------------------------------------


def judged(results: SweepResult) -> list[list[int]]:
    """The places of the points that may be compared; points that count as one are together.

    Only trials of one group and one budget are compared: those of the group `"final"`, or else of
    the group that was asked for last, and of its largest budget.  Other groups and smaller budgets
    have chosen these.
    """
    places = list(range(len(results)))
    if results.compare_by:
        final = [place for place in places if results.groups[place] == FINAL]
        return places_by(results, final, results.compare_by)
    if len(set(zip(results.budgets, results.groups, strict=True))) > 1:
        group = FINAL if FINAL in results.groups else results.groups[-1]
        own = [place for place in places if results.groups[place] == group]
        budgets = [results.budgets[place] for place in own]
        most = None if None in budgets else max(filter(None, budgets))
        places = [place for place in own if results.budgets[place] == most]
    return [[place] for place in places]
