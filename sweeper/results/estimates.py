"""What is known of each point of results: its means with their intervals, and its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sweeper.records import generation_of
from sweeper.results.metrics import shown_of
from sweeper.results.points import FloatArray, IntArray, PointTrials
from sweeper.results.table import label_columns
from sweeper.stats.components import estimate_means
from sweeper.stats.intervals import Interval, mean_interval
from sweeper.summary import OnTest, PointSummary, Summary

if TYPE_CHECKING:
    from sweeper.results.result import SweepResult


def intervals_of(
    samples: Sequence[FloatArray],
    tunings: Sequence[IntArray],
    bounds: tuple[float, float] | None,
) -> list[Interval]:
    """The mean of each sample with its 95 % interval; see `SweepResult.intervals`.

    Values that are not finite (losses of trials that diverged) are left out.
    """
    finite = [np.isfinite(sample) for sample in samples]
    samples = [sample[kept] for sample, kept in zip(samples, finite, strict=True)]
    tunings = [which[kept] for which, kept in zip(tunings, finite, strict=True)]
    found = [mean_interval(sample, bounds=bounds) for sample in samples]
    places = [at for at, which in enumerate(tunings) if len(np.unique(which)) > 1]
    means = estimate_means([samples[at] for at in places], [tunings[at] for at in places])
    for at, mean in zip(places, means, strict=True):
        found[at] = mean.interval(bounds=bounds)
    return found


def summarize(results: SweepResult) -> Summary:
    """See `SweepResult.summary`."""
    failed = Counter(one.key for one in results.failures)
    names = shown_of(results.metrics)
    intervals = {name: results.intervals(name) for name in names}
    losses = _losses(results)
    return Summary(
        tuple(
            _summarize(
                one,
                failed=failed[one.key],
                diverged=_diverged(one, losses),
                intervals={name: found[place] for name, found in intervals.items()},
            )
            for place, one in enumerate(results.point_trials)
        ),
        results.notes,
        results.compare() if results.judged and len(results.comparable()) > 1 else None,
        results.on_test(),
        tuple(name for name in names if results.of_program or name != "perf_train"),
    )


def _summarize(
    one: PointTrials, *, failed: int, diverged: int, intervals: dict[str, Interval]
) -> PointSummary:
    return PointSummary(
        params=one.point.params,
        n=len(one.trial_numbers),
        diverged=diverged,
        failed=failed,
        intervals=intervals,
        tunings=len(np.unique(one.tunings)),
        flag=one.flag,
        budget=one.budget,
        group=one.group,
        parent=str(label_columns(one)["parent"] or one.lineage),
        generation=generation_of(one.lineage),
    )


def _losses(results: SweepResult) -> list[str]:
    """The metrics by which a trial has diverged, if one of them is not finite."""
    if not results.of_program:
        return ["loss_train", "loss_val"]
    return [results.judged.name] if results.judged else []


def _diverged(one: PointTrials, losses: Sequence[str]) -> int:
    """How many of the trials have diverged."""
    if not losses:
        return 0
    return int(np.sum(~np.isfinite(sum(one.values(name) for name in losses))))


def estimate_on_test(results: SweepResult) -> OnTest | None:
    """See `SweepResult.on_test`."""
    if results.test is None:
        return None
    chosen = results.comparable()
    if not any(map(len, chosen.trial_numbers)):
        return None
    if chosen is not results:
        return estimate_on_test(chosen)
    best = results.best()
    place = next(at for at, point in enumerate(results) if point is best)
    perf = intervals_of([one.perf_test for one in results.test], results.tunings, (0.0, 1.0))
    loss = intervals_of([one.loss_test for one in results.test], results.tunings, None)
    return OnTest(best.params, perf[place], loss[place])
