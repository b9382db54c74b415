"""The ladder: peak learning rates in powers of two, tried in rounds of longer and longer probes.

Pure: from held-out losses of probes to the next round's candidates or the final settings.  The
method is described in `docs/method.md`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sweeper.stats.learned import LEARNED
from sweeper.train.tuning.held_out import FOLDS
from sweeper.train.tuning.tried import (
    OVERFIT_TOLERANCE,
    Candidate,
    Tried,
    by_equivalent_rate,
    gain_of,
    has_diverged,
    mean_loss,
    reached,
    rise_of,
    stable,
    trained_somewhere,
)

SPANS: Mapping[str, tuple[int, int]] = {
    "sgd": (-10, 1),
    "asgd": (-10, 1),
    "adagrad": (-10, 1),
    "adadelta": (-7, 4),
}
"""Lowest and highest exponent of two tried first, by optimiser."""

ADAPTIVE = (-13, -2)
"""For optimisers like Adam, whose steps hardly depend on the size of gradients."""

UNKNOWN = (-14, 2)
"""For a user's own optimiser."""


STREAMS = 100_000
"""Stream numbers reserved for each tuning in a round of probes."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A short training on four fifths of the training samples, judged by the rest."""

    number: int
    stream: int
    """Number of its random streams (held-out samples, initial weights, data order).  Candidates of
    one initialisation share it, so that they are compared in pairs."""
    high: float
    """The peak of the learning rate."""
    batch_size: int
    steps: int
    cycles: int = 1
    schedule: str = "triangular"
    warmup: float = 0.0
    options: Mapping[str, float] = field(default_factory=dict)
    """Options of the optimizer that are tuned."""


@dataclass(frozen=True, slots=True)
class Round:
    """Length and tolerance of a round."""

    share: float
    """Length of its probes, as a share of a trial's epochs."""
    cycles: int
    tolerance: float
    """Candidates whose gain is within this share of the best gain count as equal."""


ROUNDS = (Round(3 / 80, 1, 0.03), Round(8 / 80, 1, 0.01), Round(1 / 3, 2, 0.005))


def span_of(optimizer: str) -> tuple[int, int]:
    """Lowest and highest exponent of two of the peak rates tried first."""
    known = {"adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "rprop", "adafactor", "muon"}
    if optimizer in known:
        return ADAPTIVE
    return SPANS.get(optimizer, UNKNOWN)


def base_batch(n_train: int) -> int:
    """The batch size of the first rounds: a power of two from 8 to 64, for some 64 steps an epoch.

    With few steps per epoch, a trial of a fixed number of epochs would train too little.
    """
    wanted = round(math.log2(max(1, n_train) / 64))
    size: int = 2 ** int(np.clip(wanted, 3, math.log2(LARGEST_BASE_BATCH)))
    return min(size, max(1, n_train))


def kept_samples(n_train: int) -> int:
    """The number of training samples that a probe trains on."""
    return n_train - max(1, n_train // FOLDS) if n_train > 1 else n_train


# -- judging --------------------------------------------------------------------------------------

WHOLE = Round(1.0, 4, ROUNDS[-1].tolerance)
"""An additional round, if the others have found nothing that learns, and the full-length one."""

FULL_LENGTH = len(ROUNDS) + 1
"""Number of the full-length round, if there is one; the one before it is the additional one."""


def below_collapse(tried: Sequence[Tried], constant: float) -> list[Tried]:
    """The candidates of one batch size below the rate at which training collapses, if it does.

    It does where a rate loses more than half of what lower ones gain.  What a higher one gains is
    luck: of a few held-out samples, a model that has blown up may get all right.
    """
    found: list[Tried] = []
    most = 0.0
    for one in sorted(tried, key=lambda one: one.candidate.rate):
        gained = gain_of(one, constant)
        if most >= LITTLE and gained < most / 2:
            break
        most = max(most, gained)
        found.append(one)
    return found


def highest_good(tried: Sequence[Tried], constant: float, number: int) -> Tried | None:
    """The highest rate whose gain is close to the best one; None if nothing learned."""
    tried = below_collapse(tried, constant)
    gains = [gain_of(one, constant) for one in tried]
    best = max(gains, default=0.0)
    if best < LEARNED:
        return None
    enough = (1 - ROUNDS[number].tolerance) * best
    good = [one for one, gained in zip(tried, gains, strict=True) if gained >= enough]
    return max(good, key=lambda one: one.candidate.rate)


# -- deciding -------------------------------------------------------------------------------------

AROUND = ((-2, -1, 0, 1), (-2, -1, 0))
"""After each round but the last: the next candidates, in octaves from the highest good rate."""

MOST_LOWERINGS = 2
"""How often all rates are lowered if all have diverged."""

LARGEST_BASE_BATCH = 64
"""The largest batch size of the first rounds."""

MARGIN = 2**-0.5
"""The rate of trials, relative to the highest good one."""

OTHER_BATCH_GAIN = 0.01
"""By how much the gain must be better for another batch size than the first to be chosen."""

EDGE = 1 / 2
"""The rate of trials, relative to the lowest of the third round, if that is the best: lower rates
may be better still."""

OVERFIT_RISE = 0.01
"""A set overfits if the last cycle costs candidates more than this gain on average."""

LITTLE, STEEP = 0.5, 1.1
"""Rates are too low where the highest gains less than this, and this many times what the rate below
it gains."""

FURTHER = (-1, 0, 1, 2, 3)
"""The candidates tried then, in octaves from the highest."""

MOST_CLIMBS = 2
"""How often there is another third round."""

APART = (0, -3, 2, 3)
"""The candidates of the full-length round, in octaves from the rate that was found; of equal ones
the first is taken.  Neighbouring octaves differ by less than a few initialisations show."""

LATER = 2**0.5
"""A trial trains on a quarter more samples than a probe, so it overfits later, at this many times
the rate."""


def round_of(number: int) -> Round:
    """The round of this number; after the third one those that are as long as a trial."""
    return ROUNDS[number] if number < len(ROUNDS) else WHOLE


def first_rates(optimizer: str) -> list[float]:
    """The peak rates that a tuning tries first, in rising order."""
    low, high = span_of(optimizer)
    return [2.0**exponent for exponent in range(low, high + 1)]


def lowered(tried: Sequence[Tried]) -> list[Candidate]:
    """The same number of candidates below those that have all diverged."""
    octaves = len(tried)
    return [
        Candidate(one.candidate.rate * 2.0**-octaves, one.candidate.batch_size) for one in tried
    ]


def other_batch(batch_size: int, n_train: int) -> int:
    """The other batch size of the third round: clearly different from the first."""
    other = batch_size * 4 if batch_size <= LARGEST_BASE_BATCH // 2 else batch_size // 2
    return other if 1 <= other <= n_train // 4 else batch_size


def following(
    tried: Sequence[Tried], constant: float, number: int, other: int | None = None
) -> list[Candidate]:
    """The candidates after round `number`; for the third round also with an `other` batch size.

    If nothing has learned more than a constant prediction, all that have not diverged train longer:
    a loss on a plateau says nothing about the rate.
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


def higher(tried: Sequence[Tried], constant: float) -> list[Candidate]:
    """Candidates for another third round, where the rates of this one are too low; else none.

    So it is where little is gained, all losses still fall, and the highest rate gains far more than
    the one below it: early rounds have seen a plateau, on which low rates look no worse than high.
    """
    best = sorted(of_best_size(tried, constant), key=lambda one: one.candidate.rate)
    if len(best) < 2:
        return []
    below, top = (gain_of(one, constant) for one in best[-2:])
    probes = [losses for one in best for losses in one.losses]
    falls = all(losses[-1] < min(losses[-2:-1], default=math.inf) for losses in probes)
    if not LEARNED <= top < LITTLE or top <= STEEP * below or not falls:
        return []
    base = best[-1].candidate
    return [Candidate(base.rate * 2.0**octave, base.batch_size) for octave in FURTHER]


def choose(
    tried: Sequence[Tried], constant: float, shares: Mapping[int, float]
) -> Candidate | None:
    """The settings of a tuning's trials after the third round; None if nothing has learned.

    Args:
        tried: All candidates of the round.
        constant: The loss of the best constant prediction.
        shares: By batch size: length of the round's probes, as a share of a trial's.
    """
    best = of_best_size(tried, constant)
    good = highest_good(best, constant, len(ROUNDS) - 1)
    if good is None:
        return None
    lowest = min(one.candidate.rate for one in best)
    at_edge = len(best) > 1 and good.candidate.rate == lowest
    rate = good.candidate.rate * (EDGE if at_edge else MARGIN)
    share = shares[good.candidate.batch_size]
    if share < 1:  # else the probes themselves show how trials end
        rate = min(rate, before_overfitting(tried, best, constant, share))
    return Candidate(rate, good.candidate.batch_size)


def full_length(chosen: Candidate) -> list[Candidate]:
    """The candidates of a tuning's full-length round."""
    return [replace(chosen, rate=chosen.rate * 2.0**octave) for octave in APART]


def best_at_full_length(tried: Sequence[Tried], constant: float) -> Candidate:
    """The settings of a tuning's trials after the full-length round.

    If each has diverged from some initialisation, the lowest rate.
    """
    trained = [one for one in trained_somewhere(tried) if not has_diverged(one)]
    if not trained:
        return min((one.candidate for one in tried), key=lambda one: one.rate)
    return max(trained, key=lambda one: (reached(one, constant), -mean_loss(one))).candidate


def before_overfitting(
    tried: Sequence[Tried], best: Sequence[Tried], constant: float, share: float
) -> float:
    """The rate above which a trial overfits; infinite where the probes do not.

    Early stopping regularises by the rate times the length of training (I. Goodfellow, Y. Bengio
    and A. Courville, *Deep Learning*, 2016, section 7.8).  So where a probe overfits, a trial at
    its rate, which is longer, overfits further, and one that is to come as far has a lower rate.

    Args:
        tried: All candidates of the round.
        best: Those of the batch size that trials have.
        constant: The loss of the best constant prediction.
        share: Length of the round's probes, as a share of a trial's.
    """
    own, others = (
        stable([one for one in tried if (one in best) is of_best], constant, share)
        for of_best in (True, False)
    )
    if not own or len(own[0].losses[0]) == 1:  # what a loss does from cycle to cycle is not known
        return math.inf
    found: dict[float, list[float]] = defaultdict(list)
    for one in own:
        for rate, gained in by_equivalent_rate(one, constant, share).items():
            found[rate].append(gained)
    gains = {rate: float(np.mean(each)) for rate, each in found.items()}
    most = max(gains, key=gains.__getitem__)
    beyond = [one for one in own if one.candidate.rate * share > most]
    if not any(_rises(some, constant) for some in (beyond, own + others)):
        return math.inf
    enough = (1 - OVERFIT_TOLERANCE) * gains[most]
    near = [math.log2(rate) for rate, gained in gains.items() if gained >= enough]
    return LATER * float(2.0 ** np.mean(near))


def _rises(tried: Sequence[Tried], constant: float) -> bool:
    """Whether the loss of these candidates rises in the last cycle, on average."""
    rises = [rise_of(one, constant) for one in tried]
    return bool(rises) and float(np.mean(rises)) > OVERFIT_RISE


def of_best_size(tried: Sequence[Tried], constant: float) -> list[Tried]:
    """The candidates of the batch size that trials have."""
    sizes = dict.fromkeys(one.candidate.batch_size for one in tried)
    by_size = {size: [one for one in tried if one.candidate.batch_size == size] for size in sizes}
    # The first batch size, unless the other one is clearly better: it has fewer steps, and its
    # overfitting shows later.
    scores = {size: _score(some, constant) for size, some in by_size.items()}
    first = next(iter(scores))
    best_size = max(scores, key=lambda size: scores[size] - OTHER_BATCH_GAIN * (size != first))
    return by_size[best_size]


def everything(optimizer: str, sizes: Sequence[int]) -> list[Candidate]:
    """Candidates for an additional round as long as a trial, if nothing has learned."""
    return [Candidate(rate, size) for size in sizes for rate in first_rates(optimizer)]


def least_bad(tried: Sequence[Tried], constant: float) -> Candidate:
    """The candidate to go on with if nothing has learned: the one with the least loss."""
    return max(tried, key=lambda one: (gain_of(one, constant), -mean_loss(one))).candidate


def _score(tried: Sequence[Tried], constant: float) -> float:
    """The mean gain of the two best candidates: less noisy than that of the best."""
    gains = sorted((gain_of(one, constant) for one in tried), reverse=True)
    return float(np.mean(gains[:2]))


def arrays_of(tried: Sequence[Sequence[Tried]]) -> dict[str, NDArray[np.float64]]:
    """The results of a round, one entry per probe: `loss` has shape (probes, cycles).

    So has `performance`, if it was measured of all.
    """
    rows = [
        (t, one, losses) for t, some in enumerate(tried) for one in some for losses in one.losses
    ]
    performances = [each for some in tried for one in some for each in one.performances]
    found = {
        "tuning": np.array([t for t, _, _ in rows], dtype=float),
        "lr": np.array([one.candidate.rate for _, one, _ in rows]),
        "batch_size": np.array([one.candidate.batch_size for _, one, _ in rows], dtype=float),
        "loss": np.array([losses for _, _, losses in rows]),
    }
    if len(performances) == len(rows):
        found["performance"] = np.array(performances)
    return found
