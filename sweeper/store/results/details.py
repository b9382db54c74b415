"""What a folder has of trials besides their metrics, read when results are asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.disk.arrays import unpack_arrays
from sweeper.errors import plural
from sweeper.records import ARTIFACTS, ARTIFACTS_SHA256, CORRECT, RAISED, Outcome, budget_of
from sweeper.results.artifacts import Artifacts
from sweeper.signature import decode
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.summary import show_params

Array = np.ndarray[Any, Any]

_HAS = "failure IS NULL AND instr(arrays, ?) > 0"
"""Outcomes with a text or an array of some name, found without unpacking all arrays."""


@dataclass(frozen=True, slots=True)
class StoredTrials:
    """See `TrialRecords`: of a point's trials of one stage, in the folder of a database."""

    database: Path
    point_id: int
    stage: str

    def histories(self) -> Mapping[int, Mapping[str, Array]]:
        """See `TrialRecords`."""
        return {one.number: history_of(one) for one in self._outcomes("failure IS NULL", ())}

    def artifacts(self) -> Mapping[int, Artifacts]:
        """See `TrialRecords`."""
        paths = Paths(self.database.parent)
        return {
            one.number: Artifacts(
                paths.trial(self.point_id, one.number, self.stage) / ARTIFACTS,
                str(one.info[ARTIFACTS_SHA256]),
            )
            for one in self._outcomes(_HAS, (ARTIFACTS_SHA256.encode(),))
        }

    def correct(self) -> Mapping[int, Array]:
        """See `TrialRecords`."""
        stored = self._outcomes(_HAS, (CORRECT.encode(),))
        found = {one.number: unpack_arrays(one.arrays) for one in stored}
        return {number: arrays[CORRECT] for number, arrays in found.items() if CORRECT in arrays}

    def _outcomes(self, where: str, values: tuple[Any, ...]) -> list[Outcome]:
        with Store.read(self.database) as store, store.understood():
            which = (self.point_id, self.stage, *values)
            return list(store.outcomes(f"point = ? AND stage = ? AND {where}", which))


def history_of(outcome: Outcome) -> dict[str, Array]:
    """What a trial measured as it went, by metric, each of shape (iterations,)."""
    found = unpack_arrays(outcome.arrays)
    return {
        name: array for name, array in found.items() if array.dtype.kind != "U" and name != CORRECT
    }


def note_of_raised(store: Store) -> list[str]:
    """How many trials ended by an exception that was recorded, and the first, as a note."""
    found = list(store.outcomes(_HAS, (RAISED.encode(),)))
    if not found:
        return []
    first = found[0]
    params = dict(store.encoded_params())[store.ids()[first.point]]
    budget = budget_of(first.stage)
    lines = str(first.info[RAISED]).strip().splitlines()
    which = f"trial {first.number}" + (f" with budget {budget}" if budget else "")
    they = "counts with what it" if len(found) == 1 else "count with what they"
    note = (
        f"{plural(len(found), 'trial')} raised an exception in an iteration and {they} yielded "
        f"before; the first, {which} of {show_params(decode(params))}: {lines[-1]}"
    )
    return [note]
