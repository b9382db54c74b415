"""Objectives for tests of programs."""

from __future__ import annotations

import math
import os
import random
import signal
import sqlite3
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info


def number(x):
    return x * x


def named(x, shift=0.0):
    return {"acc": 1 - x + shift, "loss": x}


def drifting(x):
    """More of `acc` and of `loss` with x, and a little noise."""
    return {"note": 1.0, "acc": x + random.random() / 10, "loss": x + random.random() / 10}


def noisy(x, shift):
    return {"acc": x + shift + random.gauss(0, 0.1)}


def threads(x):
    found = {one["num_threads"] for one in threadpool_info()}
    named = {name: int(os.environ[f"{name}_NUM_THREADS"]) for name in ("OMP", "OPENBLAS")}
    return {"loaded": found.pop() if len(found) == 1 else math.nan, **named}


def differs(x):
    return {"acc": 1.0, f"only {x}": x}


def same_name(loss):
    return {"loss": 2 * loss}


def drawn(x, trial):
    """All that is drawn from the generators that a trial is seeded with."""
    return {"seed": trial.seed, "python": random.random(), "numpy": np.random.random()}  # noqa: NPY002


def raising(x):
    if x == 2:
        raise ValueError("no good at all")
    return x


def gaps(x, trial):
    values = {"acc": 1.0, "loss": x}
    if trial.number == 1:
        values["loss"] = "far too large"
    if trial.number == 2:
        del values["loss"]
    return values


def odd(kind):
    return {
        "nothing": None,
        "text": "0.9",
        "list": [1.0],
        "empty": {},
        "taken": {"budget": 1.0},
        "no name": {"": 1.0},
    }[kind]


def exits(x):
    sys.exit(3)


def nan(x):
    return math.nan


def keyed(x, seed=0, **others):
    return {"value": x + seed + others.get("more", 0)}


def kills_itself_once(x, mark):
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def kills_its_driver(x, trial):
    """Kills the process of the variable PROGRAMS_DRIVER, if set, once it has stored outcomes."""
    if x == 2 and trial.number == 3 and "PROGRAMS_DRIVER" in os.environ:
        database = sqlite3.connect(trial.folder.parents[3] / "sweep.db")
        while database.execute("SELECT count(*) FROM outcomes").fetchone() == (0,):
            pass
        os.kill(int(os.environ["PROGRAMS_DRIVER"]), signal.SIGKILL)
    return {"acc": random.random() + x}


def writes(x, trial):
    (trial.folder / "wrote").write_text(f"{trial.number} {trial.cores} {trial.params}")
    return x


class Kind:
    pass


def by_class(kind):
    return {"is": kind is Kind}


def steps(rate, trial):
    value = 1.0
    for step in range(trial.budget or 5):
        value *= rate
        yield {"loss": value, **({"late": float(step)} if step > 1 else {})}


def endless(rate):
    while True:
        yield {"loss": rate}


def yields_nothing(rate):
    yield from ()


def stops_halfway(rate):
    yield {"loss": 1.0}
    raise RuntimeError("halfway")


def reports(rate, trial):
    for step in range(3):
        trial.report(loss=rate**step)


def as_many_as_its_number(x, trial):
    for count in range(trial.number + 1):
        yield {"count": count}


def positional(x, /):
    return x
