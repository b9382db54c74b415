"""Flags points whose tuning failed, judging by their trials; not points that were not tuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.stats.learned import LEARNED, gain
from sweeper.store.results.tuned import TrialSettings

COULD_NOT = "could not be tuned"

OF_THE_BEST = 0.25
"""If even the best point of a sweep learns little, this part of its gain is enough."""

LEAST_OF_PROMISED = 0.5
"""Trials fall short of their probes if they gain less than this share of the probes' gain."""


def flags(settings: Sequence[TrialSettings], losses: Sequence[Sequence[float]]) -> list[str]:
    """For each point why it counts as one that could not be tuned; empty if it does not.

    Args:
        settings: the settings of each point's trials.
        losses: the training losses of each point's trials; NaN for one that diverged.
    """
    gains = [_gains(told.constant, own) for told, own in zip(settings, losses, strict=True)]
    best = max((float(np.mean(own)) for own in gains if own), default=0.0)
    least = min(LEARNED, OF_THE_BEST * best)
    return [_flag(told, own, least) for told, own in zip(settings, gains, strict=True)]


def _gains(constant: float | None, losses: Sequence[float]) -> list[float]:
    """How far the trials' losses are below the constant prediction's, as shares of it."""
    if constant is None:
        return []
    return [gain(constant, loss) for loss in losses]


def _flag(told: TrialSettings, gains: Sequence[float], least: float) -> str:
    # If rate and batch size were given, what the trials reach is what they are worth.
    if told.constant is None or not gains or told.untuned:
        return ""
    stuck = sum(gained <= least for gained in gains)
    if 2 * stuck >= len(gains):
        return (
            f"{COULD_NOT}: {stuck} of {len(gains)} trials are no better than a constant prediction"
        )
    known = [gain(told.constant, loss) for loss in told.expected]
    promised = float(np.mean(known)) if known else 0.0
    reached = float(np.mean(gains))
    if reached < LEAST_OF_PROMISED * promised:
        return f"{COULD_NOT}: trials reach {reached / promised:.0%} of what its probes gained"
    return ""
