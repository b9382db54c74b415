"""Learning-rate schedules of trials and probes, which have the same shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.train.tuning.trials import Trial

LOW = {"triangular": 1 / 8, "one_cycle": 1e-4, "cosine": 1e-2, "constant": 1.0}
"""Each schedule's lowest rate after any warm-up, relative to the peak."""

RISE, BEGIN = 0.3, 1 / 25
"""For `one_cycle`: the share of steps in which the rate rises, and its initial value relative to
the peak."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of each step.

    `"triangular"`: cycle by cycle linearly from `low` to `high` and back (L. N. Smith, "Cyclical
    learning rates for training neural networks", 2017, section 3).  `"one_cycle"`: one linear rise
    from `high` / 25 and a cosine down to `low` (L. N. Smith and N. Topin, "Super-convergence",
    2018; with torch's defaults).  `"cosine"`: half a cosine from `high` to `low` (I. Loshchilov
    and F. Hutter, "SGDR", 2017).  `"constant"`.  In the first `warmup` of the steps, a share, the
    rate rises linearly to what the schedule says.
    """

    kind: str
    low: float
    """The lowest rate after any warm-up."""
    high: float
    """The peak."""
    steps: int
    cycles: int = 1
    """Cycles of `"triangular"`, each of at least two steps."""
    warmup: float = 0.0

    def rates(self) -> NDArray[np.float64]:
        """The rate of each step, shape (steps,)."""
        low, high, steps = self.low, self.high, self.steps
        place = np.arange(steps) / max(1, steps)
        if self.kind == "triangular":
            # Bit-identical to ignite's LinearCyclicalScheduler.
            cycle = max(2, steps // self.cycles)
            place = np.arange(steps) % cycle / cycle
            found = high + (low - high) * np.abs(place - 0.5) * 2
        elif self.kind == "one_cycle":
            rise = BEGIN * high + (1 - BEGIN) * high * place / RISE
            fall = _cosine(high, low, (place - RISE) / (1 - RISE))
            found = np.where(place < RISE, rise, fall)
        elif self.kind == "cosine":
            found = _cosine(high, low, place)
        else:
            found = np.full(steps, high)
        count = math.ceil(self.warmup * steps)
        found[:count] *= np.arange(1, count + 1) / (count + 1)
        return found


def rates(
    schedule: str, high: float, steps: int, cycles: int = 1, warmup: float = 0.0
) -> NDArray[np.float64]:
    """The rate of each step of a probe with the peak `high`, shape (steps,); see `Schedule`.

    The lowest rate relative to the peak is given by `LOW`.
    """
    return Schedule(schedule, high * LOW[schedule], high, steps, cycles, warmup).rates()


def cycle_rates(trial: Trial) -> list[float]:
    """The learning rate of each step of a trial, in every execution mode."""
    kind, warmup = trial.schedule or "triangular", trial.warmup or 0.0
    low, high = trial.lr_start, trial.lr_end
    found: list[float] = (
        Schedule(kind, low, high, trial.steps, trial.cycles, warmup).rates().tolist()
    )
    return found


def _cosine(high: float, low: float, place: NDArray[np.float64]) -> NDArray[np.float64]:
    return low + (high - low) * (1 + np.cos(np.pi * place)) / 2


def cycle_ends(steps: int, cycles: int) -> list[int]:
    """The steps after which a cycle of `"triangular"` ends; the last is `steps`."""
    cycle = max(2, steps // cycles)
    whole = range(cycle, steps - cycle + 1, cycle)
    return [*whole[: cycles - 1], steps]
