"""Which parameters matter: `find_effects`, for `results.effects()` and the command line.

A grid is analysed by `anova`, a random search by `forest`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import plural
from sweeper.records import Metric
from sweeper.stats.compare import holm_p_values
from sweeper.stats.comparison import WITHOUT_NUMBER, Sample
from sweeper.stats.components import Estimate, estimate_means
from sweeper.stats.effects.anova import Analysis, Marginal, Term, analyse
from sweeper.stats.effects.forest import FEWEST, Importance, grow
from sweeper.stats.effects.table import MOST_SHOWN, Effect, Effects, LevelMean
from sweeper.stats.intervals import keep_within

FEW_VALUES = 5
"""With at most so many values per parameter, points are a grid, however many are missing."""


class Setting(NamedTuple):
    """A value of a parameter in a point."""

    key: str
    """Identifies the value."""
    text: str
    number: float | None
    """None: not a finite number."""


def find_effects(
    samples: Sequence[Sample],
    columns: Mapping[str, Sequence[Setting]],
    metric: Metric,
    n_val: int | None = None,
    *,
    is_tuned: bool = True,
) -> Effects:
    """Which parameters matter in a metric.

    Args:
        samples: the points.
        columns: for each parameter its value in each point.
        metric: the metric, with its direction and bounds.
        n_val: size of the validation set.
        is_tuned: whether points are tuned; those of a program are not.

    Raises:
        UsageError: a random search without scikit-learn.
    """
    sound = [place for place, one in enumerate(samples) if not one.flag]
    all_means = estimate_means(
        [samples[place].trials for place in sound], [samples[place].tunings for place in sound]
    )
    estimates = dict(zip(sound, all_means, strict=True))
    some = any(one.enough for one in all_means)
    used = [place for place, one in estimates.items() if (one.enough if some else one.n > 0)]
    means = [estimates[place] for place in used]
    tuned = any(one.tunings > 1 for one in means)
    caveats = list(_caveats(samples, used, tuned=tuned, is_tuned=is_tuned))
    levels, texts, numbers = _levels(
        {name: [one[at] for at in used] for name, one in columns.items()}
    )
    same = [name for name in columns if name not in levels]
    if same:
        caveats.append(f"the same in all points: {_list(same)}")
    if not levels:
        few = "no point has" if not used else "only one point has" if len(used) == 1 else ""
        reason = f"{few} trials" if few else "no parameter has more than one value"
        return _nothing(metric.name, reason, caveats)
    if _is_random(levels, numbers, len(used)):
        if len(used) < FEWEST:
            return _nothing(
                metric.name, f"a random search needs {FEWEST} points, not {len(used)}", caveats
            )
        importance = grow(means, levels, numbers)
        return _by_forest(importance, means, metric, texts, n_val, caveats, is_tuned=is_tuned)
    analysis = analyse(means, levels, is_tuned=is_tuned)
    if analysis is None:
        tried = any(one.n > 1 for one in means)
        reason = "no variation was seen between trials" if tried else "one trial of each point"
        return _nothing(metric.name, f"{reason}, and nothing else to compare with", caveats)
    return _by_anova(analysis, means, metric, texts, n_val, caveats, is_tuned=is_tuned)


def _levels(
    columns: Mapping[str, Sequence[Setting]],
) -> tuple[dict[str, NDArray[np.int64]], dict[str, list[str]], dict[str, list[float] | None]]:
    """The parameters that vary: the index of each point's value, and the values in order.

    Numbers are sorted, other values are in the order of the points.  The third item is None for a
    parameter with values that are not numbers.
    """
    levels, texts, numbers = {}, {}, {}
    for name, column in columns.items():
        values = list({one.key: one for one in column}.values())
        if len(values) < 2:
            continue
        sizes = [one.number for one in values if one.number is not None]
        numeric = len(sizes) == len(values)
        if numeric:
            values.sort(key=lambda one: one.number or 0.0)
        places = {one.key: place for place, one in enumerate(values)}
        levels[name] = np.array([places[one.key] for one in column])
        texts[name] = [one.text for one in values]
        numbers[name] = sorted(sizes) if numeric else None
    return levels, texts, numbers


def _is_random(
    levels: Mapping[str, NDArray[np.int64]],
    numbers: Mapping[str, Sequence[float] | None],
    points: int,
) -> bool:
    """Whether points are a random search: many values, and few of their combinations."""
    combinations = math.prod(int(places.max()) + 1 for places in levels.values())
    many = any(values is not None and len(values) > FEW_VALUES for values in numbers.values())
    return many and 2 * points < combinations


def _by_anova(
    analysis: Analysis,
    means: Sequence[Estimate],
    metric: Metric,
    texts: Mapping[str, Sequence[str]],
    n_val: int | None,
    caveats: list[str],
    *,
    is_tuned: bool,
) -> Effects:
    names = [" × ".join(term) for term in analysis.terms]
    adjusted = holm_p_values([one.p_value for one in analysis.tests])
    tested = [
        (one.freedom, one.error_freedom, one.statistic, p_value)
        for one, p_value in zip(analysis.tests, adjusted, strict=True)
    ]
    all_pairs = analysis.pairs or len(analysis.terms) < 2
    rows = [
        *zip(names, map(_kind, analysis.terms), tested[:-1], strict=True),
        ("what these say only together", "shared", ()),
        *_rest(means, tested[-1], pairs=all_pairs, is_tuned=is_tuned),
    ]
    shares = analysis.shares
    effects = [
        Effect(name, kind, *map(float, (shares.share[at], shares.low[at], shares.high[at])), *test)
        for at, (name, kind, test) in enumerate(rows)
        if name and (kind != "shared" or shares.share[at] > 0)
        if kind != "left" or shares.share[at] > 0 or analysis.left_freedom
    ]
    levels: list[LevelMean] = []
    for name, term in zip(names, analysis.terms, strict=True):
        own = [one for one in analysis.marginals if one.term == term]
        levels += _level_means(name, own, texts, metric)
    if analysis.aliased:
        caveats.append(
            f"varied only together with other parameters, so not separable: "
            f"{_list(analysis.aliased)}"
        )
    if not analysis.pairs and len(texts) > 1:
        once = is_tuned and analysis.error == "left" and any(one.n > 1 for one in means)
        lack = "points were tuned once" if once else "there are too few points or trials"
        caveats.append(f"{lack}, so that pairs cannot be separated from what is left")
    whose = {
        "tunings": "compared with what varies between tunings",
        "trials": "compared with what varies between trials"
        + ", so of these points as tuned" * is_tuned,
        "left": "compared with what is left of points",
    }[analysis.error]
    spread = _spread(means, is_tuned=is_tuned)
    basis = (
        f"What matters in {metric.name} (analysis of variance of {plural(len(means), 'point')}, "
        f"{spread}; {whose}; 95 % for all verdicts together{_samples(n_val)}):"
    )
    return Effects(metric.name, "anova", basis, tuple(effects), tuple(levels), tuple(caveats))


def _by_forest(
    importance: Importance,
    means: Sequence[Estimate],
    metric: Metric,
    texts: Mapping[str, Sequence[str]],
    n_val: int | None,
    caveats: list[str],
    *,
    is_tuned: bool,
) -> Effects:
    names = [" × ".join(term) for term in importance.terms]
    rows = [
        *zip(names, map(_kind, importance.terms), [()] * len(names), strict=True),
        *_rest(means, (), pairs=True, is_tuned=is_tuned),
    ]
    ends = zip(importance.share, importance.low, importance.high, strict=True)
    effects = [
        Effect(name, kind, *map(float, share))
        for (name, kind, _), share in zip(rows, ends, strict=True)
        if name
    ]
    levels: list[LevelMean] = []
    if importance.explained > 0:
        for name, term in zip(names, importance.terms, strict=True):
            own = [one for one in importance.marginals if one.term == term]
            levels += _level_means(name, own, texts, metric)
    else:
        caveats.append(
            "the forest predicts nothing of points that it was not trained on: no parameter seems "
            "to matter, or there are too few points"
        )
    basis = (
        f"What matters in {metric.name} (functional analysis of variance over a random forest, "
        f"{plural(len(means), 'point')}, {_spread(means, is_tuned=is_tuned)}; it predicts "
        f"{100 * max(0.0, importance.explained):.0f} % of the variance of points left out of "
        f"trees; intervals by bootstrap over points, 95 % each{_samples(n_val)}):"
    )
    return Effects(metric.name, "forest", basis, tuple(effects), tuple(levels), tuple(caveats))


def _kind(term: Term) -> str:
    return "parameter" if len(term) == 1 else "pair"


def _rest(
    means: Sequence[Estimate], test: tuple[float, ...], *, pairs: bool, is_tuned: bool
) -> list[tuple[str, str, tuple[float, ...]]]:
    """Name, kind and test of the residual of points, of tuning and of seed.

    A part without a name is included in the one before.
    """
    tuned = any(one.tunings > 1 for one in means)
    repeated = any(one.n > one.tunings for one in means)
    left = "what is left of points" if pairs else "what is left of points (pairs too)"
    tuning, seed = "", "seed" if repeated else ""
    if not is_tuned:
        left = left if repeated else f"{left}, and seed"
    elif tuned:
        tuning = "tuning" if repeated else "tuning and seed"
    else:
        left = f"{left}, and tuning" if repeated else f"{left}, tuning and seed"
    return [(left, "left", test), (tuning, "tuning", ()), (seed, "seed", ())]


def _level_means(
    effect: str, found: Sequence[Marginal], texts: Mapping[str, Sequence[str]], metric: Metric
) -> Iterator[LevelMean]:
    better = min if metric.direction == "minimize" else max
    best = better(found, key=lambda one: one.mean, default=None)
    for one in found:
        ends = keep_within(one.mean, one.mean - one.low, one.high - one.mean, metric.bounds)
        name = _level_name(one.term, one.levels, texts)
        yield LevelMean(effect, name, one.mean, *ends, one is best)


def _nothing(metric: str, reason: str, caveats: Sequence[str]) -> Effects:
    basis = f"Too little data to say what matters in {metric}: {reason}"
    return Effects(metric, "", basis, (), (), tuple(caveats))


def _caveats(
    samples: Sequence[Sample], used: Sequence[int], *, tuned: bool, is_tuned: bool
) -> Iterator[str]:
    few = sum(
        not one.flag and len(one.trials) > 0 and place not in used
        for place, one in enumerate(samples)
    )
    if few:
        single = "a single trial, or none that did not diverge" if is_tuned else "a single number"
        lack = "a single tuning" if tuned else single
        yield f"{plural(few, 'point')} with {lack} left out"
    lost = sum(int((~np.isfinite(samples[place].trials)).sum()) for place in used)
    if lost:
        yield f"{plural(lost, 'trial')} {WITHOUT_NUMBER[is_tuned]} left out"
    flagged = [one for one in samples if one.flag]
    for one in flagged[:MOST_SHOWN]:
        yield f"left out: {one.name} {one.flag}"
    if len(flagged) > MOST_SHOWN:
        yield f"and {plural(len(flagged) - MOST_SHOWN, 'more point')} that could not be tuned"


def _level_name(term: Term, levels: Sequence[int], texts: Mapping[str, Sequence[str]]) -> str:
    pairs = zip(term, levels, strict=True)
    return " ".join(f"{name}={texts[name][level]}" for name, level in pairs)


def _spread(means: Sequence[Estimate], *, is_tuned: bool) -> str:
    trials = _range([one.n for one in means], "trial")
    if not any(one.tunings > 1 for one in means):
        return f"{'one tuning and ' * is_tuned}{trials} each"
    return f"{_range([one.tunings for one in means], 'tuning')} and {trials} each"


def _samples(n_val: int | None) -> str:
    return "" if n_val is None else f"; on these {n_val:,} validation samples"


def _range(counts: Sequence[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return plural(low, noun) if low == high else f"{low:,} to {high:,} {noun}s"


def _list(names: Sequence[str]) -> str:
    more = len(names) - MOST_SHOWN
    return ", ".join([*names[:MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])])
