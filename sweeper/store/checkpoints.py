"""Checkpoints in a sweep's folder: which of them are still needed, and their size.

Workers write them (`sweeper.train.checkpoints`): `checkpoints/SIGNATURE/NUMBER.part`, with a budget
`NUMBER@BUDGET.part`, and `NUMBER@BUDGET.end` of its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sweeper.records import Outcome, budget_of, is_trial
from sweeper.store.paths import Paths

PART, END = ".part", ".end"


def checkpoint_files(paths: Paths) -> list[Path]:
    """All checkpoints."""
    return [path for path in paths.checkpoints.glob("*/*") if path.suffix in {PART, END}]


def remove_checkpoints(paths: Paths, outcomes: Iterable[Outcome]) -> None:
    """Remove the checkpoints that trials with these outcomes no longer need.

    The end of a trial with a budget is kept until one with a larger budget has ended, too.
    """
    if not paths.checkpoints.is_dir():
        return
    for outcome in outcomes:
        if is_trial(outcome.stage):
            for path in _unneeded(paths.checkpoints / outcome.point, outcome):
                with contextlib.suppress(OSError):  # it only takes space
                    path.unlink(missing_ok=True)


def _unneeded(folder: Path, outcome: Outcome) -> Iterator[Path]:
    budget, number = budget_of(outcome.stage), outcome.number
    if budget is None:
        yield folder / f"{number}{PART}"
        return
    yield folder / f"{number}@{budget}{PART}"
    if outcome.failure is not None:
        return
    for path in folder.glob(f"{number}@*{END}"):
        _, _, other = path.stem.partition("@")
        if other.isdecimal() and int(other) < budget:
            yield path


def remove_empty_folders(paths: Paths) -> None:
    """Remove folders without checkpoints; no worker may run."""
    for folder in (*paths.checkpoints.glob("*"), paths.checkpoints):
        with contextlib.suppress(OSError):
            folder.rmdir()
