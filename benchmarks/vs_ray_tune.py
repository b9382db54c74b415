"""The same trials driven by Ray Tune, and by sweeper.

    python benchmarks/vs_ray_tune.py --peers PYTHON [--trials N ...] [--rounds N]

As its documentation recommends: a function that reports once at its end, one CPU each, on a local
cluster of two CPUs; actors are used again, which is not its default and saves it a process a trial.
`PYTHON` is an interpreter that has what `peers.txt` names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import handwritten
from driven import CORES, compare
from recipe import Recipe

HOW = f"a function trainable, one CPU each of {CORES}, actors used again"


def drive(recipe: Recipe, trials: int) -> list[dict[str, float]]:
    """All trials of a grid over their seeds."""
    import ray
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        tune.report(handwritten.train(recipe, config["seed"]))

    # Workers import what the function names from here.
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        runtime_env=environment,
    )
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(metric="perf_val", mode="max", reuse_actors=True),
            run_config=tune.RunConfig(storage_path=name, verbose=0),
        )
        results = tuner.fit()
        ray.shutdown()
        if results.errors:
            raise results.errors[0]
        return [dict(result.metrics) for result in results]


if __name__ == "__main__":
    compare(__file__, __doc__, "ray", HOW, drive)
