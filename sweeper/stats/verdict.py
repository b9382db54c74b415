"""The verdict in words: which point is better, which are not told apart, and what would tell.

One function, `compare_points`, says it for `results.compare()`, the table, the summary and the
command line.  Names of points come in as text, their trials as arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import UsageError
from sweeper.records import Metric
from sweeper.stats.compare import (
    Pair,
    compare_all,
    compare_leader,
    compare_paired,
    sampling_variance,
)
from sweeper.stats.components import Estimate, FloatArray, estimate_means
from sweeper.stats.intervals import keep_within
from sweeper.stats.selection import best_interval

if TYPE_CHECKING:
    import pandas as pd

By = Literal["best", "all"]

VERDICTS = {1: "better", 0: "not told apart", -1: "worse"}

_MOST = 10
"""Comparisons in words; the rest is counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A point's trials in one metric, as they are compared."""

    name: str
    params: Any
    trials: FloatArray
    """Shape (trials,), as the next two."""
    tunings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    flag: str = ""
    """Why its tuning is not to be trusted; such a point is not compared."""


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """Two points and the verdict."""

    first: str
    second: str
    first_params: Any
    second_params: Any
    difference: float
    """mean(first) - mean(second), in units of the metric."""
    low: float
    """Ends of its interval, simultaneous over all that is said; NaN where no variation was seen."""
    high: float
    p_value: float
    """Adjusted for all that is said together."""
    verdict: str
    """Of `first`: "better", "worse" or "not told apart"."""
    more_trials: int | None
    """So many more of each would tell in 80 % of cases, if the difference is what it seems."""
    more_tunings: int | None
    """So many more of each, with as many trials each as now, where more trials would not tell."""

    @property
    def advice(self) -> str:
        """What would tell; "" where it is told."""
        if self.verdict != VERDICTS[0]:
            return ""
        if math.isnan(self.p_value):
            return "no variation was seen in the trials of either: more trials would help"
        if self.more_trials is not None:
            return f"about {_plural(self.more_trials, 'more trial')} each would tell"
        if self.more_tunings is not None:
            return f"about {_plural(self.more_tunings, 'more tuning')} each would tell"
        return "too close for any reasonable number of trials"


@dataclass(frozen=True, slots=True)
class Leader:
    """What the best point reached."""

    name: str
    mean: float
    low: float
    """Ends of the interval for its true mean that count that it was chosen; NaN: too few trials."""
    high: float
    rivals: int
    """Points that it is not told apart from."""

    def __str__(self) -> str:
        reached = f"★ {self.name} reached {self.mean:.4f}"
        if math.isnan(self.low):
            return f"{reached}: too few trials to say between which ends its true mean is"
        ends = f"its true mean is between {_number(self.low)} and {_number(self.high)}"
        if not self.rivals:
            return f"{reached}; {ends}"
        return f"{reached}, as the luckiest of {self.rivals + 1} not told apart; {ends}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What can be said of the points' differences; `str()` says it in words."""

    metric: str
    confidence: float
    """With which nothing false is said in all rows together."""
    rows: tuple[ComparedPair, ...]
    leader: Leader | None
    """None where points are compared with one that was not chosen by the data."""
    basis: str
    """On what it rests: tunings, trials, samples."""
    caveats: tuple[str, ...] = ()
    """What is not compared, and why."""

    def __str__(self) -> str:
        return "\n".join(self.lines(len(self.rows)))

    def lines(self, most: int = _MOST) -> list[str]:
        """The verdict in words, a line a pair; after `most` pairs the rest is counted."""
        if not (self.rows or self.caveats):
            return []
        if not self.rows:
            return list(self.caveats)
        lines = [self.basis]
        lines += [f"  {self._sentence(row)}" for row in self.rows[:most]]
        lines += [f"  {line}" for line in self._rest(self.rows[most:])]
        if self.leader is not None and self.rows:
            lines.append(f"  {self.leader}")
        return lines + [f"  {line}" for line in self.caveats]

    def to_markdown(self) -> str:
        """A table in Markdown, and below it what it rests on."""
        head = ["first", "second", "difference", "interval", "adjusted p", "verdict"]
        rows = [
            [
                _cell(row.first),
                _cell(row.second),
                _number(row.difference),
                "-" if math.isnan(row.low) else f"{_number(row.low)} to {_number(row.high)}",
                "-" if math.isnan(row.p_value) else f"{row.p_value:.2g}",
                f"{row.verdict}: {row.advice}" if row.advice else row.verdict,
            ]
            for row in self.rows
        ]
        table = [head, ["---"] * len(head), *rows]
        below = [self.basis.rstrip(":")]
        below += [str(self.leader)] if self.leader is not None and self.rows else []
        lines = [f"| {' | '.join(cells)} |" for cells in table] if rows else []
        return "\n".join([*lines, *(["" for _ in lines[:1]]), *below, *self.caveats]) + "\n"

    def to_dataframe(self) -> pd.DataFrame:
        """One row a pair.  Needs pandas (`pip install 'sweeper[analysis]'`)."""
        import pandas as pd

        names = ("first", "second", "difference", "low", "high", "p_value", "verdict")
        more = ("more_trials", "more_tunings")
        return pd.DataFrame(
            [[getattr(row, name) for name in (*names, *more)] for row in self.rows],
            columns=[*names, *more],
        )

    def _sentence(self, row: ComparedPair) -> str:
        # A loss is better the lower it is: by how much one is better is said without its sign.
        sign = -1.0 if row.difference < 0 else 1.0
        size = _number(abs(row.difference))
        ends = sorted((sign * row.low, sign * row.high))
        interval = "" if math.isnan(row.low) else f"{_number(ends[0])} to {_number(ends[1])}"
        if row.verdict == VERDICTS[0]:
            inside = f"{size}, {interval}" if interval else size
            return f"{row.first} and {row.second} are not told apart ({inside}): {row.advice}"
        return f"{row.first} is {row.verdict} than {row.second} by {size} ({interval})"

    @staticmethod
    def _rest(rows: Sequence[ComparedPair]) -> Iterator[str]:
        if rows:
            counts = {said: sum(row.verdict == said for row in rows) for said in VERDICTS.values()}
            told = ", ".join(f"{count:,} {said}" for said, count in counts.items() if count)
            yield f"and {_plural(len(rows), 'more comparison')}: {told}"


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
) -> Comparison:
    """Compare points in a metric.

    Args:
        samples: the points.
        metric: which values are better, and the bounds of what there can be.
        baseline: the place of a point that all others are compared with.
        by: "best": the point that came out best with each other; "all": every pair.
        paired: trials of the same number share their luck: compare by their differences.
        confidence: with which nothing false is said in all rows together.
        n_val: samples of the validation set.
        generalise: what other validation samples would change is in the intervals (accuracies).

    Raises:
        UsageError: `generalise` without `n_val` or for what is no accuracy; `paired` for all pairs;
            a metric of which no values are better.
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
    extra = _sampling(points, metric.name, n_val) if generalise else None
    place = next((at for at, one in enumerate(points) if one is chosen), None)
    leader = _leader(points, means)
    pairs: list[Pair] = []
    if len(points) > 1 and leader is not None and (chosen is None or place is not None):
        if paired:
            pairs = _paired(points, sign, leader, place, by, confidence)
        elif chosen is None and by == "best":
            pairs = compare_leader(means, leader, confidence, extra)
        else:
            pairs = compare_all(means, place, confidence, extra)
    pairs.sort(key=lambda pair: pair.difference)
    bounds = metric.bounds
    told = None
    if chosen is None and leader is not None and len(points) > 1:
        rivals = sum(leader in {p.first, p.second} and not p.verdict for p in pairs)
        told = _told(points[leader].name, means[leader], rivals, sign, confidence, bounds)
    return Comparison(
        metric.name,
        confidence,
        tuple(_row(pair, points, sign, bounds) for pair in pairs),
        told,
        _basis(metric.name, means, confidence, n_val, generalise=generalise, paired=paired),
        tuple(_caveats(samples, points, means)),
    )


def find_point(names: Sequence[str], text: str) -> int:
    """The place of the one point whose name is `text`, or has its words, or has it as a part.

    Raises:
        UsageError: there is none, or more than one; the choices are named.
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
            shown = "; ".join(names[place] for place in found[:_MOST])
            raise UsageError(f"{text!r} fits {len(found)} points: {_cut(shown, len(found))}")
    shown = "; ".join(names[:_MOST])
    raise UsageError(f"{text!r} is no part of any point's name: {_cut(shown, len(names))}")


def _cut(shown: str, count: int) -> str:
    return f"{shown}; …" if count > _MOST else shown


def _leader(points: Sequence[Sample], means: Sequence[Estimate]) -> int | None:
    """The best mean; points with trials that diverged, and have no loss, come after the others."""
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


def _sampling(points: Sequence[Sample], metric: str, n_val: int | None) -> FloatArray:
    if n_val is None:
        raise UsageError("generalise=True needs to know how many validation samples there are")
    if metric != "perf_val":
        raise UsageError(f"generalise=True is for accuracies on validation samples, not {metric}")
    for one in points:
        counts = one.trials * n_val
        if not np.allclose(counts, np.round(counts), atol=1e-3):
            raise UsageError(
                f"generalise=True is for accuracies; {one.name} has {one.trials[0]:.6g}, which is "
                f"no share of {n_val} samples"
            )
    means = [float(one.trials.mean()) for one in points]
    return np.array([[sampling_variance(a, b, n_val) for b in means] for a in means])


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
    n_val: int | None,
    *,
    generalise: bool,
    paired: bool = False,
) -> str:
    tuned = max((mean.tunings for mean in means), default=1)
    trials = _range([mean.n for mean in means], "trial")
    parts = [f"{confidence * 100:g} % for all together"]
    if tuned > 1:
        parts.append(f"{_range([mean.tunings for mean in means], 'tuning')} and {trials} a point")
    else:
        parts.append(f"one tuning and {trials} a point")
    if paired:
        parts.append("trials of the same number compared, on the same split")
    if n_val is not None:
        samples = f"these {n_val:,} validation samples"
        parts.append(f"on new samples, going by {samples}" if generalise else f"on {samples}")
    whose = "" if tuned > 1 else " of these points as tuned, not of what another tuning would give"
    return f"What can be said in {metric}{whose} ({'; '.join(parts)}):"


def _caveats(
    samples: Sequence[Sample], points: Sequence[Sample], means: Sequence[Estimate]
) -> Iterator[str]:
    tuned = any(mean.tunings > 1 for mean in means)
    compared = set(map(id, points))
    few = sum(not one.flag and len(one.trials) > 0 and id(one) not in compared for one in samples)
    if few:
        lack = "trials of a single tuning" if tuned else "a single trial"
        yield f"{_plural(few, 'point')} with {lack} cannot be compared: two or more would tell"
    lost = sum(int((~np.isfinite(one.trials)).sum()) for one in points)
    if lost:
        yield f"{_plural(lost, 'trial')} that diverged, without a loss, left out"
    flagged = [one for one in samples if one.flag]
    for one in flagged[:_MOST]:
        yield f"{one.name} {one.flag}"
    if len(flagged) > _MOST:
        yield f"and {_plural(len(flagged) - _MOST, 'more point')} that could not be tuned"


def _range(counts: Sequence[int], noun: str) -> str:
    if not counts or min(counts) == max(counts):
        return _plural(counts[0] if counts else 0, noun)
    return f"{min(counts):,} to {max(counts):,} {noun}s"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _number(value: float) -> str:
    """Four decimals, or four digits where a loss is large or small."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.3e}" if abs(value) >= 1e6 or abs(value) < 1e-4 else f"{value:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
