"""What a problem of `tuning_problems/` can reach: the best of a grid of settings.

    python benchmarks/tuning_oracle.py [PROBLEM ...]
    python benchmarks/tuning_oracle.py --refine [PROBLEM ...]
    python benchmarks/tuning_oracle.py --deep

writes `tuning_oracle.json`, which `tuning.py` measures against.  The settings are the peak rate,
how far below it cycles begin and end, and the batch size; a training is as long as a trial of a
sweep is by default.  Peak rates are sought in powers of four at first, then in powers of two around
the best, at each batch size; the best three settings are trained again from fresh seeds, which
alone count, since a mean that was picked for being the highest is too high.  `--refine` trains the
best one from more seeds where its mean is not known well; `--deep` finds what a usual setting by
hand reaches at each point of the deep space.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.code.importing import ModuleRef
from sweeper.signature import encode
from sweeper.train.data.samples import Data, HeldSet, shuffled
from sweeper.train.packs.evaluation import gather
from sweeper.train.packs.loop import keys_of
from sweeper.train.packs.members import Member, gaining, padded, shares, stack_members
from sweeper.train.packs.step import PackedStep
from sweeper.train.packs.trial import evaluation_of
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.plans.range_plan import batches_per_epoch
from sweeper.train.vectorize.optimizers import find_optimizer

HERE = Path(__file__).parent
PROBLEMS = HERE / "tuning_problems"
FOUND = HERE / "tuning_oracle.json"

SIGNATURE = "0c" * 32
CYCLES, CYCLE_EPOCHS = 4, 20
BATCHES = (8, 16, 32, 64)
SHAPES = (8, 64)
"""The peak over the rate at which a cycle begins and ends."""
CONSTANT = 1
SEEDS, FRESH = 3, 8
FINALISTS = 3
LARGE = 1200
"""With more samples to train on the smallest batch is not tried: it takes too long."""
HAND_BATCH = 32
KNOWN_WELL, MOST_SEEDS = 0.001, 32
"""A mean with a larger standard error is found anew from so many seeds."""


@dataclass(frozen=True, order=True)
class Cell:
    """A setting."""

    peak: float
    ratio: int
    batch: int


Perfs = dict[Cell, list[float]]


def names(*, held_out: bool) -> list[str]:
    """The problems that are held out, or those that are not."""
    held = (PROBLEMS / "held_out.txt").read_text().split()
    every = sorted(path.stem for path in PROBLEMS.glob("*.py") if path.stem != "data")
    return [name for name in every if (name in held) == held_out]


@dataclass(frozen=True)
class Opened:
    """A problem with its data."""

    problem: Problem
    data: Data

    @classmethod
    def named(cls, name: str) -> Opened:
        """Of `tuning_problems/`."""
        module = importlib.import_module(f"tuning_problems.{name}")
        sets = [HeldSet(*part.tensors) for part in module.dataset()]
        return cls(Problem(ModuleRef(name, module.__name__), module), Data(*sets))

    @property
    def samples(self) -> int:
        """To train on."""
        return len(self.data.train)

    @property
    def family(self) -> str:
        """Which rates its optimiser may need."""
        named = str(self.problem.optimizer(NO_PARAMS))
        return next((name for name in ("adam", "momentum") if name in named), "sgd")

    @property
    def hand(self) -> float:
        """The rate that one would try first."""
        return {"adam": 1e-3, "momentum": 0.02, "sgd": 0.2}[self.family]

    def constant(self) -> float:
        """The performance of the best constant prediction: that of a model that learned nothing."""
        train, val = self.data.train.labels, self.data.val.labels
        assert train is not None  # noqa: S101
        assert val is not None  # noqa: S101
        if self.problem.accuracy_style == "inv-loss":
            return float(1 / (1 + ((val - train.mean(0)) ** 2).mean()))
        if self.problem.accuracy_style == "classification":
            return float((val == train.mode().values).float().mean())
        combinations, counts = train.unique(dim=0, return_counts=True)
        return float((val == combinations[counts.argmax()]).all(1).float().mean())


# -- training many settings at once ---------------------------------------------------------------


def payload_of(batch: int, samples: int, params: Any = ()) -> dict[str, Any]:
    """A trial with this batch size, but for its rates."""
    size = min(batch, samples)
    steps = CYCLES * CYCLE_EPOCHS * batches_per_epoch(samples, size)
    return {"batch_size": size, "steps": steps, "params": encode(params)}


def rates(cells: Sequence[Cell], steps: int) -> np.ndarray[Any, Any]:
    """The rate of each step, shape (steps, cells): triangles, as of a trial."""
    cycle = max(2, steps // CYCLES)
    along = 1 - np.abs(np.arange(steps) % cycle / cycle - 0.5)[:, None] * 2
    high = np.array([cell.peak for cell in cells])
    low = high / [cell.ratio for cell in cells]
    found: np.ndarray[Any, Any] = low + (high - low) * along
    return found


def train(opened: Opened, cells: Iterable[Cell], seeds: Sequence[int], params: Any = ()) -> Perfs:
    """The validation performance of each setting from each seed; 0 where it diverged.

    The settings share their seeds, so that they differ in nothing else.
    """
    found: Perfs = {}
    for batch in sorted({cell.batch for cell in cells}, reverse=True):
        payload = payload_of(batch, opened.samples, params)
        wanted = [(cell, seed) for cell in cells if cell.batch == batch for seed in seeds]
        members = [
            Member.make(
                opened.problem,
                opened.data,
                Streams(0, SIGNATURE, "trial", seed),
                payload["params"],
                payload["batch_size"],
            )
            for _, seed in wanted
        ]
        rest = iter(wanted)
        for share in shares(members, max(16, gaining(members[0].trace))):
            own = [next(rest) for _ in share]
            perfs = train_pack(opened, share, [cell for cell, _ in own], payload)
            for (cell, _), perf in zip(own, perfs, strict=True):
                found.setdefault(cell, []).append(perf)
    return found


def train_pack(
    opened: Opened, members: Sequence[Member], cells: Sequence[Cell], payload: Mapping[str, Any]
) -> list[float]:
    """As `sweeper.train.packs.trial.train_pack`, but each member has rates of its own."""
    samples, size, steps = opened.data.train, payload["batch_size"], payload["steps"]
    recipe = opened.problem.recipe(members[0].model, members[0].params)
    step = PackedStep(members[0].trace, recipe, stack_members(members), samples.labels)
    evaluation = evaluation_of(opened.problem, members[0])
    streams = [member.streams for member in members]
    keys = keys_of(streams, members[0].trace, steps)
    each = rates(padded(cells), steps)
    numbers = _numbers(find_optimizer(recipe), each)
    batches = _batches(streams, samples, size)
    alive = torch.ones(step.replicas, dtype=torch.bool)
    for (x, y), key, number in zip(batches, keys, numbers, strict=False):
        alive &= step(x, y, key, number).isfinite()
        if not alive.any():
            break
    perfs = [perf for _, perf in evaluation.measure(step.state, opened.data.val)]
    return [perf if good else 0.0 for perf, good, _ in zip(perfs, alive, members, strict=False)]


def _numbers(optimizer: Any, each: np.ndarray[Any, Any]) -> Iterable[Tensor]:
    for first in range(0, len(each), 256):
        yield from optimizer.numbers_of(first + 1, each[first : first + 256]).float()


def _batches(
    streams: Sequence[Streams], samples: Any, size: int
) -> Iterable[tuple[Tensor, Tensor]]:
    generators = {one.number: one.generator("order") for one in streams}
    for _ in range(CYCLES * CYCLE_EPOCHS):
        # One generator a seed: its settings see the same batches.
        orders = {seed: shuffled(len(samples), size, own) for seed, own in generators.items()}
        places = np.stack(padded([orders[one.number] for one in streams]), axis=1)
        together = max(1, 2**16 // places[0].size)
        for first in range(0, len(places), together):
            yield from zip(*gather(samples, places[first : first + together]), strict=True)


# -- the grid -------------------------------------------------------------------------------------

COARSE = {
    "sgd": (-8, -6, -4, -2, 0, 2),
    "momentum": (-11, -9, -7, -5, -3, -1),
    "adam": (-13, -11, -9, -7, -5, -3),
}
"""Of peak rates, as powers of two."""
BEST_SO_FAR = 4
MOST_EXTENSIONS = 3


def search(opened: Opened, note: Any) -> Perfs:
    """The grid's settings that were tried, in powers of two around what is best."""
    coarse = [Cell(2.0**power, SHAPES[0], 32) for power in COARSE[opened.family]]
    found = train(opened, coarse, range(100, 102))
    top = ranked(found)[0].peak
    while top in (min(cell.peak for cell in found), max(cell.peak for cell in found)):
        further = 4.0 if top == max(cell.peak for cell in found) else 0.25
        found |= train(opened, [Cell(top * further, SHAPES[0], 32)], range(100, 102))
        if ranked(found)[0].peak == top or len(found) > 2 * len(coarse):
            break
        top = ranked(found)[0].peak
    note("coarse")
    fine: Perfs = {}
    sizes = [size for size in BATCHES if size > BATCHES[0] or opened.samples <= LARGE]
    for size in sizes:
        middle = top * 2.0 ** round(math.log2(size / 32) / 2 - 0.1)
        fine |= train(opened, _around(middle, size, (0.5, 1, 2)), range(SEEDS))
        for _ in range(MOST_EXTENSIONS):
            own = {cell: perfs for cell, perfs in fine.items() if cell.batch == size}
            best, peaks = ranked(own)[0].peak, [cell.peak for cell in own]
            if best not in (min(peaks), max(peaks)):
                break
            further = _around(best, size, (2 if best == max(peaks) else 0.5,))
            fine |= train(opened, further, range(SEEDS))
        note(f"batch {size}")
    other = {
        Cell(cell.peak * factor, SHAPES[1], cell.batch)
        for cell in ranked(fine)[:BEST_SO_FAR]
        for factor in (1, 2)
    }
    fine |= train(opened, sorted(other), range(SEEDS))
    note("other shape")
    return fine


def _around(middle: float, batch: int, factors: Sequence[float]) -> list[Cell]:
    return [Cell(middle * factor, SHAPES[0], batch) for factor in factors]


def ranked(found: Perfs) -> list[Cell]:
    """The settings, best first."""
    return sorted(found, key=lambda cell: -statistics.fmean(found[cell]))


def by_hand(opened: Opened, params: Any = (), seeds: Sequence[int] = range(200, 208)) -> Any:
    """What a rate that one would try first reaches, kept constant, or a tenth of it, and so on.

    It is one that people would keep: training gets somewhere with it.
    """
    constant, rate = opened.constant(), opened.hand
    while True:
        perfs = train(opened, [Cell(rate, CONSTANT, HAND_BATCH)], seeds, params)
        (reached,) = perfs.values()
        if statistics.fmean(reached) > 1.2 * constant or rate < 1e-4 * opened.hand:
            return {"rate": rate, "batch": HAND_BATCH, **summary(reached)}
        rate /= 10


def summary(perfs: Sequence[float]) -> dict[str, Any]:
    """Mean, standard error and deviation of trials."""
    deviation = statistics.stdev(perfs)
    return {
        "perf_val": round(statistics.fmean(perfs), 5),
        "error": round(deviation / math.sqrt(len(perfs)), 5),
        "deviation": round(deviation, 5),
        "trials": len(perfs),
    }


def oracle(name: str) -> dict[str, Any]:
    """What is kept of a problem."""
    began, opened = time.process_time(), Opened.named(name)

    def note(what: str) -> None:
        print(f"  {name}: {what}, {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)

    grid = search(opened, note)
    fresh = train(opened, ranked(grid)[:FINALISTS], range(200, 200 + FRESH))
    best = ranked(fresh)[0]
    hand = by_hand(opened)
    note("done")
    return {
        "samples": opened.samples,
        "constant": round(opened.constant(), 5),
        "hand": hand,
        "best": {"peak": best.peak, "low": best.peak / best.ratio, "batch": best.batch},
        **{f"oracle_{key}": value for key, value in summary(fresh[best]).items()},
        "finalists": [_line(cell, fresh[cell]) for cell in ranked(fresh)],
        "grid": [_line(cell, grid[cell]) for cell in sorted(grid)],
        "seconds": round(time.process_time() - began, 1),
    }


def refine(name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the best setting's mean from more seeds."""
    best = known["best"]
    cell = Cell(best["peak"], round(best["peak"] / best["low"]), best["batch"])
    (perfs,) = train(Opened.named(name), [cell], range(200, 200 + MOST_SEEDS)).values()
    return {**known, **{f"oracle_{key}": value for key, value in summary(perfs).items()}}


def deep_points() -> list[dict[str, Any]]:
    """What a usual setting by hand reaches at each point of the deep space."""
    opened = Opened.named("deep_digits")
    points = opened.problem.module.points
    return [by_hand(opened, point, range(200, 202)) for point in points]


def _line(cell: Cell, perfs: Sequence[float]) -> list[float]:
    """Peak rate, peak over low, batch size, mean."""
    return [cell.peak, cell.ratio, cell.batch, round(statistics.fmean(perfs), 5)]


def load() -> dict[str, Any]:
    """What is known, by problem."""
    found: dict[str, Any] = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    return found


def save(found: Mapping[str, Any]) -> None:
    """A line a problem and setting."""
    text = json.dumps(dict(sorted(found.items())), indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda part: f"[{' '.join(part[1].split())}]", text)
    FOUND.write_text(text + "\n")


def main() -> None:
    """Find the oracle of each problem that has none, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("problems", nargs="*", metavar="PROBLEM")
    parser.add_argument("--held-out", action="store_true", help="those that are held out, too")
    parser.add_argument("--refine", action="store_true", help="more seeds of what is best")
    parser.add_argument("--deep", action="store_true", help="by hand, at each point of deep_digits")
    options = parser.parse_args()
    os.environ.setdefault("MKL_CBWR", "AUTO")  # as in a worker
    torch.set_num_threads(1)
    if options.deep:
        found = {**load()["deep_digits"], "points": deep_points()}
        save(load() | {"deep_digits": found})
        return
    wanted = options.problems
    if options.refine:
        for name, known in load().items():
            unsure = known["oracle_error"] > KNOWN_WELL and known["oracle_trials"] < MOST_SEEDS
            if unsure and name in (wanted or load()):
                found = refine(name, known)
                save(load() | {name: found})
        return
    if not wanted:
        every = names(held_out=False) + (names(held_out=True) if options.held_out else [])
        wanted = [name for name in every if name not in load()]
    for name in wanted:
        found = oracle(name)
        save(load() | {name: found})
        if name in names(held_out=False):
            print(name, {key: found[key] for key in ("constant", "hand", "best")}, flush=True)
            print("  oracle", found["oracle_perf_val"], "±", found["oracle_error"], flush=True)


if __name__ == "__main__":
    main()
