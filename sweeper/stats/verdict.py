"""The verdicts: which points are better, which are not told apart, and how many trials would tell.

`compare_points` makes them for `results.compare()`, the table, the summary and the command line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sweeper.errors import UsageError, plural
from sweeper.records import Metric
from sweeper.stats.compare import Pair, Part, compare_all, compare_leader, compare_paired
from sweeper.stats.comparison import (
    MOST_SHOWN,
    VERDICTS,
    WITHOUT_NUMBER,
    By,
    ComparedPair,
    Comparison,
    Leader,
    Sample,
)
from sweeper.stats.components import Estimate, estimate_means
from sweeper.stats.intervals import keep_within
from sweeper.stats.sampling import Correctness, SamplesPart, bound, over_samples, paired_part
from sweeper.stats.selection import best_interval


def compare_points(
    samples: Sequence[Sample],
    metric: Metric,
    *,
    baseline: int | None = None,
    by: By = "best",
    paired: bool = False,
    confidence: float = 0.95,
    n_val: int | None = None,
    generalise: bool = False,
    is_tuned: bool = True,
) -> Comparison:
    """Compare points in a metric.

    Args:
        samples: the points.
        metric: the metric, with its direction and bounds.
        baseline: the index of a point to compare all others with.
        by: "best": the best point with each other; "all": every pair.
        paired: compare the differences of trials with the same number, which share a split.
        confidence: probability that all rows together are true.
        n_val: size of the validation set.
        generalise: include the variance from choosing other validation samples (accuracies only):
            of two points with `Sample.right` by pairing the samples, else by a bound.
        is_tuned: whether points are tuned; those of a program are not.

    Raises:
        UsageError: `generalise` without `n_val` or for a metric that is not an accuracy; `paired`
            for all pairs; a metric without a direction.
    """
    if by not in {"best", "all"}:
        raise UsageError(
            f"by={by!r}: choose 'best' (the best with each other) or 'all' (each pair)"
        )
    if metric.direction == "none":
        raise UsageError(f"metric={metric.name!r}: neither large nor small values are better")
    sign = -1.0 if metric.direction == "minimize" else 1.0
    chosen = samples[baseline] if baseline is not None else None
    if chosen is not None and chosen.flag:
        raise UsageError(f"baseline {chosen.name!r} {chosen.flag}: choose another")
    sound = [one for one in samples if not one.flag]
    means = estimate_means([sign * one.trials for one in sound], [one.tunings for one in sound])
    able = [(one, mean) for one, mean in zip(sound, means, strict=True) if mean.enough]
    points, means = [one for one, _ in able], [mean for _, mean in able]
    part = _samples_part(points, metric.name, n_val) if generalise else None
    place = next((at for at, one in enumerate(points) if one is chosen), None)
    leader = _leader(points, means)
    pairs: list[Pair] = []
    if len(points) > 1 and leader is not None and (chosen is None or place is not None):
        if paired:
            pairs = _paired(points, sign, leader, place, by, confidence, part)
        elif chosen is None and by == "best":
            pairs = compare_leader(means, leader, confidence, part)
        else:
            pairs = compare_all(means, place, confidence, part)
    pairs.sort(key=lambda pair: pair.difference)
    bounds = metric.bounds
    told = None
    if chosen is None and leader is not None and len(points) > 1:
        rivals = sum(leader in {p.first, p.second} and not p.verdict for p in pairs)
        best = means[leader] if part is None else over_samples(means[leader], n_val or 1)
        told = _told(points[leader].name, best, rivals, sign, confidence, bounds)
    return Comparison(
        metric.name,
        confidence,
        tuple(_row(pair, points, sign, bounds) for pair in pairs),
        told,
        _basis(
            metric.name,
            means,
            confidence,
            "" if n_val is None else _which_samples(points, pairs, n_val, generalise=generalise),
            paired=paired,
            is_tuned=is_tuned,
        ),
        tuple(_caveats(samples, points, means, is_tuned=is_tuned)),
    )


def find_point(names: Sequence[str], text: str) -> int:
    """The index of the one point whose name is `text`, contains its words, or contains it.

    Raises:
        UsageError: no point matches, or more than one; the message lists the choices.
    """
    words = set(text.split())
    tests = (
        lambda name: name == text,
        lambda name: words <= set(name.split()),
        lambda name: text in name,
    )
    for test in tests:
        found = [place for place, name in enumerate(names) if words and test(name)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = "; ".join(names[place] for place in found[:MOST_SHOWN])
            raise UsageError(f"{text!r} fits {len(found)} points: {_cut(shown, len(found))}")
    shown = "; ".join(names[:MOST_SHOWN])
    raise UsageError(f"{text!r} is no part of any point's name: {_cut(shown, len(names))}")


def _cut(shown: str, count: int) -> str:
    return f"{shown}; …" if count > MOST_SHOWN else shown


def _leader(points: Sequence[Sample], means: Sequence[Estimate]) -> int | None:
    """The best mean; points with diverged trials, which have no loss, come after the others."""
    if not points:
        return None
    return max(
        range(len(points)),
        key=lambda at: (bool(np.isfinite(points[at].trials).all()), means[at].mean),
    )


def _paired(
    points: Sequence[Sample],
    sign: float,
    leader: int,
    baseline: int | None,
    by: By,
    confidence: float,
    part: Part | None,
) -> list[Pair]:
    if by == "all" and baseline is None:
        raise UsageError("paired=True compares with one point: choose by='best', or a baseline")
    pairs = compare_paired(
        [sign * one.trials for one in points],
        [one.tunings for one in points],
        [one.numbers for one in points],
        leader if baseline is None else baseline,
        chosen=baseline is None,
        confidence=confidence,
        part=part,
    )
    return pairs if baseline is None else [_turned(pair) for pair in pairs]


def _turned(pair: Pair) -> Pair:
    return Pair(
        pair.second,
        pair.first,
        -pair.difference,
        -pair.high,
        -pair.low,
        pair.p_value,
        -pair.verdict,
        pair.more_trials,
        pair.more_tunings,
    )


def _samples_part(points: Sequence[Sample], metric: str, n_val: int | None) -> Part:
    """What the choice of the validation samples adds to the difference of two of these points."""
    if n_val is None:
        raise UsageError("generalise=True needs to know how many validation samples there are")
    if metric != "perf_val":
        raise UsageError(f"generalise=True is for accuracies on validation samples, not {metric}")
    for one in points:
        counts = one.trials * n_val
        if not np.allclose(counts, np.round(counts), atol=1e-3):
            raise UsageError(
                f"generalise=True is for accuracies; {one.name} has {one.trials[0]:.6g}, which is "
                f"not a fraction of {n_val} samples"
            )
    means = [float(one.trials.mean()) for one in points]
    known = [None if one.right is None else Correctness.of(one.right) for one in points]

    def part(a: int, b: int) -> SamplesPart:
        first, second = known[a], known[b]
        if first is None or second is None:
            return bound(means[a], means[b], n_val)
        return paired_part(first, second)

    return part


def _which_samples(
    points: Sequence[Sample], pairs: Sequence[Pair], n_val: int, *, generalise: bool
) -> str:
    """The samples on which what is said of these pairs holds, and how that is known."""
    these = f"these {n_val:,} validation samples"
    if not generalise:
        return f"on {these}"
    bounded = sum(points[p.first].right is None or points[p.second].right is None for p in pairs)
    if bounded == len(pairs):
        return f"on new samples, by a bound from {these}"
    said = f"on new samples, pairing {these}"
    if bounded:
        said += f", but {bounded:,} of {plural(len(pairs), 'difference')} by a bound"
    return said


def _row(
    pair: Pair, points: Sequence[Sample], sign: float, bounds: tuple[float, float] | None
) -> ComparedPair:
    first, second = points[pair.first], points[pair.second]
    low, high = sorted((sign * pair.low, sign * pair.high))
    if bounds is not None and not math.isnan(low):
        span = bounds[1] - bounds[0]
        low, high = max(low, -span), min(high, span)
    return ComparedPair(
        first.name,
        second.name,
        first.params,
        second.params,
        sign * pair.difference,
        low,
        high,
        pair.p_value,
        VERDICTS[pair.verdict],
        pair.more_trials,
        pair.more_tunings,
    )


def _told(
    name: str,
    mean: Estimate,
    rivals: int,
    sign: float,
    confidence: float,
    bounds: tuple[float, float] | None,
) -> Leader:
    low, high = best_interval(mean, rivals, confidence)
    if mean.variance == 0 or mean.freedom < 2:
        return Leader(name, sign * mean.mean, math.nan, math.nan, rivals)
    low, high = keep_within(mean.mean, mean.mean - low, high - mean.mean, bounds)
    ends = sorted((sign * low, sign * high))
    return Leader(name, sign * mean.mean, ends[0], ends[1], rivals)


def _basis(
    metric: str,
    means: Sequence[Estimate],
    confidence: float,
    samples: str,
    *,
    paired: bool = False,
    is_tuned: bool = True,
) -> str:
    tuned = max((mean.tunings for mean in means), default=1)
    trials = _range([mean.n for mean in means], "trial")
    parts = [f"{confidence * 100:g} % for all together"]
    if tuned > 1:
        parts.append(f"{_range([mean.tunings for mean in means], 'tuning')} and {trials} a point")
    else:
        parts.append(f"{'one tuning and ' * is_tuned}{trials} a point")
    if paired:
        parts.append("trials of the same number compared, on the same split")
    if samples:
        parts.append(samples)
    whose = " of these points as tuned, not of what another tuning would give"
    whose *= is_tuned and tuned == 1
    return f"What can be said in {metric}{whose} ({'; '.join(parts)}):"


def _caveats(
    samples: Sequence[Sample],
    points: Sequence[Sample],
    means: Sequence[Estimate],
    *,
    is_tuned: bool,
) -> Iterator[str]:
    tuned = any(mean.tunings > 1 for mean in means)
    compared = set(map(id, points))
    few = [one for one in samples if not one.flag and len(one.trials) and id(one) not in compared]
    numberless = [one for one in few if len(one.trials) > 1 and np.isfinite(one.trials).sum() < 2]
    if numberless:
        many = plural(len(numberless), "point")
        yield f"{many} with fewer than two trials that gave a number cannot be compared"
    if len(few) > len(numberless):
        lack = "trials of a single tuning" if tuned else "a single trial"
        many = plural(len(few) - len(numberless), "point")
        yield f"{many} with {lack} cannot be compared: two or more would tell"
    lost = sum(int((~np.isfinite(one.trials)).sum()) for one in points)
    if lost:
        yield f"{plural(lost, 'trial')} {WITHOUT_NUMBER[is_tuned]} left out"
    flagged = [one for one in samples if one.flag]
    for one in flagged[:MOST_SHOWN]:
        yield f"{one.name} {one.flag}"
    if len(flagged) > MOST_SHOWN:
        yield f"and {plural(len(flagged) - MOST_SHOWN, 'more point')} that could not be tuned"


def _range(counts: Sequence[int], noun: str) -> str:
    if not counts or min(counts) == max(counts):
        return plural(counts[0] if counts else 0, noun)
    return f"{min(counts):,} to {max(counts):,} {noun}s"
