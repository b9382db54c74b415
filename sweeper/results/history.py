"""Rows of the histories of trials, and their artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.results.artifacts import Array, Artifacts, HeldRecords, TrialRecords
from sweeper.results.result import SweepResult
from sweeper.results.selection import with_points
from sweeper.results.table import params_columns

STEP, ITERATION = "step", "iteration"
"""Columns: the training step of a point of a problem's curves, the iteration of a program."""


def history_rows(results: SweepResult) -> list[dict[str, Any]]:
    """One row an iteration; see `SweepResult.to_dataframe`."""
    rows: list[dict[str, Any]] = []
    for place, records in enumerate(_records(results)):
        histories = records.histories()
        names = dict.fromkeys(name for history in histories.values() for name in history)
        own = _own_columns(results, place, list(names))
        for number in results.trial_numbers[place].tolist():
            measured = _rows_of(histories.get(number, {}))
            rows += [{**own, "trial": number, **row} for row in measured]
    return rows


def _own_columns(results: SweepResult, place: int, names: Sequence[str]) -> dict[str, Any]:
    """The parameters of a point, and its budget and group if any point has one."""
    taken = ["trial", "budget", "group", STEP, ITERATION, *names]
    own = dict(params_columns(results[place].params, taken))
    own |= {"budget": results.budgets[place]} if any(results.budgets) else {}
    return own | ({"group": results.groups[place]} if any(results.groups) else {})


def _rows_of(history: Mapping[str, Array]) -> Iterator[dict[str, Any]]:
    columns = {name: values.tolist() for name, values in history.items()}
    if STEP not in columns:
        length = max(map(len, columns.values()), default=0)
        columns = {ITERATION: list(range(1, length + 1)), **columns}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def find_artifacts(results: SweepResult) -> dict[tuple[int, int], Artifacts]:
    """See `SweepResult.artifacts`."""
    return {
        (place, number): found
        for place, records in enumerate(_records(results))
        for number, found in records.artifacts().items()
        if np.isin(number, results.trial_numbers[place])
    }


def hold_records(results: SweepResult) -> SweepResult:
    """These results with histories and artifacts read now: their folder is about to be removed."""
    held = [
        replace(one, records=HeldRecords(records))
        for one, records in zip(results.point_trials, _records(results), strict=True)
    ]
    return with_points(results, held, results.failures, results.earlier)


def _records(results: SweepResult) -> tuple[TrialRecords, ...]:
    if len(results.records) != len(results):
        raise UsageError(
            "these results have no histories and artifacts: they were not read from a folder, or "
            "their points stand for several: ask the results from before by(), or sweeper.load"
        )
    return results.records
