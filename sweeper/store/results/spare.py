"""Spare trials in a folder: those that count, and what is left of those that did not end."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence

from sweeper.disk.sealed import PART
from sweeper.records import SPARE, file_suffix
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.asked import AskedTrials, asked_trials

Released = dict[tuple[int, str], set[int]]
"""By point and stage: the numbers of trials that were released as spare ones, in any run."""


def add_spares(store: Store, asked: Sequence[AskedTrials]) -> None:
    """Let spare trials count among those that were asked for.

    Of each point and stage these are an unbroken row after the last trial that was asked for, up to
    the last that was released as a spare one: so it does not matter which of them ended early.
    """
    released = _released(store)
    if not released:
        return
    last = {(one.id, one.stage): one for one in sorted(asked, key=lambda one: one.end)}
    for (point_id, stage), numbers in released.items():
        one = last.get((point_id, stage))
        if one is not None:
            ended = _ended(store, point_id, stage)
            row = one.end
            while row in ended and row <= max(numbers):
                row += 1
            one.spares = range(one.end, row)


def remove_unfinished_spares(store: Store, paths: Paths, *, of_program: bool) -> None:
    """Remove the files of spare trials that did not end; no worker may run."""
    released = _released(store)
    if not released:
        return
    ends: dict[tuple[int, str], int] = defaultdict(int)
    for one in asked_trials(store):
        ends[one.id, one.stage] = max(ends[one.id, one.stage], one.end)
    for (point_id, stage), numbers in released.items():
        unfinished = numbers - _ended(store, point_id, stage)
        for number in unfinished:
            if number >= ends[point_id, stage]:
                _remove(store, paths, point_id, stage, number, of_program=of_program)


def _remove(
    store: Store, paths: Paths, point_id: int, stage: str, number: int, *, of_program: bool
) -> None:
    """Remove what a trial has written: no result refers to it."""
    part = f"{number}{file_suffix(stage)}{PART}"
    with contextlib.suppress(OSError):  # it only takes space
        (paths.checkpoints / store.signatures()[point_id] / part).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if of_program:
            shutil.rmtree(paths.trial(point_id, number, stage))
        else:
            paths.model(point_id, number, stage).unlink()
            paths.trial(point_id, number).rmdir()


def _released(store: Store) -> Released:
    found: Released = defaultdict(set)
    query = "SELECT point, stage, value FROM events WHERE kind = ? AND point NOT NULL"
    with store.understood():
        for point_id, stage, value in store.connection.execute(query, (SPARE,)):
            found[point_id, stage].add(int(json.loads(value)["number"]))
    return found


def _ended(store: Store, point_id: int, stage: str) -> set[int]:
    query = "SELECT number FROM outcomes WHERE point = ? AND stage = ?"
    return {row[0] for row in store.connection.execute(query, (point_id, stage))}
