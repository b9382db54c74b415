"""Checkpoints in a sweep's folder: which of them are still needed, and their size.

Workers write them (`sweeper.train.replica.checkpoints`): `checkpoints/SIGNATURE/NUMBER.part`, with
a budget `NUMBER@BUDGET.part`, with a parent `NUMBER@BUDGET+LINEAGE.part`; and `….end` of a trial's
end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from sweeper.disk.sealed import END, PART
from sweeper.records import TRIAL, Outcome, budget_of, file_suffix, is_trial, lineage_of
from sweeper.store.paths import Paths


def checkpoint_files(paths: Paths) -> list[Path]:
    """All checkpoints."""
    return [path for path in paths.checkpoints.glob("*/*") if path.suffix in {PART, END}]


def remove_checkpoints(
    paths: Paths, outcomes: Iterable[Outcome], *, keep_ends: bool = False
) -> None:
    """Remove the checkpoints that trials with these outcomes no longer need.

    The end of a trial with a budget is kept until one with a larger budget has ended, too; with
    `keep_ends`, any end, since other trials may begin from it.
    """
    if not paths.checkpoints.is_dir():
        return
    for outcome in outcomes:
        if is_trial(outcome.stage):
            folder = paths.checkpoints / outcome.point
            unneeded = [folder / f"{outcome.number}{file_suffix(outcome.stage)}{PART}"]
            if not keep_ends and outcome.failure is None:
                unneeded += _smaller_ends(folder, outcome)
            for path in unneeded:
                with contextlib.suppress(OSError):  # it only takes space
                    path.unlink(missing_ok=True)


def _smaller_ends(folder: Path, outcome: Outcome) -> Iterator[Path]:
    """The ends of the same trial with smaller budgets."""
    budget, number = budget_of(outcome.stage), outcome.number
    if budget is None:
        return
    for path in folder.glob(f"{number}@*{END}"):
        stage = f"{TRIAL}@{path.stem.partition('@')[2]}"
        with contextlib.suppress(ValueError):  # no file of ours
            smaller = (budget_of(stage) or budget) < budget
            if smaller and lineage_of(stage) == lineage_of(outcome.stage):
                yield path


def remove_unfinished(paths: Paths) -> None:
    """Remove what workers that were killed had not finished writing; no worker may run."""
    for path in paths.checkpoints.glob("*/.*"):
        with contextlib.suppress(OSError):
            path.unlink()


def remove_empty_folders(paths: Paths) -> None:
    """Remove folders without checkpoints; no worker may run."""
    for folder in (*paths.checkpoints.glob("*"), paths.checkpoints):
        with contextlib.suppress(OSError):
            folder.rmdir()
