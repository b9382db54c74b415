"""A command: it computes for a tenth of a second, writes a file and prints what it came to."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

STEPS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    drawn = random.Random(options.seed)
    place, path = 0.0, []
    for step in range(STEPS):
        place += options.rate * (drawn.random() - place)
        if step % (STEPS // 10) == 0:
            path.append(place)
            print(f"step {step}: {place!r}", flush=True)  # noqa: T201 - as commands do
    options.folder.joinpath("path.json").write_text(json.dumps(path))
    print(json.dumps({"acc": place}))  # noqa: T201


if __name__ == "__main__":
    main()
