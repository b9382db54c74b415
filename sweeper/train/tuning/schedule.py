"""The learning rate of each step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def triangular(low: float, high: float, steps: int, cycles: int = 1) -> NDArray[np.float64]:
    """Rates that rise from `low` to `high` and fall back, cycle by cycle; shape (steps,).

    L. N. Smith, "Cyclical learning rates for training neural networks" (2017), section 3.
    """
    cycle = max(2, steps // cycles)
    place = np.arange(steps) % cycle / cycle
    return high + (low - high) * np.abs(place - 0.5) * 2


def cycle_ends(steps: int, cycles: int) -> list[int]:
    """After which steps a cycle of `triangular` is over; the last is `steps`."""
    cycle = max(2, steps // cycles)
    whole = range(cycle, steps - cycle + 1, cycle)
    return [*whole[: cycles - 1], steps]
