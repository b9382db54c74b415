"""The same trials driven by another package: what `vs_optuna.py` and `vs_ray_tune.py` share.

The peer runs the hand-written trial (`handwritten.py`) of 64-32-10, sweeper its own, both with what
one tuning found; each run is a program of its own, in turn, timed from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import turns
from recipe import Recipe

CASE = "64-32-10"
CORES = 2
TRIALS = (16, 64)
ROUNDS = 3

Drive = Callable[[Recipe, int], list[dict[str, float]]]
"""From the recipe and the number of trials to what each of them came to."""


def compare(program: str, doc: str, package: str, how: str, drive: Drive) -> None:
    """The peer's `main`: print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--trials", nargs="+", type=int, default=list(TRIALS), metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--recipe", metavar="JSON", help="drive the trials, in this process")
    options = parser.parse_args()
    if options.recipe:
        recipe = Recipe(**json.loads(options.recipe))
        print(json.dumps(run(drive, recipe, options.trials[0])))
        return
    found = turns.version(options.peers, package)
    if not found:
        raise SystemExit(f"{options.peers} has no {package}: see benchmarks/peers.txt")
    print(f"## Trials, against {package}\n")
    print(
        f"Trials of {CASE}, as above, on {CORES} cores: {how} ({package} {found}), each running "
        "the hand-written loop; and a sweep in a folder that has been tuned, with a warm compile "
        "cache. Whole programs, from start to end, imports and all; seconds a trial, min / "
        f"**median** / max of {options.rounds} runs of each, in turn, and the ratio in the same "
        "round. The last two columns are validation performance, mean ± standard deviation.\n"
    )
    print(turns.head("trials", f"{package}, s", "sweeper, s", "ratio", package, "sweeper"))
    import swept

    with swept.tuned(CASE) as tuned:
        given = json.dumps(asdict(tuned.recipe))
        for trials in options.trials:
            tuned.run(trials)  # what it compiles is there from now on
            command = [options.peers, program, "--recipe", given, "--trials", trials]
            runs = turns.in_turn(
                {
                    package: lambda _, command=command: turns.run(command),
                    "sweeper": lambda _, trials=trials: tuned.run(trials),
                },
                options.rounds,
            )
            each = {way: [run.seconds / trials for run in found] for way, found in runs.items()}
            cells = [turns.spread(each[way], 3) for way in runs]
            came = [swept.mean(found[0].found["perf_val"]) for found in runs.values()]
            ratios = turns.spread(turns.ratios(each[package], each["sweeper"]))
            print(turns.row(trials, *cells, ratios, *came), flush=True)


def run(drive: Drive, recipe: Recipe, trials: int) -> dict[str, Any]:
    """What the trials came to; there must be as many as asked for."""
    found = drive(recipe, trials)
    if len(found) != trials:
        raise SystemExit(f"{len(found)} of {trials} trials are there")
    return {"perf_val": [one["perf_val"] for one in found]}
