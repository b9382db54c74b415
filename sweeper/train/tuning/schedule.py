"""The learning rate of each step: of a trial, and of a probe, which has the same shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sweeper.train.tuning.trials import Trial

LOW = {"triangular": 1 / 8, "one_cycle": 1e-4, "cosine": 1e-2, "constant": 1.0}
"""For each schedule its lowest rate after any warm-up, relative to the peak."""

RISE, BEGIN = 0.3, 1 / 25
"""Of `one_cycle`: the share of steps in which the rate rises, and where it begins."""


def rates(
    schedule: str, high: float, steps: int, cycles: int = 1, warmup: float = 0.0
) -> NDArray[np.float64]:
    """The rate of each step, shape (steps,), with the peak `high`.

    `"triangular"`: cycle by cycle linearly from `high` / 8 to `high` and back (L. N. Smith,
    "Cyclical learning rates for training neural networks", 2017, section 3).  `"one_cycle"`: one
    linear rise from `high` / 25 and a cosine down to `high` / 10,000 (L. N. Smith and N. Topin,
    "Super-convergence", 2018; with torch's defaults).  `"cosine"`: half a cosine from `high` to
    `high` / 100 (I. Loshchilov and F. Hutter, "SGDR", 2017).  `"constant"`.  In the first `warmup`
    of the steps, a share, the rate rises linearly to what the schedule says.
    """
    low = high * LOW[schedule]
    place = np.arange(steps) / max(1, steps)
    if schedule == "triangular":
        found = triangular(low, high, steps, cycles)
    elif schedule == "one_cycle":
        rise = BEGIN * high + (1 - BEGIN) * high * place / RISE
        fall = _cosine(high, low, (place - RISE) / (1 - RISE))
        found = np.where(place < RISE, rise, fall)
    elif schedule == "cosine":
        found = _cosine(high, low, place)
    else:
        found = np.full(steps, high)
    count = math.ceil(warmup * steps)
    found[:count] *= np.arange(1, count + 1) / (count + 1)
    return found


def cycle_rates(trial: Trial) -> list[float]:
    """The learning rate of each step of a trial, packed or plain."""
    schedule, warmup = trial.schedule or "triangular", trial.warmup or 0.0
    steps, cycles = trial.steps, trial.cycles
    if schedule != "triangular" or warmup:
        found: list[float] = rates(schedule, trial.lr_end, steps, cycles, warmup).tolist()
        return found
    # To the last bit what ignite's LinearCyclicalScheduler sets, as trials have always trained.
    start, end = trial.lr_start, trial.lr_end
    cycle = max(2, steps // cycles)
    return [end + (start - end) * abs(step % cycle / cycle - 0.5) * 2 for step in range(steps)]


def _cosine(high: float, low: float, place: NDArray[np.float64]) -> NDArray[np.float64]:
    return low + (high - low) * (1 + np.cos(np.pi * place)) / 2


def triangular(low: float, high: float, steps: int, cycles: int = 1) -> NDArray[np.float64]:
    """Rates that rise from `low` to `high` and fall back, cycle by cycle; shape (steps,).

    A cycle has two steps at least.
    """
    cycle = max(2, steps // cycles)
    place = np.arange(steps) % cycle / cycle
    found: NDArray[np.float64] = high + (low - high) * np.abs(place - 0.5) * 2
    return found


def cycle_ends(steps: int, cycles: int) -> list[int]:
    """After which steps a cycle of `triangular` is over; the last is `steps`."""
    cycle = max(2, steps // cycles)
    whole = range(cycle, steps - cycle + 1, cycle)
    return [*whole[: cycles - 1], steps]
