"""A script that sweeps, as a person has one: a problem, a generator or a command.

    python -m tests.soaked KIND FOLDER SEED TRIALS [--no-models]

The driver imports neither torch nor what it sweeps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import sweeper

INTERRUPTED = 3
"""The exit code of a driver that was told to stop."""

QUICK = sweeper.HyperparameterSettings(
    method="ranges",
    lr_start=1e-3,
    lr_sweep_len=2.0,
    batch_start=4,
    batch_end=16,
    batch_pts=2,
    warmup_batch=16,
    cycle_epochs=2,
    cycles=2,
)

SCRIPT = Path(__file__).with_name("soaked_command.py")

Swept = tuple[Any, sweeper.ParamSelector, dict[str, Any]]
"""What is swept, with which selector, and the arguments that only this kind takes."""


def problem(trials: int, models: bool) -> Swept:
    points = {"kind": ["dense", "norm", "plain"], "width": [2, 4]}
    own = {"cores": 2, "hparams": QUICK, "save_models": "final" if models else "none"}
    return "tests.soaked_problem", sweeper.Grid(trials=trials, **points), own


def generator(trials: int, _models: bool) -> Swept:
    """Budgets of 6, 18 and 54 iterations; which points get more depends on results."""
    points = [{"rate": rate / 10, "values": 20_000} for rate in range(9)]
    goal = {"metric": "spread", "direction": "minimize"}
    halving = sweeper.SuccessiveHalving(
        points, min_budget=6, max_budget=54, eta=3, trials=trials, **goal
    )
    own = {"metrics": {"spread": "minimize", "place": "none"}, "total_cores": 2}
    return "tests.soaked_generator:walk", halving, own


def command(trials: int, _models: bool) -> Swept:
    argv = [sys.executable, str(SCRIPT), "--rate", "{rate}", "--seed", "{seed}"]
    grid = sweeper.Grid(trials=trials, rate=[0.1, 0.2, 0.3, 0.4])
    own = {"metrics": {"acc": "maximize"}, "total_cores": 2}
    return sweeper.Command([*argv, "--folder", "{folder}"]), grid, own


KINDS = {"problem": problem, "generator": generator, "command": command}


def main() -> int:
    kind, folder, seed, trials, *rest = sys.argv[1:]
    swept, selector, own = KINDS[kind](int(trials), not rest)
    try:
        sweeper.sweep(
            swept,
            selector,
            folder=folder,
            seed=int(seed),
            max_tries=1_000,  # a worker that is killed costs a try
            progress=False,
            **own,
        )
    except sweeper.SweepInterrupted:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
