"""Whether two releases come to the same bits, on one machine.

    python -m tests.same_bits before.json        # in a checkout of the one
    python -m tests.same_bits after.json before.json   # in the other: says what differs

Sweeps of every kind: presets of both methods, packs that are flat, compiled and none at all, data
that is loaded as it goes, a folder that is gone on with, and the folders kept in `tests/data`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sweeper
from tests.blobs import LADDER, QUICK

HERE = Path(__file__).parent
PROBLEMS = HERE.parent / "benchmarks" / "tuning_problems"
METRICS = ("perf_train", "loss_train", "perf_val", "loss_val")


def digests(results: Any) -> list[str]:
    """One a point: of its settings and of every metric's bits."""
    found = []
    for point in results:
        settings = repr((point.lr_min, point.lr_max, point.batch_size)).encode()
        arrays = b"".join(getattr(point, name).tobytes() for name in METRICS)
        found.append(hashlib.sha256(settings + arrays).hexdigest()[:16])
    return found


def run(
    folder: Path, module: Any, points: list[dict[str, Any]], trials: int, **options: Any
) -> Any:
    """A sweep of these points, silent."""
    selector = sweeper.FixedSweep.with_fixed_trials(points, trials)
    return sweeper.sweep(
        module, selector, options.pop("cores", 2), folder=folder, progress=False, **options
    )


def sweeps(home: Path) -> Iterator[tuple[str, Any]]:
    """Every sweep with its name."""
    digits, blobs = HERE.parent / "examples" / "digits.py", HERE / "blobs.py"
    points = [{"hidden": 3}, {"hidden": 4, "dropout": 0.5}]
    for preset in ("fastest", "fast", "slow", "slowest", "ranges-fastest", "ranges-fast"):
        yield f"blobs, {preset}", run(home / preset, blobs, points, 4, hparams=preset)
    for preset in ("fastest", "ranges-fastest"):
        given = [{"hidden": 8}, {"hidden": 16}]
        found = run(home / f"digits-{preset}", digits, given, 5, hparams=preset)
        yield f"digits, {preset}", found
    for name, hparams in (("QUICK", QUICK), ("LADDER", LADDER)):
        for pack in ("off", "auto", 3):
            folder = home / f"{name}-{pack}"
            yield f"{name}, pack={pack}", run(folder, blobs, points, 7, hparams=hparams, pack=pack)
        folder = home / f"{name}-on"
        run(folder, blobs, points[:1], 3, hparams=hparams, backend="inline")
        yield f"{name}, gone on with", run(folder, blobs, points, 9, hparams=hparams)
        wide = run(home / f"{name}-wide", blobs, points, 3, hparams=hparams, cores_per_trial=2)
        yield f"{name}, two cores a trial", wide
    for name in ("digits_cnn", "cancer_batchnorm", "digits_transformer", "echoes_gru"):
        module = PROBLEMS / f"{name}.py"
        yield name, run(home / name, f"tuning_problems.{module.stem}", [{}], 3, hparams="fastest")
    for folder in sorted((HERE / "data").glob("begun-*")):
        kept = home / folder.name
        shutil.copytree(folder, kept)
        yield folder.name, run(kept, kept / "blobs.py", points, 9, hparams=LADDER)


def main(out: str, before: str | None = None) -> int:
    """Write the digests; where others are given, say what differs."""
    sys.path[:0] = [str(HERE.parent / "examples"), str(PROBLEMS.parent)]
    found = {}
    with tempfile.TemporaryDirectory() as home:
        began = time.monotonic()
        for name, results in sweeps(Path(home)):
            found[name] = digests(results)
            sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {name}\n")
    Path(out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if before is None:
        return 0
    known = json.loads(Path(before).read_text(encoding="utf-8"))
    other = [name for name in known if known[name] != found.get(name)]
    said = "\n".join(f"differs: {name}" for name in other)
    sys.stdout.write(f"{said or f'{len(known)} sweeps: the same bits'}\n")
    return bool(other)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
