"""Trials that share GPUs: how many are on a device at once, and how long the sweep takes.

Two GPUs are made up, so that this runs on any machine: `SWEEPER_DEVICES` names a file that is read
in place of what nvidia-smi prints. With real ones, leave that line out, and let the objective move
its model to `trial.devices[0]`. Here each trial only waits, as for a GPU, and notes which device it
saw, and from when to when. The notes of all trials show how many were on one device at once.

    python examples/devices.py
"""

import os
import time
from pathlib import Path

import sweeper

GPUS = """\
0, GPU-first, 20000, 24576
1, GPU-second, 20000, 24576
"""


def objective(batch, *, trial):
    """Wait for a device that takes 0.2 s; `CUDA_VISIBLE_DEVICES` has no other."""
    assert trial.devices == ("cuda:0",)  # the only one that this process sees
    seen = ("GPU-first", "GPU-second").index(os.environ["CUDA_VISIBLE_DEVICES"])
    began = time.monotonic()
    time.sleep(0.2)
    return {"device": seen, "began": began, "ended": time.monotonic(), "batch_size": batch}


def most_at_once(trials):
    """The largest number of trials that were on the same device at the same time."""
    most = 0
    for _, used in trials.groupby("device"):
        for began in used["began"]:
            most = max(most, int(((used["began"] <= began) & (began < used["ended"])).sum()))
    return most


if __name__ == "__main__":
    out = Path("out")
    out.mkdir(exist_ok=True)
    (out / "devices.csv").write_text(GPUS)
    os.environ["SWEEPER_DEVICES"] = str(out / "devices.csv")
    for devices, per_device in ((1, 1), (1, 2), (2, 1)):
        results = sweeper.sweep(
            objective,
            sweeper.Grid(trials=8, batch=[32, 64]),
            folder=out / f"devices-{devices}-{per_device}",
            devices=devices,
            per_device=per_device,
            resume=False,
            progress=False,
        )
        trials = results.to_dataframe()
        most = most_at_once(trials)
        assert most <= per_device
        seconds = trials["ended"].max() - trials["began"].min()
        print(
            f"devices={devices}, per_device={per_device}: at most {most} of {len(trials)} trials "
            f"on a device at once; {trials['device'].nunique()} in use; {seconds:.1f} s"
        )
