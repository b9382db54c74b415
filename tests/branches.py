"""Classes for tests of branches with one root."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from pathlib import Path

import numpy as np


class Heads:
    """Honest: `run` reads what `setup` built, and draws numbers of its own."""

    def setup(self, depth, mark=None):
        self.trunk = [random.random() for _ in range(depth)]
        self.drawn = np.random.random(3)  # noqa: NPY002
        if mark is not None:
            with Path(mark).open("a") as file:
                file.write(f"{depth}\n")

    def run(self, trial, head, depth):
        return {
            "trunk": sum(self.trunk),
            "drawn": self.drawn.sum(),
            "own": random.random(),
            "head": head * depth + trial.number,
        }


class Spoils(Heads):
    """Its `run` changes what `setup` built, deep inside."""

    def run(self, trial, head, depth):
        self.trunk.append(float(trial.number))
        self.drawn += 1
        return super().run(trial, head, depth)


class Yields(Heads):
    """`run` is a generator, and takes neither a trial nor what is shared."""

    def run(self, head, **others):
        for step in range(3):
            self.trunk.append(1.0)
            yield {"trunk": sum(self.trunk), "step": step * head, "others": len(others)}


class Uncopied(Heads):
    """What it builds cannot be copied."""

    def setup(self, depth, mark=None):
        super().setup(depth, mark)
        self.lock = threading.Lock()


class Nothing:
    def setup(self):
        self.built = 1.0

    def run(self, x):
        return self.built * x


class FailsInSetup(Heads):
    def setup(self, depth, mark=None):
        raise ValueError(f"no trunk of {depth}")


class NoRun:
    def setup(self, depth):
        pass


class SharesAll:
    def setup(self, **shared):
        pass

    def run(self, trial):
        pass


class SharesTrial:
    def setup(self, trial):
        pass

    def run(self, trial):
        pass


class Static:
    def setup(self, depth):
        pass

    @staticmethod
    def run(head):
        return head


class NeedsArguments(Heads):
    def __init__(self, size):
        self.size = size


def points():
    return [{"depth": depth, "head": head} for head in (1, 2, 3) for depth in (5, 6, 7)]


class Dies(Spoils):
    """Kills the process of the variable BRANCHES_DRIVER, if set, once it has stored outcomes."""

    def run(self, trial, head, depth):
        if (depth, head, trial.number) == (6, 2, 1) and "BRANCHES_DRIVER" in os.environ:
            database = sqlite3.connect(trial.folder.parents[3] / "sweep.db")
            while database.execute("SELECT count(*) FROM outcomes").fetchone() == (0,):
                pass
            os.kill(int(os.environ["BRANCHES_DRIVER"]), signal.SIGKILL)
        return super().run(trial, head, depth)
