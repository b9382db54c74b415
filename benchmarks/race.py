"""How often a race drops a point that is no worse, and how many trials it saves.

    python benchmarks/race.py [repetitions]

Ten points of made-up trials, at most 30 of each; a fixed design has 300 trials.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper import FixedSweep, Race
from sweeper.testing.selectors import results_of

POINTS, TRIALS = 10, 30
POINT_PARAMS = [(place,) for place in range(POINTS)]

Values = NDArray[np.float64]
"""Shape (POINTS, TRIALS)."""
Draw = Callable[[np.random.Generator], Values]


def normal(
    tunings: int = 1,
    between: float = 0.0,
    better: float = 0.0,
    spreads: dict[int, float] | None = None,
) -> Draw:
    """Normal trials of variance 1 within a tuning.

    `better` is by how many standard deviations of a trial one point is better than the others.
    """
    scale = np.ones(POINTS)
    for place, spread in (spreads or {}).items():
        scale[place] = spread

    def draw(rng: np.random.Generator) -> Values:
        tuned = rng.standard_normal((POINTS, tunings)) * between**0.5
        trials = rng.standard_normal((POINTS, TRIALS)) + tuned[:, np.arange(TRIALS) % tunings]
        values = trials * scale[:, None]
        values[3] += better * (1 + between) ** 0.5
        return values

    return draw


def tied(tunings: int, between: float) -> Draw:
    """Points 0 to 2 are equal, the others far worse."""
    draw_all = normal(tunings, between)

    def draw(rng: np.random.Generator) -> Values:
        values = draw_all(rng)
        values[3:] -= 8
        return values

    return draw


def accuracies(chance: float) -> Draw:
    """Accuracies on 360 samples."""
    return lambda rng: rng.binomial(360, chance, (POINTS, TRIALS)) / 360


def diverging(chance: float) -> Draw:
    """0.9 ± 0.01, and 0 where it diverged."""

    def draw(rng: np.random.Generator) -> Values:
        values = 0.9 + 0.01 * rng.standard_normal((POINTS, TRIALS))
        values[rng.random(values.shape) < chance] = 0
        return values

    return draw


def mistuned(chance: float) -> Draw:
    """0.9 ± 0.01, and 0.3 less with a tuning that went wrong; three tunings."""

    def draw(rng: np.random.Generator) -> Values:
        values = 0.9 + 0.01 * rng.standard_normal((POINTS, TRIALS))
        wrong = rng.random((POINTS, 3)) < chance
        return values - 0.3 * wrong[:, np.arange(TRIALS) % 3]

    return draw


@dataclass
class Case:
    """A row of the table."""

    name: str
    draw: Draw
    best: tuple[int, ...]
    """The points that are not worse than any."""
    tunings: int = 1


def run(race: Race, values: Values, tunings: int) -> int:
    """Run a race on these trials; how many it took."""
    race.on_begin(tunings)
    taken = dict.fromkeys(POINT_PARAMS, 0)
    while race.has_more_trials():
        asked = []
        while (answer := race.get_next_trials()) is not None:
            asked.append(answer)
        for params, trials in asked:
            part = values[params[0], taken[params] : taken[params] + trials]
            taken[params] += trials
            race.on_results(results_of(params, 0, part, part, part, part))
    return sum(taken.values())


def measure(case: Case, repetitions: int, seed: int = 0) -> tuple[float, float, float]:
    """How often one of the best was dropped, how often the best alone was left, trials taken."""
    rng = np.random.default_rng(seed)
    wrong = won = taken = 0
    best = {(place,) for place in case.best}
    for _ in range(repetitions):
        race = Race(FixedSweep.with_fixed_trials(POINT_PARAMS, 0), TRIALS)
        taken += run(race, case.draw(rng), case.tunings)
        wrong += any(out.params in best for out in race.eliminated)
        won += len(best) == 1 and set(race.left) == best
    return wrong / repetitions, won / repetitions, taken / repetitions / (POINTS * TRIALS)


ALL = tuple(range(POINTS))
FIVE_THREEFOLD = dict.fromkeys(range(5), 3.0)


def tuned(between: float) -> list[Case]:
    """Points that are tuned three times, with so much variance between tunings."""
    name = f"3 tunings, between {between:g}:"
    uneven = normal(3, between, spreads=FIVE_THREEFOLD)
    return [
        Case(f"{name} all equal", normal(3, between), ALL, 3),
        Case(f"{name} equal, five spread three times as much", uneven, ALL, 3),
        Case(f"{name} three equal, seven far worse", tied(3, between), (0, 1, 2), 3),
        Case(f"{name} one better by 2 SD", normal(3, between, 2), (3,), 3),
        Case(f"{name} one better by 1 SD", normal(3, between, 1), (3,), 3),
    ]


CASES = [
    Case("all equal", normal(), ALL),
    Case("equal, five spread three times as much", normal(spreads=FIVE_THREEFOLD), ALL),
    Case("equal, one spreads ten times as much", normal(spreads={0: 10.0}), ALL),
    Case("equal, one spreads a tenth as much", normal(spreads={0: 0.1}), ALL),
    Case("equal, accuracies near .99 of 360 samples", accuracies(0.99), ALL),
    Case("equal, 5 % of trials diverge to 0", diverging(0.05), ALL),
    Case("equal, 20 % of trials diverge to 0", diverging(0.2), ALL),
    Case("three equal, seven far worse", tied(1, 0), (0, 1, 2)),
    Case("one better by 2 SD", normal(better=2), (3,)),
    Case("one better by 1 SD", normal(better=1), (3,)),
    *tuned(0),
    *tuned(0.3),
    *tuned(1),
    Case("3 tunings, equal, 10 % of tunings go wrong", mistuned(0.1), ALL, 3),
    Case("3 tunings, equal, 30 % of tunings go wrong", mistuned(0.3), ALL, 3),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "repetitions", type=int, nargs="?", default=2000, help="a quarter where one is better"
    )
    repetitions = parser.parse_args().repetitions
    began = time.perf_counter()
    print(f"{'':62} repetitions  wrongly dropped  best won  trials of 300")
    for case in CASES:
        count = repetitions if len(case.best) > 1 else repetitions // 4
        wrong, won, taken = measure(case, count)
        shown = f"{won:9.1%}" if len(case.best) == 1 else f"{'':9}"
        print(f"{case.name:62} {count:11,} {wrong:16.1%} {shown} {taken:14.0%}", flush=True)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
