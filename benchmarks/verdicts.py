"""Is what `compare` says true?  Made-up sweeps of which the truth is known, compared many times.

    python benchmarks/verdicts.py [--repetitions 2000] [--only TEXT]

Of sweeps of equal points: in how many anything false was said (by the best, for all pairs), and how
often the interval of what the best reached, and that of a point, have the true mean in them.  Of
sweeps where one point is better by two standard deviations of a trial: in how many it was found,
that is, told to be better than every other.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sweeper.stats.compare import compare_all, compare_leader
from sweeper.stats.components import estimate_means
from sweeper.stats.intervals import keep_within, mean_interval
from sweeper.stats.selection import best_interval

Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
"""Noise of shape (points, trials), given the tuning of each trial, shape (trials,)."""


@dataclass(frozen=True)
class Scenario:
    """Sweeps of one kind."""

    name: str
    points: int
    tunings: int
    trials: int
    draw: Draw
    mean: float = 0.0
    """The true mean of what `draw` draws."""
    gain: float = 0.0
    """By how much the first point is better."""
    bounded: bool = False


@dataclass
class Found:
    """Of all repetitions."""

    said: float
    """Anything false, by the best; with a `gain`: anything false of the others, or of the first."""
    said_of_all: float
    found: float
    best_covered: float
    covered: float
    """Of the intervals of single points, 95 % each."""
    clear: float
    """Of the intervals of differences, how often all of a sweep have the true ones in them."""


def simulate(scenario: Scenario, repetitions: int, seed: int = 0) -> Found:
    """Draw sweeps and compare their points."""
    random = np.random.default_rng([seed, *scenario.name.encode()])
    which = np.arange(scenario.trials) % scenario.tunings
    truth = np.full(scenario.points, scenario.mean)
    truth[0] += scenario.gain
    bounds = (0.0, 1.0) if scenario.bounded else None
    counts = np.zeros(6)
    for _ in range(repetitions):
        values = scenario.draw(random, which)
        values[0] += scenario.gain
        means = estimate_means(list(values), [which] * scenario.points)
        leader = max(range(scenario.points), key=lambda at: means[at].mean)
        pairs = compare_leader(means, leader)
        everything = compare_all(means)
        better = [truth[pair.first] > truth[pair.second] for pair in pairs]
        counts[0] += any(
            pair.verdict and not (right and pair.verdict == 1)
            for pair, right in zip(pairs, better, strict=True)
        )
        counts[1] += any(
            pair.verdict and not truth[pair.first] > truth[pair.second] for pair in everything
        )
        told = sum(pair.verdict == 1 for pair in pairs)
        counts[2] += leader == 0 and told == scenario.points - 1
        low, high = best_interval(means[leader], len(pairs) - told)
        seen = means[leader].mean
        low, high = keep_within(seen, seen - low, high - seen, bounds)
        counts[3] += low <= truth[leader] <= high
        one = (
            means[0].interval(bounds=bounds)
            if scenario.tunings > 1
            else mean_interval(values[0], bounds=bounds)
        )
        counts[4] += one.low <= truth[0] <= one.high
        counts[5] += all(
            not pair.low > truth[pair.first] - truth[pair.second]
            and not pair.high < truth[pair.first] - truth[pair.second]
            for pair in pairs
        )
    return Found(*(counts / repetitions).tolist())


# -- what trials come to --------------------------------------------------------------------------


def normal(points: int, ratio: float = 0.0, spreads: tuple[float, ...] = ()) -> Draw:
    """Variance 1 within tunings, `ratio` between; all of it times `spreads` of the first points."""
    scale = np.ones(points)
    scale[: len(spreads)] = spreads

    def draw(random: np.random.Generator, which: np.ndarray) -> np.ndarray:
        luck = random.standard_normal((points, which.max() + 1)) * math.sqrt(ratio)
        noise = random.standard_normal((points, len(which)))
        return scale[:, None] * (noise + luck[:, which])

    return draw


def wild(points: int, ratio: float, spreads: tuple[float, ...]) -> Draw:
    """As `normal`, but that only what varies between tunings is times `spreads`."""
    scale = np.ones(points)
    scale[: len(spreads)] = spreads

    def draw(random: np.random.Generator, which: np.ndarray) -> np.ndarray:
        luck = random.standard_normal((points, which.max() + 1)) * math.sqrt(ratio)
        return random.standard_normal((points, len(which))) + (scale[:, None] * luck)[:, which]

    return draw


def accuracies(points: int, mean: float, samples: int) -> Draw:
    """Shares of `samples` samples."""

    def draw(random: np.random.Generator, which: np.ndarray) -> np.ndarray:
        return random.binomial(samples, mean, (points, len(which))) / samples

    return draw


def stuck(points: int, share: float, low: float, *, tunings: bool = False) -> Draw:
    """.97, but for a `share` of the trials, or of the tunings, that end at `low`."""

    def draw(random: np.random.Generator, which: np.ndarray) -> np.ndarray:
        if tunings:
            bad = (random.random((points, which.max() + 1)) < share)[:, which]
        else:
            bad = random.random((points, len(which))) < share
        noise = 0.005 * random.standard_normal((points, len(which)))
        return np.where(bad, low, 0.97 + np.clip(noise, -0.025, 0.025))

    return draw


def scenarios() -> Iterator[Scenario]:
    """All kinds of sweeps: of equal points, tuned once or more often, and with a better one."""
    yield from _tuned_once()
    yield from _tuned_often()
    for tunings, trials in ((1, 6), (1, 12), (2, 12), (3, 6), (3, 12), (3, 15), (3, 30), (4, 12)):
        ratio = 0.3 if tunings > 1 else 0
        gain = 2 * math.sqrt(1 + ratio)
        draw = normal(4, ratio)
        yield Scenario("one better by two deviations", 4, tunings, trials, draw, gain=gain)
    gain = 2 * math.sqrt(1.3)
    yield Scenario("one of 8 better by two deviations", 8, 3, 12, normal(8, 0.3), gain=gain)


def _tuned_once() -> Iterator[Scenario]:
    for points in (2, 4, 8, 20):
        yield Scenario(f"normal, {points} points", points, 1, 12, normal(points))
    for trials in (2, 3, 6, 30):
        yield Scenario(f"normal, {trials} trials", 4, 1, trials, normal(4))
    yield Scenario("one of 4 spreads 4 times as far", 4, 1, 12, normal(4, 0, (4,)))
    yield Scenario("half of 8 spread 4 times as far", 8, 1, 12, normal(8, 0, (4,) * 4))
    for mean, samples in ((0.99, 360), (0.95, 100)):
        draw = accuracies(4, mean, samples)
        yield Scenario(f"accuracy {mean} of {samples}", 4, 1, 12, draw, mean, bounded=True)
    for name, low in (("stuck", 0.1), ("diverged", 0.0)):
        for share in (0.05, 1 / 6, 0.5):
            mean = 0.97 - share * (0.97 - low)
            draw = stuck(4, share, low)
            yield Scenario(f"{name}, {share:.0%} of trials", 4, 1, 12, draw, mean, bounded=True)


def _tuned_often() -> Iterator[Scenario]:
    for tunings, trials in ((2, 6), (2, 12), (3, 3), (3, 6), (3, 8), (3, 30), (4, 12)):
        yield Scenario("tuned, between .3 of within", 4, tunings, trials, normal(4, 0.3))
    for ratio in (0, 0.1, 0.3, 1, 4):
        yield Scenario(f"tuned, between {ratio} of within", 4, 3, 12, normal(4, ratio))
    for points in (2, 8, 20):
        yield Scenario("tuned, between .3 of within", points, 3, 12, normal(points, 0.3))
    for points in (2, 4, 8):
        half = (4.0,) * (points // 2)
        yield Scenario("tuned, one spreads 4 times as far", points, 3, 12, normal(points, 1, (4,)))
        yield Scenario("tuned, half spread 4 times as far", points, 3, 12, normal(points, 1, half))
    for points in (2, 4, 8):
        draw = wild(points, 1, (4,))
        yield Scenario("tuned, one tunes 4 times as wildly", points, 3, 12, draw)
    for share in (0.05, 0.15, 0.5):
        mean = 0.97 - share * 0.5
        draw = stuck(4, share, 0.47, tunings=True)
        yield Scenario(f"tuned, {share:.0%} of tunings bad", 4, 3, 12, draw, mean, bounded=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--only", default="", help="kinds whose name has this text")
    arguments = parser.parse_args()
    began = time.monotonic()
    print(f"{arguments.repetitions} sweeps of each kind; all figures in %\n")
    head = ("false said", "all pairs", "intervals", "best", "point", "found")
    print(f"{'kind of sweep':<40} points tunings trials  {' '.join(f'{h:>10}' for h in head)}")
    for one in scenarios():
        if arguments.only not in one.name:
            continue
        found = simulate(one, arguments.repetitions)
        shares = [found.said, found.said_of_all, found.clear, found.best_covered, found.covered]
        cells = [f"{100 * share:10.1f}" for share in shares]
        cells.append(f"{100 * found.found:10.1f}" if one.gain else " " * 10)
        sizes = f"{one.points:6} {one.tunings:7} {one.trials:6}"
        print(f"{one.name:<40} {sizes}  {' '.join(cells)}", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
