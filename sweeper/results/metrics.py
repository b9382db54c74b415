"""The metrics of results: which there are, which is meant, and which one points are judged by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import CLASSIC, SHARES, Metric
from sweeper.results.points import FloatArray

TEST_METRICS = ("perf_test", "loss_test")
"""The metrics on a test set, where there is one: nothing is chosen by them."""


def is_classic(metrics: Sequence[Metric]) -> bool:
    """Whether these are the metrics of a problem: the classic four come first."""
    return tuple(metrics[: len(CLASSIC)]) == CLASSIC


def with_bounds(metric: Metric, samples: Sequence[FloatArray]) -> Metric:
    """The metric with the bounds 0 and 1, if its name says that it is a share, as do its values.

    So no interval of an accuracy goes beyond 1, whoever measured it.
    """
    if metric.bounds is not None or SHARES.isdisjoint(re.split(r"[\W_]+", metric.name.lower())):
        return metric
    values = np.concatenate([np.zeros(0), *samples])
    within = np.all((values >= 0) & (values <= 1) | np.isnan(values))
    return replace(metric, bounds=(0.0, 1.0)) if within else metric


def judged_by(metrics: Sequence[Metric]) -> Metric | None:
    """The metric that points are judged by where none is named; None: there is none.

    Of a problem it is `perf_val`, of a program the first with a direction.
    """
    if is_classic(metrics):
        return next(metric for metric in metrics if metric.name == "perf_val")
    return next((metric for metric in metrics if metric.direction != "none"), None)


def shown_of(metrics: Sequence[Metric]) -> list[str]:
    """The metrics in the columns of tables, first the one that points are judged by."""
    shown = [one.name for one in metrics if one.shown]
    judged = judged_by(metrics)
    first = judged.name if judged else next(iter(shown), None)
    return sorted(shown, key=lambda name: name != first)


def find_metric(metrics: Sequence[Metric], name: str | None, *, ranked: bool = False) -> Metric:
    """The metric of this name; a declared metric's short name, as `f1`, means `f1_val`.

    Args:
        metrics: Those to choose from.
        name: None: the one that points are judged by.
        ranked: Whether it needs a direction.

    Raises:
        UsageError: there is no such metric, or it has no direction.
    """
    if name is None:
        return _judged_by(metrics)
    known = {metric.name: metric for metric in metrics}
    found = known.get(name) or known.get(f"{name}_val")
    if found is None:
        raise UsageError(f"metric={name!r}: choose one of {', '.join(known)}")
    if ranked and found.direction == "none":
        say = ""
        if not is_classic(metrics):
            say = (
                f"; if they are, run the sweep again with metrics={{{found.name!r}: "
                "'maximize'} or 'minimize': no trial runs anew"
            )
        raise UsageError(f"metric={found.name!r}: neither large nor small values are better{say}")
    return found


def _judged_by(metrics: Sequence[Metric]) -> Metric:
    found = judged_by(metrics)
    if found is not None:
        return found
    one = next((metric.name for metric in metrics), "acc")
    raise UsageError(
        f"metric=None: no metric says whether large or small values are better: run "
        f"the sweep again with metrics={{{one!r}: 'maximize'}} or 'minimize'"
    )
