"""Whether a training has learned anything: its loss beside that of the best constant prediction."""

from __future__ import annotations

import math

LEARNED = 0.03
"""A training has learned something where it gains at least so much."""


def gain(constant: float, loss: float) -> float:
    """How far below the constant prediction's loss it came, as a share of that.

    0 for one that came no lower, or diverged.
    """
    scale = abs(constant) or 1.0
    return max(0.0, constant - loss) / scale if math.isfinite(loss) else 0.0
