"""What can be said of points beside one another: their order, verdicts, and effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import FolderError, UsageError, plural
from sweeper.records import Metric
from sweeper.results.metrics import find_metric
from sweeper.results.points import FloatArray, PointTrials
from sweeper.results.table import params_columns
from sweeper.stats.comparison import By, Comparison, Sample
from sweeper.stats.verdict import compare_points, find_point
from sweeper.summary import printable, show_params, show_value

if TYPE_CHECKING:
    from sweeper.results.result import SweepResult
    from sweeper.stats.effects.effects import Setting
    from sweeper.stats.effects.table import Effects


def rank(points: Sequence[PointTrials], metric: Metric) -> list[int]:
    """The places of all points, the best first; see `SweepResult.ranking`."""

    def merit(place: int) -> tuple[Any, ...]:
        values = points[place].values(metric.name)
        if not len(values):
            return (False,)
        return (True, not points[place].flag, _goodness(values, metric))

    return sorted(range(len(points)), key=merit, reverse=True)


def _goodness(values: FloatArray, metric: Metric) -> tuple[bool, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return False, -math.inf
    mean = float(finite.mean())
    return len(finite) == len(values), -mean if metric.direction == "minimize" else mean


# -- verdicts -------------------------------------------------------------------------------------


def compare_results(
    results: SweepResult,
    points: Sequence[str],
    metric: str | None,
    baseline: str | None,
    *,
    by: By,
    paired: bool | None,
    generalise: bool,
) -> Comparison:
    """See `SweepResult.compare`."""
    chosen = results.comparable()
    if chosen is not results:
        options: dict[str, Any] = {"by": by, "paired": paired, "generalise": generalise}
        return _with_others(compare_results(chosen, points, metric, baseline, **options), results)
    measured = find_metric(results.metrics, metric, ranked=True)
    if len(points) not in {0, 2} or (points and baseline is not None):
        raise UsageError(
            f"compare{points!r}: name two points, or a baseline and no points, or neither"
        )
    samples = _samples(results, measured)
    places, place = _chosen([one.name for one in samples], points, baseline)
    samples = [samples[at] for at in places]
    if generalise and measured.name == "perf_val" and results.n_val is not None:
        rows = [_right(results.point_trials[at], results.n_val) for at in places]
        samples = [replace(one, right=right) for one, right in zip(samples, rows, strict=True)]
    if paired is None:
        paired = results.paired and not generalise and (by != "all" or place is not None)
        paired = paired and not any(results.lineages)
    return compare_points(
        samples,
        measured,
        baseline=place,
        by=by,
        paired=paired,
        # If each trial has its own split, paired differences already vary with the samples.
        n_val=results.n_val if generalise or not results.paired else None,
        generalise=generalise,
        is_tuned=not results.of_program,
    )


def _with_others(found: Comparison, results: SweepResult) -> Comparison:
    """A comparison of those points of `results` that may be compared, which says if not all may."""
    from sweeper.results.selection import judged

    others = len(results) - sum(map(len, judged(results)))
    if not others:
        return found
    what = "groups, budgets or generations" if any(results.lineages) else "groups or budgets"
    caveat = f"not compared: {plural(others, 'row')} of other {what}"
    return replace(found, caveats=(*found.caveats, caveat))


def _chosen(
    names: Sequence[str], points: Sequence[str], baseline: str | None
) -> tuple[list[int], int | None]:
    """The places of the points to compare, and among them that of the one to compare all with."""
    if not points:
        everyone = list(range(len(names)))
        return everyone, None if baseline is None else find_point(names, baseline)
    pair = [find_point(names, text) for text in points]
    if pair[0] == pair[1]:
        raise UsageError(f"compare{points!r}: both names match {names[pair[0]]!r}")
    return pair, 1


def _samples(results: SweepResult, metric: Metric) -> list[Sample]:
    return [
        Sample(
            printable(show_params(one.point.params)),
            one.point.params,
            one.values(metric.name),
            one.tunings,
            one.trial_numbers,
            one.flag,
        )
        for one in results.point_trials
    ]


def _right(one: PointTrials, n_val: int) -> NDArray[np.uint8] | None:
    """Which validation samples some of a point's trials got right; None: it is not known.

    Raises:
        FolderError: the folder is gone or damaged.
    """
    stored = {} if one.records is None else one.records.correct()
    if not stored or n_val < 2:
        return None
    rows = list(stored.values())
    if any(row.dtype != np.uint8 or row.shape != (-(-n_val // 8),) for row in rows):
        raise FolderError(
            f"{printable(show_params(one.point.params))}: which validation samples its trials got "
            f"right is not stored for {n_val:,} samples"
        )
    return np.unpackbits(np.stack(rows), axis=1, count=n_val)


# -- effects --------------------------------------------------------------------------------------


def effects_of(results: SweepResult, metric: str | None) -> Effects:
    """See `SweepResult.effects`."""
    from sweeper.stats.effects.effects import find_effects  # few sweeps need it

    chosen = results.comparable()
    if chosen is not results:
        return effects_of(chosen, metric)
    measured = find_metric(results.metrics, metric)
    columns = [dict(params_columns(point.params)) for point in results]
    names = dict.fromkeys(name for column in columns for name in column)
    return find_effects(
        _samples(results, measured),
        {
            printable(name): [_setting(column, name) for column in columns]
            for name in map(str, names)
        },
        measured,
        results.n_val,
        is_tuned=not results.of_program,
    )


def _setting(column: Mapping[str, Any], name: str) -> Setting:
    """A parameter's value in a point, as `find_effects` takes it."""
    from sweeper.stats.effects.effects import Setting

    if name not in column:
        return Setting("", "-", None)
    value = column[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Setting(
        f"{value!r}",
        printable(show_value(value)),
        float(value) if number and math.isfinite(value) else None,
    )
