"""Trials of a fixed recipe by sweeper: a folder whose tuning is done, gone on with.

    python benchmarks/swept.py ASKED

is the program that the comparisons run: what it is asked, and what it prints, is JSON.  What is
timed is `sweep()` asked for trials in such a folder: opening it, starting workers,
training, every outcome durable, and collating.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import turns
from recipe import Recipe

CORES = 2
BATCH = 32

CASES = {
    "64-32-10": ("problems.mlp", 20),
    "784-128-10": ("problems.wide", 10),
    "small CNN": ("problems.cnn", 10),
    "transformer block": ("problems.transformer", 5),
}
"""By title: the problem, and how many epochs a cycle has; a trial has four cycles."""


@dataclass(frozen=True)
class Asked:
    """What a run is told."""

    case: str
    folder: str
    trials: int
    keep: bool = False
    """Record curves and keep models, as a sweep does that is not told otherwise."""


def sweep(asked: Asked) -> dict[str, Any]:
    """Tune where that is not done yet, then train; the recipe, and what came of the trials."""
    import sweeper

    problem, cycle_epochs = CASES[asked.case]
    hparams = sweeper.HyperparameterSettings(
        method="ranges",
        lr_sweep_len=4.0,
        batch_start=BATCH,
        batch_end=BATCH + 1,
        batch_pts=0,
        batch_pt_min_inits=0,
        cycle_epochs=cycle_epochs,
    )
    kept: dict[str, Any] = {} if asked.keep else {"curve_samples": 0, "save_models": "none"}
    selector = sweeper.FixedSweep.with_fixed_trials([()], asked.trials)
    (point,) = sweeper.sweep(
        problem,
        selector,
        CORES,
        hparams,
        asked.folder,
        total_cores=CORES,
        progress=False,
        **kept,
    )
    recipe = Recipe(
        problem, point.lr_min, point.lr_max, point.batch_size, cycle_epochs, hparams.cycles
    )
    final = json.loads((Path(asked.folder) / "points" / "0" / "hparams" / "final.json").read_text())
    return {
        "recipe": asdict(recipe),
        "way": final["way"],
        "because": final["way_because"],
        "perf_val": list(point.perf_val),
        "between": between(asked.folder),
    }


def between(folder: str) -> float:
    """Seconds from the first trial's start to the last one's end."""
    with contextlib.closing(sqlite3.connect(Path(folder) / "sweep.db")) as database:
        (seconds,) = database.execute(
            "SELECT max(ended) - min(started) FROM outcomes WHERE stage = 'trial'"
        ).fetchone()
    return seconds or 0.0


class Tuned:
    """A case whose tuning is done, and runs that go on from there.

    Args:
        case: one of `CASES`.
        home: a folder for all that this makes.
    """

    def __init__(self, case: str, home: Path) -> None:
        self._case, self._home = case, home
        self._warm = home / "warm"
        self._tuned = {
            keep: self._tune(home / f"tuned-{keep}", keep=keep) for keep in (False, True)
        }
        self.found = self._tuned[False].found
        self.recipe = Recipe(**self.found["recipe"])

    def run(self, trials: int, *, keep: bool = False, cold: bool = False) -> turns.Run:
        """So many trials; with `cold`, nothing that is compiled is there yet."""
        with tempfile.TemporaryDirectory(dir=self._home) as name:
            folder = Path(name) / "sweep"
            shutil.copytree(self._home / f"tuned-{keep}", folder)
            cache = Path(name) / "cache" if cold else self._warm
            return self._start(Asked(self._case, str(folder), trials, keep), cache)

    def _tune(self, folder: Path, *, keep: bool) -> turns.Run:
        return self._start(Asked(self._case, str(folder), 0, keep), self._warm)

    def _start(self, asked: Asked, cache: Path) -> turns.Run:
        command = [sys.executable, __file__, json.dumps(asdict(asked))]
        return turns.run(command, {turns.CACHE: str(cache)})


@contextlib.contextmanager
def tuned(case: str) -> Iterator[Tuned]:
    """See `Tuned`; all that it makes is gone at the end."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        yield Tuned(case, Path(name))


def mean(values: list[float]) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    print(json.dumps(sweep(Asked(**json.loads(sys.argv[1])))))
