"""Whether a training has learned anything: its loss against the best constant prediction's."""

from __future__ import annotations

import math

LEARNED = 0.03
"""A training has learned something if its gain is at least this."""


def gain(constant: float, loss: float, least: float = 0.0) -> float:
    """How far `loss` is below the constant prediction's loss, as a share of the latter.

    It is at least `least`, and that if training diverged.
    """
    scale = abs(constant) or 1.0
    return max(least, (constant - loss) / scale) if math.isfinite(loss) else least
