"""Draws what a point's tuning saw: python benchmarks/ladder_picture.py PICTURE FOLDER [FOLDER …].

A row a folder of a sweep, of its first point; a column a round of the ladder.  Each line is a
tuning's held-out loss over the peak rate, solid at the batch size of the first rounds and dashed at
the other; a cross is the rate that its trials train with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROUNDS = ("ladder.npz", "ladder.1.npz", "ladder.2.npz")
TITLES = ("round 0: 3/80 of a trial", "round 1: 8/80", "round 2: 1/3, two cycles")


def main(picture: str, *folders: str) -> None:
    """Draw the sweeps in `folders` into the file `picture`."""
    size = (4 * len(ROUNDS), 3 * len(folders))
    _, axes = plt.subplots(len(folders), len(ROUNDS), figsize=size, squeeze=False)
    for row, folder in zip(axes, map(Path, folders), strict=True):
        hparams = folder / "points" / "0" / "hparams"
        final = json.loads((hparams / "final.json").read_text())
        decided = json.loads((hparams / "misc.json").read_text())["steps"]
        constant = next(
            step["choice"]["constant"] for step in decided if "constant" in step["choice"]
        )
        row[0].set_ylabel(f"{folder.parent.name}\nheld-out loss")
        for axis, name, title in zip(row, ROUNDS, TITLES, strict=True):
            with np.load(hparams / name) as kept:
                tried = dict(kept)
            axis.axhline(constant, color="0.7", linestyle=":")
            first = tried["batch_size"][0]
            for tuning in np.unique(tried["tuning"]):
                for size in np.unique(tried["batch_size"]):
                    own = (tried["tuning"] == tuning) & (tried["batch_size"] == size)
                    style = "o-" if size == first else "s--"
                    loss = tried["loss"][own, -1]
                    axis.plot(tried["lr"][own], loss, style, color=f"C{int(tuning)}", markersize=3)
            axis.set_xscale("log", base=2)
            axis.set_ylim(0, 1.15 * constant)
            axis.set_title(title, fontsize="medium")
        for tuning, found in enumerate(final["tunings"]):
            row[-1].plot(found["lr_end"], 0.03 * constant, "x", color=f"C{tuning}", clip_on=False)
    for axis in axes[-1]:
        axis.set_xlabel("peak learning rate")
    plt.tight_layout()
    plt.savefig(picture, dpi=90)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
