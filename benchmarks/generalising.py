"""Is what `compare(generalise=True)` says true of new samples?  Made-up sweeps of known truth.

    python benchmarks/generalising.py [--repetitions 2000] [--only TEXT]

Samples come from a population in which all points are equally accurate; on the samples of a sweep
they are not.  In how many sweeps is anything false said: of these samples alone, by pairing them,
and by the bound?  How wide are the intervals?  Where one point is better, in how many is it found?
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from sweeper.records import Metric
from sweeper.stats.comparison import Comparison, Sample
from sweeper.stats.verdict import compare_points

Right = np.ndarray
"""Which samples are right, of shape (points, trials, samples)."""

STORED = 8
"""Trials of a point that store which samples they got right."""

ACCURACY = Metric("perf_val", bounds=(0.0, 1.0))


@dataclass(frozen=True)
class Kind:
    """Sweeps of one kind."""

    name: str
    draw: Callable[[np.random.Generator, np.ndarray], Right]
    """From the tuning of each trial, shape (trials,)."""
    accuracy: float
    """Of every point in the population, unless one is `better`."""
    trials: int = 10
    tunings: int = 1
    better: bool = False
    """Whether the first point is better."""


@dataclass(frozen=True)
class Found:
    """Of all repetitions, each without other samples, by pairing, and by the bound."""

    said: np.ndarray
    """Share of sweeps in which anything was said; where one point is `better`: all that is true."""
    width: np.ndarray
    """Mean width of the intervals."""
    covered: np.ndarray
    """Share of sweeps in which the interval of what the best reached has the `accuracy`."""


def simulate(kind: Kind, repetitions: int, seed: int = 0) -> Found:
    """Draw sweeps and compare their points."""
    random = np.random.default_rng([seed, *kind.name.encode()])
    which = np.arange(kind.trials) % kind.tunings
    said, width, covered = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(repetitions):
        right = kind.draw(random, which)
        for place, found in enumerate(compared(right, which)):
            told = [row.verdict == "better" for row in found.rows]
            if kind.better:
                said[place] += all(told) and found.rows[0].first == "0"
            else:
                said[place] += any(told)
            width[place] += np.mean([np.nan_to_num(row.high - row.low) for row in found.rows])
            covered[place] += not (
                found.leader.low > kind.accuracy or found.leader.high < kind.accuracy
            )
    return Found(said / repetitions, width / repetitions, covered / repetitions)


def compared(right: Right, which: np.ndarray) -> Iterator[Comparison]:
    """On these samples; on new ones by pairing these; by the bound."""
    numbers = np.arange(len(which))
    points = [
        Sample(f"{place}", {}, own.mean(1), which, numbers, right=own[:STORED].astype(np.uint8))
        for place, own in enumerate(right)
    ]
    unknown = [replace(point, right=None) for point in points]
    n_val = right.shape[2]
    yield compare_points(points, ACCURACY, n_val=n_val)
    yield compare_points(points, ACCURACY, n_val=n_val, generalise=True)
    yield compare_points(unknown, ACCURACY, n_val=n_val, generalise=True)


# -- what trials get right ------------------------------------------------------------------------


def crossed(
    points: int,
    samples: int,
    accuracy: float,
    *,
    common: float = 3.0,
    own: float = 0.7,
    tuning: float = 0.0,
    trial: float = 0.05,
    chance: float = 0.7,
    gain: float = 0.0,
) -> Kind:
    """A trial is right about a sample whose difficulty, a sum of normal numbers, is below a level.

    Args:
        points: how many.
        samples: how many.
        accuracy: of every point.
        common: standard deviation of what is as hard for every point.
        own: of what is as hard for every trial of a point.
        tuning: of what is as hard for every trial of a tuning.
        trial: of what a trial has with every sample.
        chance: of what a trial has with one sample.
        gain: by how much the first point is better.
    """
    total = math.sqrt(common**2 + own**2 + tuning**2 + trial**2 + chance**2)
    level = float(ndtri(accuracy)) * total

    def draw(random: np.random.Generator, which: np.ndarray) -> Right:
        normal = random.standard_normal
        hard = common * normal(samples) + own * normal((points, 1, samples))
        hard = hard + tuning * normal((points, which.max() + 1, samples))[:, which]
        hard += trial * normal((points, len(which), 1))
        hard += chance * normal((points, len(which), samples))
        hard[0] -= gain
        return hard < level

    kind = f"{points} points, {accuracy} of {samples}"
    return Kind(kind, draw, accuracy, better=gain > 0)


def unlike(points: int, samples: int, accuracy: float, fixed: tuple[float, ...]) -> Kind:
    """Some errors of a point are on samples of its own, the rest by chance, anew in each trial.

    Of every `len(fixed)` points the errors on own samples are these shares.
    """

    def draw(random: np.random.Generator, which: np.ndarray) -> Right:
        right = np.empty((points, len(which), samples), dtype=bool)
        for place in range(points):
            own = (1 - accuracy) * fixed[place % len(fixed)]
            chance = random.random((len(which), samples)) < accuracy / (1 - own)
            right[place] = (random.random(samples) >= own) & chance
        return right

    name = f"{points} points, {accuracy} of {samples}, errors unlike {fixed}"
    return Kind(name, draw, accuracy)


def kinds() -> Iterator[Kind]:
    """All kinds of sweeps."""
    for points in (2, 4, 8):
        yield crossed(points, 360, 0.95)
    for accuracy, samples in ((0.97, 114), (0.99, 360), (0.9, 30), (0.95, 2000)):
        yield crossed(2, samples, accuracy)
        yield crossed(4, samples, accuracy)
    for points in (2, 4):
        own = crossed(points, 360, 0.9, common=0.5, own=3, chance=0.1)
        yield replace(own, name=f"{own.name}, own samples")
        lucky = crossed(points, 360, 0.9, common=1, own=0.3, trial=0.3, chance=3)
        yield replace(lucky, name=f"{lucky.name}, by chance")
        yield unlike(points, 114, 0.97, (0.9, 0.05))
        yield unlike(points, 360, 0.98, (0.9, 0.05))
        yield unlike(points, 360, 0.95, (0.7, 0.3))
    few = crossed(4, 360, 0.95)
    yield replace(few, name=f"{few.name}, 3 trials", trials=3)
    tuned = crossed(4, 360, 0.95, tuning=0.7)
    yield replace(tuned, name=f"{tuned.name}, 3 tunings", trials=12, tunings=3)
    for points in (2, 4):
        for gain in (0.6, 1.2):
            better = crossed(points, 360, 0.95, gain=gain)
            yield replace(better, name=f"{better.name}, one better by {gain}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--only", default="", help="kinds whose name has this text")
    arguments = parser.parse_args()
    print("on these samples, on new ones by pairing, by the bound\n")
    head = ("said, %", "width", "the best's interval, %")
    print(f"{'kind of sweep':<52}" + "".join(f"{h:<26}" for h in head))
    for kind in kinds():
        if arguments.only in kind.name:
            found = simulate(kind, arguments.repetitions)
            shown = [f"{100 * share:7.1f}" for share in found.said]
            shown += [f"{width:7.4f}" for width in found.width]
            shown += [f"{100 * share:7.1f}" for share in found.covered] * (not kind.better)
            print(f"{kind.name:<52}{' '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
