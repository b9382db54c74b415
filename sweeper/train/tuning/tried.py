"""Settings that were tried in tuning, and what the held-out losses of their probes say.  Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.learned import gain


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings to try."""

    rate: float
    """The peak of the learning rate."""
    batch_size: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate with the held-out losses of its probes."""

    candidate: Candidate
    losses: tuple[tuple[float, ...], ...]
    """For each initialisation the loss after each cycle; infinite once it has diverged."""
    performances: tuple[tuple[float, ...], ...] = ()
    """In the same way the performance, 0 once it has diverged; empty where it follows from the loss
    or earlier releases did not store it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What held-out samples say of a probe after each cycle."""

    losses: list[float]
    """Infinite once it has diverged."""
    performances: list[float]
    """0 once it has diverged; empty where performance follows from the loss."""

    @classmethod
    def make(cls, found: Sequence[tuple[float, float]], *, performs: bool) -> Judged:
        """From loss and performance after each cycle; `performs`: the latter is one of its own."""
        losses = [loss if math.isfinite(loss) else math.inf for loss, _ in found]
        right = [right if math.isfinite(loss) else 0.0 for loss, right in found]
        return cls(losses, right if performs else [])

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]]) -> Judged:
        """From what is stored; earlier releases did not store the performance."""
        losses, right = arrays["loss"], arrays.get("performance", np.empty(0))
        return cls(list(map(float, losses)), list(map(float, right)))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """As they are stored."""
        found = {"loss": np.array(self.losses), "performance": np.array(self.performances)}
        return {name: values for name, values in found.items() if len(values)}


def collect(candidates: Sequence[Candidate], inits: int, judged: Iterator[Judged]) -> list[Tried]:
    """The candidates, each with what its probes, the next `inits` ones, have shown."""
    found: list[Tried] = []
    for one in candidates:
        own = list(itertools.islice(judged, inits))
        losses = tuple(tuple(each.losses) for each in own)
        right = tuple(tuple(each.performances) for each in own)
        found.append(Tried(one, losses, right if all(right) else ()))
    return found


RISE_WEIGHT = 2
"""Factor by which a loss's rise in the last cycle is extrapolated."""


def projected(losses: Sequence[float]) -> float:
    """The loss to judge by: the last one, plus twice its rise in the last cycle.

    If overfitting grows from one cycle to the next, it will grow further in a trial, which is three
    times as long.
    """
    if len(losses) < 2 or not math.isfinite(losses[-1]):
        return losses[-1]
    return losses[-1] + RISE_WEIGHT * max(0.0, losses[-1] - losses[-2])


def gains_of(tried: Tried, constant: float) -> list[float]:
    """How far each initialisation's loss is below that of the constant prediction, as a share.

    It is at most 1, and 0 for one that diverged.
    """
    return [gain(constant, projected(losses)) for losses in tried.losses]


def gain_of(tried: Tried, constant: float) -> float:
    """The mean of `gains_of`."""
    return float(np.mean(gains_of(tried, constant)))


PERFORMANCE_WEIGHT = 0.8
"""Performance is what points are compared by, and a loss rises where predictions are merely too
certain.  But performance is coarse on a few dozen samples, so loss counts, too."""


def reached(tried: Tried, constant: float) -> float:
    """What probes as long as a trial come to, a mean over initialisations.

    That is the gain; where performance does not follow from the loss, mostly performance.  A loss
    above the constant prediction's is a loss, down to a gain of -1.
    """
    gains = float(np.mean([gain(constant, losses[-1], -1.0) for losses in tried.losses]))
    if not tried.performances:
        return gains
    right = float(np.mean([one[-1] for one in tried.performances]))
    return (1 - PERFORMANCE_WEIGHT) * gains + PERFORMANCE_WEIGHT * right


def trained_somewhere(tried: Sequence[Tried]) -> list[Tried]:
    """The candidates without the initialisations that diverge at every rate.

    Such a one says nothing about rates: its held-out samples may have no loss, say.
    """
    lasts = np.array([[losses[-1] for losses in one.losses] for one in tried])
    kept = np.flatnonzero(np.isfinite(lasts).any(axis=0))
    return [
        Tried(
            one.candidate,
            tuple(one.losses[init] for init in kept),
            tuple(one.performances[init] for init in kept if one.performances),
        )
        for one in tried
        if len(kept)
    ]


def has_diverged(tried: Tried) -> bool:
    """Whether any of its initialisations diverged."""
    return any(not math.isfinite(losses[-1]) for losses in tried.losses)


def untrained(tried: Sequence[Tried]) -> float:
    """A substitute for the constant prediction's loss: that of the lowest, hardly trained rate."""
    last = [losses[-1] for one in tried for losses in one.losses if math.isfinite(losses[-1])]
    return last[0] if last else 0.0


def best_loss(tried: Sequence[Tried]) -> float | None:
    """The least held-out loss that a candidate's probes reached, on average."""
    return min(filter(math.isfinite, map(mean_loss, tried)), default=None)


def mean_loss(tried: Tried) -> float:
    """The loss after the last cycle, a mean over initialisations."""
    return float(np.mean([losses[-1] for losses in tried.losses]))


# -- how far training comes -----------------------------------------------------------------------

OVERFIT_TOLERANCE = 0.03
"""The middle is taken of rates whose gain is within this share of the best gain: of a few dozen
held-out samples the minimum of the loss is not known better."""


def rise_of(tried: Tried, constant: float) -> float:
    """How much gain the last cycle has cost, a mean; negative where it has gained."""
    rises = [gain(constant, losses[-2]) - gain(constant, losses[-1]) for losses in tried.losses]
    return float(np.mean(rises))


def by_equivalent_rate(tried: Tried, constant: float, share: float) -> dict[float, float]:
    """The gain after each cycle, by the rate with which a whole trial comes as far.

    That is the rate times the length so far, as a share of a trial's: unless a rate is so high that
    training is unstable, how far training comes depends on this product alone.

    Args:
        tried: A candidate that has not diverged.
        constant: The loss of the best constant prediction.
        share: Length of its probes, as a share of a trial's.
    """
    cycles = len(tried.losses[0])
    gains = np.mean([[gain(constant, loss) for loss in losses] for losses in tried.losses], axis=0)
    rate = tried.candidate.rate * share
    return {rate * cycle / cycles: float(each) for cycle, each in enumerate(gains, 1)}


def stable(tried: Sequence[Tried], constant: float, share: float) -> list[Tried]:
    """The candidates of one batch size that train stably, in rising order of rates.

    An unstable one gains less than lower rates do where they come as far.
    """
    rising = sorted(
        (one for one in tried if not has_diverged(one)), key=lambda one: one.candidate.rate
    )
    gains = [by_equivalent_rate(one, constant, share) for one in rising]
    most = max((max(own.values()) for own in gains), default=0.0)
    found: list[Tried] = []
    seen: dict[float, float] = {}
    for one, own in zip(rising, gains, strict=True):
        least = {rate: seen.get(rate, 0.0) - OVERFIT_TOLERANCE * most for rate in own}
        if all(own[rate] >= least[rate] for rate in own):
            found.append(one)
            seen = own | seen
    return found
