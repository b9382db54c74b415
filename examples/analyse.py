"""Load a sweep's folder and draw what came of it: `python examples/analyse.py FOLDER [PNG]`.

Left: every trial's validation performance, with each point's mean and 95 % interval.  Right: how
the validation loss fell while the trials trained.  Works while the sweep runs, too.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import sweeper
from sweeper.summary import show_params


def main(folder: str, picture: str | None = None) -> None:
    """Draw the sweep in `folder` into the file `picture`, by default `FOLDER/analysis.png`."""
    try:
        results = sweeper.load(folder)
    except sweeper.SweeperError as error:
        sys.exit(str(error))
    summary = results.summary()
    print(summary)
    if not any(len(point.perf_val) for point in results):
        sys.exit("nothing to draw: no trial has finished")
    picture = picture or str(Path(folder) / "analysis.png")
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 0.5 * len(results) + 3))
    for place, (point, numbers) in enumerate(zip(results, summary.points, strict=True)):
        jitter = np.linspace(-0.15, 0.15, len(point.perf_val))
        left.plot(point.perf_val, place + jitter, ".", color=f"C{place}", alpha=0.6)
        interval = numbers.perf_val
        ends = [[interval.mean - interval.low], [interval.high - interval.mean]]
        left.errorbar(interval.mean, place, xerr=ends, fmt="D", color=f"C{place}", capsize=4)
    left.set_yticks(range(len(results)), [show_params(point.params) for point in results])
    left.invert_yaxis()
    left.set_xlabel("validation performance (mean, 95 % interval)")
    paths = sorted(Path(folder).glob("points/*/curves.npz"), key=lambda p: int(p.parent.name))
    for place, path in enumerate(paths):
        with np.load(path) as curves:
            losses = curves["loss_val"]
            # A row of steps a trial where batch sizes of trials differ: then their numbers do, too.
            steps = np.broadcast_to(curves["step"], losses.shape)
            shares = steps / np.nanmax(steps, axis=1, keepdims=True)
            right.semilogy(shares.T, losses.T, color=f"C{place}", alpha=0.5)
            right.lines[-1].set_label(path.parent.name)
    right.set_xlabel("share of the training")
    right.set_ylabel("validation loss of each trial")
    if right.lines:
        right.legend(title="point", fontsize="small")
    plt.tight_layout()
    plt.savefig(picture, dpi=120)
    print(f"drawn into {picture}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
