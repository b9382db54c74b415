"""Peak learning rates in powers of two, tried in rounds of longer and longer probes: what to try.

Pure: held-out losses of probes in, the candidates of the next round or the settings out.  How and
why is told in `docs/method.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.learned import LEARNED, gain
from sweeper.train.tuning.held_out import FOLDS

SPANS: Mapping[str, tuple[int, int]] = {
    "sgd": (-10, 1),
    "asgd": (-10, 1),
    "adagrad": (-10, 1),
    "adadelta": (-7, 4),
}
"""The lowest and highest exponent of two that are tried first, by optimiser."""

ADAPTIVE = (-13, -2)
"""For an optimiser whose steps hardly depend on the size of gradients, as Adam's do."""

UNKNOWN = (-14, 2)
"""For an optimiser of the user's own."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A short training on four fifths of the training samples, judged by the rest."""

    number: int
    stream: int
    """The number of its random streams: which samples are held out, initial weights, data order.
    Candidates of one initialisation share them, so that they are compared in pairs."""
    high: float
    """The peak of the learning rate."""
    batch_size: int
    steps: int
    cycles: int = 1
    schedule: str = "triangular"
    warmup: float = 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """How long the probes of a round train."""

    share: float
    """Of a trial's epochs."""
    cycles: int
    tolerance: float
    """Candidates whose gain is within this share of the best one's cannot be told apart."""


ROUNDS = (Round(3 / 80, 1, 0.03), Round(8 / 80, 1, 0.01), Round(1 / 3, 2, 0.005))


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings that are tried."""

    rate: float
    """The peak of the learning rate."""
    batch_size: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate with the held-out losses of its probes."""

    candidate: Candidate
    losses: tuple[tuple[float, ...], ...]
    """For each initialisation the loss after each cycle; infinite where it had diverged."""


def span_of(optimizer: str) -> tuple[int, int]:
    """The exponents of two between which peak rates are tried first."""
    known = {"adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "rprop", "adafactor", "muon"}
    if optimizer in known:
        return ADAPTIVE
    return SPANS.get(optimizer, UNKNOWN)


def base_batch(n_train: int) -> int:
    """The batch size of the first rounds: a power of two, some 64 steps an epoch, 8 to 64.

    Where an epoch has few steps, a trial of a fixed number of epochs trains too little.
    """
    wanted = round(math.log2(max(1, n_train) / 64))
    size: int = 2 ** int(np.clip(wanted, 3, math.log2(LARGEST_BASE_BATCH)))
    return min(size, max(1, n_train))


def kept_samples(n_train: int) -> int:
    """How many training samples a probe trains on."""
    return n_train - max(1, n_train // FOLDS) if n_train > 1 else n_train


# -- judging --------------------------------------------------------------------------------------

WHOLE = Round(1.0, 4, ROUNDS[-1].tolerance)
"""An additional round, where the others have found nothing that learns."""

RISE_WEIGHT = 2
"""How often the rise of the last cycle is counted once more."""


def projected(losses: Sequence[float]) -> float:
    """The loss to judge by: the last, and what it rose by in the last cycle, twice more.

    A set that is overfitted from one cycle to the next will be overfitted further by a trial, which
    is three times as long.
    """
    if len(losses) < 2 or not math.isfinite(losses[-1]):
        return losses[-1]
    return losses[-1] + RISE_WEIGHT * max(0.0, losses[-1] - losses[-2])


def gain_of(tried: Tried, constant: float) -> float:
    """How far below the constant prediction's loss it came, as a share; at most 1, 0 for nothing.

    The mean over initialisations; one that diverged has gained nothing.
    """
    reached = [projected(losses) for losses in tried.losses]
    return float(np.mean([gain(constant, loss) for loss in reached]))


def has_diverged(tried: Tried) -> bool:
    """Whether any of its initialisations did."""
    return any(not math.isfinite(losses[-1]) for losses in tried.losses)


def untrained(tried: Sequence[Tried]) -> float:
    """Stands in for the constant prediction's loss: where the lowest rate has hardly trained."""
    last = [losses[-1] for one in tried for losses in one.losses if math.isfinite(losses[-1])]
    return last[0] if last else 0.0


def highest_good(tried: Sequence[Tried], constant: float, number: int) -> Tried | None:
    """The highest rate that gains as much as the best one, nearly; None where nothing learned."""
    gains = [gain_of(one, constant) for one in tried]
    best = max(gains, default=0.0)
    if best < LEARNED:
        return None
    enough = (1 - ROUNDS[number].tolerance) * best
    good = [one for one, gained in zip(tried, gains, strict=True) if gained >= enough]
    return max(good, key=lambda one: one.candidate.rate)


# -- deciding -------------------------------------------------------------------------------------

AROUND = ((-2, -1, 0, 1), (-2, -1, 0))
"""After each round but the last: the candidates of the next, in octaves from the highest good."""

MOST_LOWERINGS = 2
"""How often all rates are lowered, where all have diverged."""

LARGEST_BASE_BATCH = 64
"""The largest batch size of the first rounds."""

MARGIN = 2**-0.5
"""The rate that trials train with, relative to the highest good one."""

OTHER_BATCH_GAIN = 0.01
"""How much more another batch size than that of the first rounds must gain to be chosen."""

EDGE = 1 / 2
"""The same where the lowest rate of a last round is the best: lower ones may be better still."""


def first_rates(optimizer: str) -> list[float]:
    """The peak rates that a tuning tries first, rising."""
    low, high = span_of(optimizer)
    return [2.0**exponent for exponent in range(low, high + 1)]


def lowered(tried: Sequence[Tried]) -> list[Candidate]:
    """As many candidates below those that have all diverged."""
    octaves = len(tried)
    return [
        Candidate(one.candidate.rate * 2.0**-octaves, one.candidate.batch_size) for one in tried
    ]


def other_batch(batch_size: int, n_train: int) -> int:
    """The batch size that is tried beside it in the last round: visibly another one."""
    other = batch_size * 4 if batch_size <= LARGEST_BASE_BATCH // 2 else batch_size // 2
    return other if 1 <= other <= n_train // 4 else batch_size


def following(
    tried: Sequence[Tried], constant: float, number: int, other: int | None = None
) -> list[Candidate]:
    """The candidates after round `number`; before the last one also with an `other` batch size.

    Where nothing has learned more than a constant prediction, all that have not diverged train
    longer: a loss on a plateau says nothing about the rate.
    """
    good = highest_good(tried, constant, number)
    if good is None:
        return [one.candidate for one in tried if not has_diverged(one)] or [tried[0].candidate]
    base = good.candidate
    found = [Candidate(base.rate * 2.0**octave, base.batch_size) for octave in AROUND[number]]
    if number + 2 == len(ROUNDS) and other not in (None, base.batch_size):
        # The best rate grows with less than the square root of the batch.
        shift = 1 if other > base.batch_size else 0
        found += [Candidate(one.rate * 2.0**shift, other) for one in found[1:]]
    return found


def choose(tried: Sequence[Tried], constant: float) -> Candidate | None:
    """The settings of a tuning's trials, after a last round; None where nothing has learned."""
    sizes = dict.fromkeys(one.candidate.batch_size for one in tried)
    by_size = {size: [one for one in tried if one.candidate.batch_size == size] for size in sizes}
    # The first batch size, unless another one is clearly better: it has fewer steps, and where it
    # overfits, that shows later.
    scores = {size: _score(some, constant) for size, some in by_size.items()}
    first = next(iter(scores))
    best_size = max(scores, key=lambda size: scores[size] - OTHER_BATCH_GAIN * (size != first))
    best = by_size[best_size]
    good = highest_good(best, constant, len(ROUNDS) - 1)
    if good is None:
        return None
    lowest = min(one.candidate.rate for one in best)
    at_edge = len(best) > 1 and good.candidate.rate == lowest
    margin = EDGE if at_edge else MARGIN
    return Candidate(good.candidate.rate * margin, good.candidate.batch_size)


def everything(optimizer: str, sizes: Sequence[int]) -> list[Candidate]:
    """What is tried where the rounds have found nothing that learns, for as long as a trial."""
    return [Candidate(rate, size) for size in sizes for rate in first_rates(optimizer)]


def least_bad(tried: Sequence[Tried], constant: float) -> Candidate:
    """The candidate to go on with where nothing has learned: the one with the least loss."""
    return max(tried, key=lambda one: gain_of(one, constant)).candidate


def best_loss(tried: Sequence[Tried]) -> float | None:
    """The least held-out loss that a candidate's probes reached, on average."""
    means = [float(np.mean([losses[-1] for losses in one.losses])) for one in tried]
    finite = [mean for mean in means if math.isfinite(mean)]
    return min(finite, default=None)


def _score(tried: Sequence[Tried], constant: float) -> float:
    """The mean gain of the two best candidates: less noisy than that of the best."""
    gains = sorted((gain_of(one, constant) for one in tried), reverse=True)
    return float(np.mean(gains[:2]))


def arrays_of(tried: Sequence[Sequence[Tried]]) -> dict[str, NDArray[np.float64]]:
    """What a round came to, an entry a probe: `loss` has shape (probes, cycles)."""
    rows = [
        (t, one, losses) for t, some in enumerate(tried) for one in some for losses in one.losses
    ]
    return {
        "tuning": np.array([t for t, _, _ in rows], dtype=float),
        "lr": np.array([one.candidate.rate for _, one, _ in rows]),
        "batch_size": np.array([one.candidate.batch_size for _, one, _ in rows], dtype=float),
        "loss": np.array([losses for _, _, losses in rows]),
    }
