"""What packing the probes of tuning gains: seconds of one tuning, packed over one by one.

    python benchmarks/probes.py [--rounds N] [--problems NAME ...]

Both tune the same point of a problem of `tuning_problems/` once, on one core, in turn; what is
compared are the seconds of its ladder, as workers report them.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
import tempfile
from pathlib import Path

import sweeper
import turns
from sweeper.settings import HyperparameterSettings

PROBLEMS = ("moons_mlp", "cancer_batchnorm", "digits_mlp", "digits_cnn", "echoes_gru")


def ladder_seconds(problem: str, pack: str, seed: int) -> float:
    """Of all rounds of one tuning."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "out"
        sweeper.sweep(
            f"tuning_problems.{problem}",
            sweeper.FixedSweep.with_fixed_trials([()], 0),
            1,
            HyperparameterSettings(tunings=1),
            folder,
            total_cores=1,
            seed=seed,
            pack=pack,
            save_models="none",
            progress=False,
        )
        query = "SELECT sum(ended - started) FROM outcomes WHERE stage LIKE 'ladder%'"
        with contextlib.closing(sqlite3.connect(folder / "sweep.db")) as database:
            (seconds,) = database.execute(query).fetchone()
    return float(seconds)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--problems", nargs="+", default=PROBLEMS)
    options = parser.parse_args()
    print(
        "## Probes in packs\n\nSeconds of one tuning of a point (`fast`, one core) whose probes "
        "train in packs, and one by one; in turn.  Min / **median** / max.\n"
    )
    print(turns.head("problem", "in packs, s", "one by one, s", "times as long"))
    for problem in options.problems:
        packed, alone = [], []
        for number in range(options.rounds):
            packed.append(ladder_seconds(problem, "auto", number))
            alone.append(ladder_seconds(problem, "off", number))
            print(f"  {problem}: {packed[-1]:.1f} s, {alone[-1]:.1f} s", file=sys.stderr)
        ratio = turns.ratios(alone, packed)
        print(turns.row(problem, *map(turns.spread, (packed, alone, ratio))), flush=True)


if __name__ == "__main__":
    main()
