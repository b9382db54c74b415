"""Options of the optimizer that are tuned after its rate: which values are tried, and which wins.

Pure, as the ladder is: from held-out losses of probes to a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.settings import TUNABLE
from sweeper.stats.learned import LEARNED
from sweeper.train.tuning.tried import Tried, gain_of, gains_of

ORDER = ("momentum", "weight_decay")
"""The order in which options are tuned: momentum changes the rate, which weight decay acts with."""

MOMENTA = (0.0, 0.5, 0.9, 0.95, 0.99)
DECAYS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Values to try where the optimizer's own is 0; else they are around it."""

CLEARLY = 0.01
"""Values whose gain is within this share of the best gain cannot be told from the best, as batch
sizes cannot (`ladder.OTHER_BATCH_GAIN`)."""


def values(option: str, own: float) -> tuple[float, ...]:
    """The values to try: the optimizer's own first, then the others in rising order."""
    around = (0.0, own / 100, own / 10, own * 10, own * 100) if own > 0 else DECAYS
    tried = MOMENTA if option == "momentum" else around
    return (own, *(value for value in tried if value != own))


def rate_at(optimizer: str, option: str, rate: float, own: float, value: float) -> float:
    """The peak rate at a value of an option, from that at the optimizer's own value.

    Momentum m lets a gradient act 1 / (1 - m) times in all, so the effective rate, rate / (1 - m),
    is held (S. L. Smith, P.-J. Kindermans, C. Ying and Q. V. Le, "Don't decay the learning rate,
    increase the batch size", 2018, section 3).  Muon's steps have one size whatever its momentum.
    """
    if option != "momentum" or optimizer == "muon":
        return rate
    return rate * (1 - value) / (1 - own)


def no_option(optimizer: str, option: str, known: Iterable[str]) -> str:
    """The message that an optimizer has no such option to tune."""
    choices = [name for name in TUNABLE if name in TUNABLE[:2] or name in known]
    return (
        f"tune names {option!r}, but the optimizer {optimizer!r} has no such option: choose from "
        f"{', '.join(choices)}"
    )


@dataclass(frozen=True, slots=True)
class Found:
    """The value that a tuning has found."""

    place: int
    """Its place among those tried."""
    because: str


def choose(option: str, values: Sequence[float], tried: Sequence[Tried], constant: float) -> Found:
    """The least value that cannot be told from the best one, or the optimizer's own if it is one.

    `values` has the optimizer's own first, `tried` has the probes of each.
    """
    gains = [gain_of(one, constant) for one in tried]
    best = int(np.argmax(gains))
    if gains[best] < LEARNED:
        return Found(0, f"the optimizer's own {option}, {values[0]:g}: no value lets it learn")
    near = [
        place
        for place, gained in enumerate(gains)
        if gains[best] - gained <= _margin(tried[best], tried[place], constant, gains[best])
    ]
    if 0 in near:
        why = f"{values[best]:g} does not gain clearly more" if best else "none gains more"
        return Found(0, f"the optimizer's own {option}, {values[0]:g}: {why}")
    place = min(near, key=lambda one: values[one])
    gained = f"{option} {values[place]:g} gains {gains[place]:.4f}"
    why = f"{gained}, the optimizer's own {values[0]:g} gains {gains[0]:.4f}"
    if place != best:
        why += f"; {values[best]:g} does not gain clearly more"
    return Found(place, why)


def _margin(best: Tried, other: Tried, constant: float, most: float) -> float:
    """The difference of gains up to which two values cannot be told apart.

    With several initialisations it is at least the standard error of their paired differences (the
    rule of one standard error: L. Breiman et al., *Classification and Regression Trees*, 1984).
    """
    share = CLEARLY * most
    if len(best.losses) < 2:
        return share
    gains = [np.array(gains_of(one, constant)) for one in (best, other)]
    error = float(np.std(gains[0] - gains[1], ddof=1)) / math.sqrt(len(best.losses))
    return max(share, error)
