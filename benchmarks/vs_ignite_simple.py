"""A whole sweep, tuning and all, here and in ignite-simple 0.0.11.

    python benchmarks/vs_ignite_simple.py --ignite PYTHON [--trials N ...] [--rounds N ...]

The toy of that package's own examples (`problems/direction.py`): 2-128-4, the nonlinearity swept,
`fastest`, tuning on two cores.  `PYTHON` is an interpreter that has what `ignite_simple.txt` names;
`make bench` makes one.  Each run is a program of its own, in turn, with a folder and a compile
cache of its own.  With 50 trials the peer takes most of an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import turns

PROBLEM = "problems.direction"
HPARAMS = "fastest"
CORES = 2
TRIALS = (3, 10, 50)
ROUNDS = (3, 2, 1)
GOALS = {3: 4, 10: 8, 50: 20}
PEER_EPOCHS = 10
"""A cycle of the peer has so many epochs with this data, and one of `fastest` has 20."""
NAMES = ("Tanh", "ReLU", "PReLU")
OURS, SHORT, PEER = "sweeper", "sweeper, as short", "ignite-simple"


# -- the sweep, each way --------------------------------------------------------------------------


def run_sweeper(trials: int, folder: str, seed: int, *, short: bool) -> Any:
    """With the preset as it is, or with cycles as short as the peer's."""
    import sweeper
    from sweeper.settings import get_settings

    hparams = get_settings(HPARAMS)
    if short:
        hparams = dataclasses.replace(hparams, cycle_epochs=PEER_EPOCHS)
    selector = sweeper.FixedSweep.with_fixed_trials([(name,) for name in NAMES], trials)
    return sweeper.sweep(
        PROBLEM, selector, CORES, hparams, folder, total_cores=CORES, seed=seed, progress=False
    )


def run_ignite_simple(trials: int, folder: str) -> Any:
    """The peer takes its seeds from the clock."""
    from ignite_simple.gen_sweep.param_selectors import FixedSweep
    from ignite_simple.gen_sweep.sweeper import sweep

    selector = FixedSweep.with_fixed_trials([(name,) for name in NAMES], trials)
    return sweep(PROBLEM, selector, CORES, HPARAMS, folder)


def run_one(way: str, trials: int, seed: int) -> dict[str, list[float]]:
    """Sweep in this process: the validation performance of each trial, by point."""
    folder = str(Path.cwd() / "sweep")
    if way == PEER:
        points = run_ignite_simple(trials, folder)
    else:
        points = run_sweeper(trials, folder, seed, short=way == SHORT)
    return {params[0]: list(map(float, perf_val)) for params, *_, perf_val, _ in points}


# -- in turn --------------------------------------------------------------------------------------


def start(python: str, way: str, trials: int, seed: int) -> turns.Run:
    """The sweep in a process and a folder of its own."""
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        command = [python, here, "--one", way, "--trials", trials, "--seed", seed, "--in", name]
        path = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
        # The peer's workers are spawned anew, and find the problem only by the path.
        return turns.run(command, {turns.CACHE: f"{name}/cache", "PYTHONPATH": path})


def compare(python: str, trials: int, rounds: int) -> tuple[str, list[str]]:
    """A line of the table of times, and those of the table of what came out."""
    found = turns.in_turn(
        {
            OURS: lambda number: start(sys.executable, OURS, trials, number),
            SHORT: lambda number: start(sys.executable, SHORT, trials, number),
            PEER: lambda number: start(python, PEER, trials, number),
        },
        rounds,
    )
    whole = {way: turns.seconds(runs) for way, runs in found.items()}
    times = turns.row(
        trials,
        *(turns.spread(whole[way]) for way in (PEER, OURS, SHORT)),
        turns.spread(turns.ratios(whole[PEER], whole[OURS])),
        turns.spread(turns.ratios(whole[PEER], whole[SHORT])),
        GOALS.get(trials, ""),
    )
    return times, [performance(name, trials, found) for name in NAMES]


def performance(name: str, trials: int, found: dict[str, list[turns.Run]]) -> str:
    """A point's validation performance each way, and how much ours differs."""
    from sweeper.stats.intervals import mean_difference, mean_interval

    pooled = {
        way: [perf for run in runs for perf in run.found[name]] for way, runs in found.items()
    }
    cells = []
    for way in (PEER, OURS, SHORT):
        all_of_it = mean_interval(pooled[way])
        cells.append(f"{all_of_it.mean:.4f} ± {all_of_it.std:.4f}")
    for way in (OURS, SHORT):
        difference = mean_difference(pooled[way], pooled[PEER])
        cells.append(f"{difference.mean:+.4f} ± {difference.half_width:.4f}")
    return turns.row(trials, name, len(pooled[PEER]), *cells)


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ignite", metavar="PYTHON", help="an interpreter that has ignite-simple")
    parser.add_argument("--trials", nargs="+", type=int, default=list(TRIALS), metavar="N")
    parser.add_argument(
        "--rounds",
        nargs="+",
        type=int,
        default=list(ROUNDS),
        metavar="N",
        help="how often, for each number of trials; the last one holds for those left",
    )
    parser.add_argument("--one", choices=(OURS, SHORT, PEER), help="one sweep, in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in", dest="folder", default=".", help="where that sweep keeps its files")
    return parser.parse_args(arguments)


def main() -> None:
    """Print the tables, as Markdown."""
    options = read_options()
    if options.one:
        os.chdir(options.folder)
        print(json.dumps(run_one(options.one, options.trials[0], options.seed)))
        return
    if not options.ignite:
        raise SystemExit("--ignite is missing: an interpreter that has ignite-simple")
    print("## A whole sweep, against ignite-simple\n")
    print(
        "Its own toy, 2-128-4 on 3,721 samples, Tanh / ReLU / PReLU, `fastest`, tuning on "
        f"{CORES} cores, against ignite-simple {turns.version(options.ignite, 'ignite-simple')}. "
        "Whole programs, from start to end, imports, tuning and trials, with an empty compile "
        "cache; seconds, min / **median** / max of runs in turn, and the ratios of runs of the "
        "same round. With this data a trial of `fastest` has 80 epochs here and 40 there; *as "
        "short* has 40, too.\n"
    )
    titles = ["trials a point", PEER, OURS, SHORT]
    print(turns.head(*titles, "ratio", "ratio, as short", "goal of the ratio"))
    came = []
    rounds = options.rounds + options.rounds[-1:] * len(options.trials)
    for trials, count in zip(options.trials, rounds, strict=False):
        line, lines = compare(options.ignite, trials, count)
        print(line, flush=True)
        came += lines
    print(
        "\nValidation performance, mean ± standard deviation between trials of all rounds, and "
        "its difference to the peer with a 95 % interval (Welch's t):\n"
    )
    titles = ["trials a point", "point", "n", PEER, OURS, SHORT]
    print(turns.head(*titles, "difference", "difference, as short"))
    print("\n".join(came))


if __name__ == "__main__":
    main()
