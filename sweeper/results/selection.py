"""Parts of results: some of their points, several points as one, and those that may be compared."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import FINAL, Alias, Params, TunedSettings, generation_of
from sweeper.results.points import (
    ALWAYS_TAKEN,
    METRICS,
    TEST_METRICS,
    FailureReport,
    FloatArray,
    PointResult,
    ProgramPoint,
    Tested,
    params_columns,
)
from sweeper.results.result import SweepResult
from sweeper.signature import reference

T = TypeVar("T")


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
        lineages=chosen(results.lineages),
        parents=chosen(results.parents),
        compare_by=results.compare_by,
        earlier=sum(place >= len(results) - results.earlier for place in places),
        asks=chosen(results.asks),
        usage=chosen(results.usage),
        records=chosen(results.records) if results.records else None,
    )


def _failures(results: SweepResult, places: Sequence[int]) -> list[FailureReport]:
    kept = {results.key(place) for place in places}
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
        UsageError: no point has one of them.
    """
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
    return SweepResult(
        [_pooled_point(results, places, names) for places in groups],
        [np.concatenate([results.trial_numbers[place] for place in places]) for places in groups],
        (),
        results.notes,
        [_tunings(results, places) for places in groups],
        ["; ".join(filter(None, _flags(results, places))) for places in groups],
        results.n_val,
        [_settings(results, places) for places in groups],
        _tested(results, groups),
        metrics=results.metrics,
        declared={
            name: [_joined(found, places) for places in groups]
            for name, found in results.declared.items()
        },
        budgets=[results.budgets[places[0]] for places in groups],
        groups=[results.groups[places[0]] for places in groups],
        usage=[[one for place in places for one in results.usage[place]] for places in groups],
    )


def _pooled_point(results: SweepResult, places: Sequence[int], names: Sequence[str]) -> Any:
    first = results[places[0]]
    columns_of_first = dict(params_columns(first.params))
    chosen: Params = {name: columns_of_first[name] for name in names if name in columns_of_first}
    if results.of_program:
        measured = results.declared.items()
        return ProgramPoint(chosen, {name: _joined(found, places) for name, found in measured})
    columns = [_joined([getattr(point, metric) for point in results], places) for metric in METRICS]
    return PointResult(chosen, *first[1:4], *columns)


def _joined(values: Sequence[FloatArray], places: Sequence[int]) -> FloatArray:
    return np.concatenate([values[place] for place in places])


def _tunings(results: SweepResult, places: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: list[int] = []
    for place in places:
        first = found[-1] + 1 if found else 0
        _, which = np.unique(results.asks[place], return_inverse=True)
        found += [first + int(one) for one in which]
    return np.array(found, dtype=np.int64)


def _settings(results: SweepResult, places: Sequence[int]) -> list[TunedSettings]:
    """The settings of each tuning, in the order of `_tunings`."""
    return [
        one
        for place in places
        for one in results.settings[place][:1]
        for _ in np.unique(results.asks[place])
    ]


def _flags(results: SweepResult, places: Sequence[int]) -> list[str]:
    return list(dict.fromkeys(results.flags[place] for place in places))


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
