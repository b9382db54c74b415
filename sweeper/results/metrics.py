"""The metrics of results: which there are, and which one points are judged by."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sweeper.records import CLASSIC, SHARES, Metric
from sweeper.results.points import FloatArray

METRICS = tuple(metric.name for metric in CLASSIC)

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
