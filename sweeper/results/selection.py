"""Parts of results: some of their points, several points as one, and those that may be compared."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from sweeper.code.references import reference
from sweeper.errors import UsageError
from sweeper.records import FINAL, METRICS, Alias, Params, TunedSettings, generation_of
from sweeper.results.points import (
    FailureReport,
    FloatArray,
    IntArray,
    PointResult,
    PointTrials,
    ProgramPoint,
    Tested,
)
from sweeper.results.result import SweepResult
from sweeper.results.table import ALWAYS_TAKEN, params_columns


def places_where(
    results: SweepResult, domain: Container[Params] | None, values: Mapping[str, Any]
) -> list[int]:
    """The places of the points with these values; see `SweepResult.where`."""
    columns = [columns_of(results, place) for place in range(len(results))]
    known = dict.fromkeys(name for row in columns for name in row)
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{name}={value!r}: choose one of {', '.join(known)}")
    return [
        place
        for place, row in enumerate(columns)
        if all(name in row and has_value(row[name], value) for name, value in values.items())
        and (domain is None or is_in(results[place].params, domain))
    ]


def columns_of(results: SweepResult, place: int) -> dict[str, Any]:
    """A point's parameters, its budget, group and parent, by the names of columns.

    A parameter that has an alias has it here, too.
    """
    own = results.labels(place)
    if not any(results.lineages):
        own = {name: own[name] for name in ALWAYS_TAKEN}
    params = results[place].params
    values = params.values() if isinstance(params, Mapping) else params
    names = [name for name, _ in params_columns(params, own)]
    return dict(zip(names, values, strict=True)) | own


def has_value(found: Any, wanted: Any) -> bool:
    """Whether a column has this value; an alias has its name and its value.

    Raises:
        ParamError: `wanted` is a class or function that no parameter could be.
    """
    if isinstance(wanted, Alias):
        wanted = wanted.value
    if callable(wanted):
        wanted = reference(wanted)  # as results have it
    if isinstance(found, Alias):
        return bool(wanted in (found.name, found.value))
    return bool(found == wanted)


def is_in(params: Params, domain: Container[Params]) -> bool:
    """Whether a domain has this point; parameters that a `Domain` does not have are left open."""
    names = getattr(domain, "names", None)
    if names is not None and isinstance(params, Mapping):
        params = {name: value for name, value in params.items() if name in names}
    return params in domain


def only(results: SweepResult, places: Sequence[int]) -> SweepResult:
    """The points at these places."""
    chosen = [results.point_trials[place] for place in places]
    earlier = sum(place >= len(results) - results.earlier for place in places)
    return with_points(results, chosen, _failures(results, chosen), earlier)


def with_points(
    results: SweepResult,
    points: Sequence[PointTrials],
    failures: Sequence[FailureReport],
    earlier: int,
) -> SweepResult:
    """Results of the same sweep with other points; the last `earlier` are from earlier runs."""
    return SweepResult(
        points,
        failures,
        results.notes,
        n_val=results.n_val,
        paired=results.paired,
        metrics=results.metrics,
        compare_by=results.compare_by,
        earlier=earlier,
    )


def _failures(results: SweepResult, points: Sequence[PointTrials]) -> list[FailureReport]:
    kept = {one.key for one in points}
    return [one for one in results.failures if one.key in kept]


# -- several points as one ------------------------------------------------------------------------


def places_by(results: SweepResult, places: Sequence[int], names: Sequence[str]) -> list[list[int]]:
    """The places of points that agree on these parameters, in order.

    Points agree on a parameter that none of them has, as in a domain with conditions.
    """
    found: dict[str, list[int]] = {}
    for place in places:
        columns = dict(params_columns(results[place].params))
        own = [(name, columns[name]) for name in names if name in columns]
        found.setdefault(repr(own), []).append(place)
    return list(found.values())


def check_names(results: SweepResult, names: Sequence[str]) -> None:
    """Check that some point has each of these parameters.

    Raises:
        UsageError: no name is given, or no point has one of them.
    """
    if not names:
        raise UsageError("by(): give the names of the parameters to compare by")
    known = dict.fromkeys(name for point in results for name, _ in params_columns(point.params))
    for name in names:
        if name not in known:
            raise UsageError(f"{name}: no point has such a parameter: choose of {', '.join(known)}")


def pooled(
    results: SweepResult, groups: Sequence[Sequence[int]], names: Sequence[str]
) -> SweepResult:
    """Each of these groups of points as one point, with the parameters `names`.

    Each of the points that it stands for is one of its tunings; so is each ask of such a point,
    since several searches may have chosen the same one.
    """
    points = [
        _pooled([results.point_trials[place] for place in places], names) for places in groups
    ]
    notes, n_val, metrics = results.notes, results.n_val, results.metrics
    return SweepResult(points, (), notes, n_val=n_val, metrics=metrics)


def _pooled(own: Sequence[PointTrials], names: Sequence[str]) -> PointTrials:
    first = own[0]
    declared = {
        name: np.concatenate([one.declared[name] for one in own]) for name in first.declared
    }
    return PointTrials.of(
        _pooled_point(own, names, declared),
        np.concatenate([one.trial_numbers for one in own]),
        tunings=_tunings(own),
        settings=_settings(own),
        declared=declared,
        usage=tuple(itertools.chain.from_iterable(one.usage for one in own)),
        flag="; ".join(filter(None, dict.fromkeys(one.flag for one in own))),
        test=_tested(own),
        budget=first.budget,
        group=first.group,
    )


def _pooled_point(
    own: Sequence[PointTrials], names: Sequence[str], declared: Mapping[str, FloatArray]
) -> PointResult | ProgramPoint:
    first = own[0].point
    columns_of_first = dict(params_columns(first.params))
    chosen: Params = {name: columns_of_first[name] for name in names if name in columns_of_first}
    if isinstance(first, ProgramPoint):
        return ProgramPoint(chosen, declared)
    columns = [np.concatenate([one.values(metric) for one in own]) for metric in METRICS]
    return PointResult(chosen, *first[1:4], *columns)


def _tunings(own: Sequence[PointTrials]) -> IntArray:
    found: list[int] = []
    for one in own:
        first = found[-1] + 1 if found else 0
        _, which = np.unique(one.asks, return_inverse=True)
        found += [first + int(ask) for ask in which]
    return np.array(found, dtype=np.int64)


def _settings(own: Sequence[PointTrials]) -> tuple[TunedSettings, ...]:
    """The settings of each tuning, in the order of `_tunings`."""
    return tuple(
        settings for one in own for settings in one.settings[:1] for _ in np.unique(one.asks)
    )


def _tested(own: Sequence[PointTrials]) -> Tested | None:
    found = [one.test for one in own if one.test is not None]
    if not found:
        return None
    return Tested(*map(np.concatenate, zip(*found, strict=True)))


# -- what may be compared -------------------------------------------------------------------------


def judged(results: SweepResult) -> list[list[int]]:
    """The places of the points that may be compared; points that count as one are together.

    Only trials of one group, generation and budget are compared: those of the group `"final"`, or
    else of the last group, of its last generation, and of the largest budget in it, of which a
    trial has ended.  Others have chosen these.  Points that only earlier runs asked for have no say
    in which group, generation and budget these are.
    """
    asked = range(len(results) - results.earlier) or range(len(results))
    group = _judging_group(results, asked)
    generations = [generation_of(lineage) for lineage in results.lineages]
    chosen = [place for place in asked if results.groups[place] == group]
    last = max((generations[place] for place in _ended(chosen, results)), default=0)
    budget = _largest([place for place in chosen if generations[place] == last], results)
    own = zip(results.groups, generations, results.budgets, strict=True)
    places = [place for place, one in enumerate(own) if one == (group, last, budget)]
    if results.compare_by:
        return places_by(results, places, results.compare_by)
    return [[place] for place in places]


def _judging_group(results: SweepResult, asked: Sequence[int]) -> str:
    groups = [results.groups[place] for place in asked]
    if FINAL in groups or (results.compare_by and any(groups)):  # others only choose
        return FINAL
    ended = [results.groups[place] for place in asked if len(results.trial_numbers[place])]
    return next(reversed(ended or groups), "")


def _largest(places: Sequence[int], results: SweepResult) -> int | None:
    """The largest budget of these points with which a trial has ended, or at all."""
    budgets = [results.budgets[place] for place in _ended(places, results)]
    return None if None in budgets else max(filter(None, budgets), default=None)


def _ended(places: Sequence[int], results: SweepResult) -> Sequence[int]:
    """Those of these points of which a trial has ended; all, if none has."""
    return [place for place in places if len(results.trial_numbers[place])] or places
