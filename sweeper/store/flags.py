"""Flags points whose tuning failed, judging by their trials; not points that were not tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sweeper.stats.learned import LEARNED, gain

COULD_NOT = "could not be tuned"

OF_THE_BEST = 0.25
"""If even the best point of a sweep learns little, this part of its gain is enough."""

LEAST_OF_PROMISED = 0.5
"""Trials fall short of their probes if they gain less than this share of the probes' gain."""


def flags(payloads: Sequence[Mapping[str, Any]], losses: Sequence[Sequence[float]]) -> list[str]:
    """For each point why it counts as one that could not be tuned; empty if it does not.

    Args:
        payloads: the payload of each point's trials.
        losses: the training losses of each point's trials; NaN for one that diverged.
    """
    gains = [_gains(told, own) for told, own in zip(payloads, losses, strict=True)]
    best = max((float(np.mean(own)) for own in gains if own), default=0.0)
    least = min(LEARNED, OF_THE_BEST * best)
    return [_flag(told, own, least) for told, own in zip(payloads, gains, strict=True)]


def _is_untuned(told: Mapping[str, Any]) -> bool:
    """Whether rate and batch size were given: what the trials reach is what they are worth."""
    return "constant" in told.get("own", {})


def _gains(told: Mapping[str, Any], losses: Sequence[float]) -> list[float]:
    """How far the trials' losses are below the constant prediction's, as shares of it."""
    constant = told.get("constant")
    if constant is None:
        return []
    return [gain(constant, loss) for loss in losses]


def _flag(told: Mapping[str, Any], gains: Sequence[float], least: float) -> str:
    if not gains or _is_untuned(told):
        return ""
    stuck = sum(gained <= least for gained in gains)
    if 2 * stuck >= len(gains):
        return (
            f"{COULD_NOT}: {stuck} of {len(gains)} trials are no better than a constant prediction"
        )
    constant = told["constant"]
    known = [one["expected"] for one in told["tunings"] if one.get("expected") is not None]
    promised = float(np.mean([gain(constant, loss) for loss in known])) if known else 0.0
    reached = float(np.mean(gains))
    if reached < LEAST_OF_PROMISED * promised:
        return f"{COULD_NOT}: trials reach {reached / promised:.0%} of what its probes gained"
    return ""
