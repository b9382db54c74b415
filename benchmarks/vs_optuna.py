"""The same trials driven by Optuna, and by sweeper.

    python benchmarks/vs_optuna.py --peers PYTHON [--trials N ...] [--rounds N]

As its documentation recommends for several processes on one machine without a server: a study in a
`JournalStorage` on a file, and one process a core, each of which calls `optimize` until the study
has its trials.  `PYTHON` is an interpreter that has what `peers.txt` names.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import handwritten
from driven import CORES, compare
from recipe import Recipe

HOW = f"a study in a JournalStorage on a file, {CORES} processes"
STUDY = "trials"


def open_study(file: str) -> Any:
    """The study of this file, made where it is not there."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=STUDY,
        storage=JournalStorage(JournalFileBackend(file)),
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(),
        load_if_exists=True,
    )


def work(file: str, recipe: Recipe, trials: int) -> None:
    """What each process does."""
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    def objective(trial: Any) -> float:
        # The sweep's parameter, though there is nothing to choose.
        trial.suggest_categorical("hidden", [32])
        found = handwritten.train(recipe, trial.number)
        trial.set_user_attr("metrics", found)
        return found["perf_val"]

    counted = (TrialState.COMPLETE, TrialState.RUNNING)
    open_study(file).optimize(objective, callbacks=[MaxTrialsCallback(trials, states=counted)])


def drive(recipe: Recipe, trials: int) -> list[dict[str, float]]:
    """All trials; of those that two processes began at the end, only as many as were asked for."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        file = f"{name}/journal.log"
        study = open_study(file)
        command = [sys.executable, __file__, "--work", file, json.dumps(asdict(recipe)), trials]
        workers = [subprocess.Popen(list(map(str, command))) for _ in range(CORES)]  # noqa: S603
        codes = [worker.wait() for worker in workers]
        if any(codes):
            raise SystemExit("a worker failed")
        return [trial.user_attrs["metrics"] for trial in study.trials[:trials]]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2], Recipe(**json.loads(sys.argv[3])), int(sys.argv[4]))
    else:
        compare(__file__, __doc__, "optuna", HOW, drive)
