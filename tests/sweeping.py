"""Helpers for tests that run whole sweeps."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import sweeper
from sweeper.records import METRICS
from sweeper.results import SweepResult
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from tests.blobs import QUICK

HERE = Path(__file__).parent
GRID = {"hidden": [2, 4], "dropout": [0.0, 0.5]}


def run(folder: Path, selector: Any = None, module: Any = "blobs", **options: Any) -> SweepResult:
    """A quick sweep, silent, in this process unless another backend is named."""
    options = {"cores": 2, "hparams": QUICK, "backend": "inline", **options}
    selector = selector or sweeper.Grid(trials=3, **GRID)
    return sweeper.sweep(module, selector, folder=folder, progress=False, **options)


def assert_same_bits(one: SweepResult, other: SweepResult) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left[:4] == right[:4]
        for metric in METRICS:
            assert getattr(left, metric).tobytes() == getattr(right, metric).tobytes()


def replicas_started(folder: Path) -> list[tuple[str, str, int]]:
    """Every replica that was ever handed to a worker: point, stage, number."""
    with Store.read(Paths(folder).database) as store:
        rows = store.connection.execute(
            "SELECT point, stage, value FROM events WHERE kind = 'started' ORDER BY seq"
        )
        return [
            (point, stage, number)
            for point, stage, value in rows
            for number in json.loads(value)["numbers"]
        ]


Replica = tuple[str, str, int]
"""Point, stage, number."""


def outcomes(
    folder: Path, only: Container[Replica] | None = None
) -> dict[Replica, tuple[Any, ...]]:
    """Everything measured, or `only` that of these: metrics and arrays, less times."""
    with Store.read(Paths(folder).database) as store:
        return {
            (found.point, found.stage, found.number): (
                tuple(np.float64(value).tobytes() for value in found.metrics.values()),
                found.arrays,
            )
            for found in store.outcomes()
            if only is None or (found.point, found.stage, found.number) in only
        }


def check_nothing_was_repeated(folder):
    """A replica is started again only where it had no outcome: so never after it had one."""
    connection = sqlite3.connect(folder / "sweep.db")
    finished = connection.execute("SELECT point, stage, number, ended FROM outcomes").fetchall()
    ended = {(point, stage, number): when for point, stage, number, when in finished}
    rows = connection.execute(
        "SELECT point, stage, time, json_extract(value, '$.numbers') FROM events "
        "WHERE kind = 'started' AND point NOT NULL"  # a folder without results is begun anew
    )
    for point, stage, started, numbers in rows:
        for number in json.loads(numbers):
            # An interrupted sweep has replicas that began and have not ended.
            assert started <= ended.get((point, stage, number), math.inf)


def python(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A Python process that finds the tests' modules, in a session of its own."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        **options.pop("environment", {}),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        text=True,
        start_new_session=True,
        **options,
    )


def processes_with(mark: str) -> list[psutil.Process]:
    """The processes that have `SWEEPER_TEST_MARK=mark` in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SWEEPER_TEST_MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found
