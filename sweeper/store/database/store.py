"""The store: events and decisions, in order, durable before they are told.

`connection` opens and writes the database, `inserts` turns records into rows, `recall` reads them
back.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import FolderError
from sweeper.records import (
    CHECK,
    METRICS,
    UNTRAINED,
    Asked,
    Decision,
    Event,
    Outcome,
    Params,
    Recorded,
    Step,
    Tick,
    Told,
)
from sweeper.store.database import recall
from sweeper.store.database.connection import Database
from sweeper.store.database.damage import seal
from sweeper.store.database.inserts import insert, insert_event, put_meta, replace_log, rows_of


class Store(Database):
    """A sweep's database: a façade for writing records and reading them back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._selector = ""
        self._pending: list[Decision] = []
        """Decisions that are not durable yet."""

    # -- what the sweep is ------------------------------------------------------------------------

    @property
    def meta(self) -> dict[str, Any]:
        """All values stored by name."""
        return recall.read_meta(self)

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Store values by name."""
        with self.transaction():
            put_meta(self.connection, values)

    def add_event(self, time: float, kind: str, value: Mapping[str, Any]) -> None:
        """Record an event of the sweep as a whole."""
        with self.transaction():
            insert_event(self.connection, time, kind, value)

    @property
    def has_begun(self) -> bool:
        """Whether a sweep has ever asked for a point, or said that it asks for none."""
        return "selector" in self.meta

    def has_results(self) -> bool:
        """Whether a replica has succeeded: from then on the folder belongs to its problem."""
        query = "SELECT 1 FROM outcomes WHERE failure IS NULL AND stage != ? LIMIT 1"
        return self.connection.execute(query, (CHECK,)).fetchone() is not None

    def has_outcomes(self) -> bool:
        """Whether any replica has ended, apart from the problem's check."""
        query = "SELECT 1 FROM outcomes WHERE stage != ? LIMIT 1"
        return self.connection.execute(query, (CHECK,)).fetchone() is not None

    # -- events and decisions ---------------------------------------------------------------------

    def begin(
        self,
        decisions: Iterable[Decision],
        selector: str,
        *,
        keep_log: bool,
        compare_by: Iterable[str] = (),
    ) -> None:
        """Set `selector` as the one that asks; its earlier log continues, or is replaced.

        `compare_by` are the parameters by which its points are compared.
        """
        self._selector = selector
        with self.transaction():
            rows = rows_of(self, selector, decisions)
            if not keep_log:
                replace_log(self.connection, selector, rows)
            put_meta(self.connection, {"selector": selector, "compare_by": list(compare_by)})
            insert(self.connection, rows)

    def append(self, records: Iterable[Event | Decision]) -> None:
        """Make events and decisions durable, in one transaction."""
        batch = [record for record in records if not isinstance(record, Tick)]
        if not batch and not self._pending:
            return
        with self.transaction():
            self.insert((*self._pending, *batch))
        self._pending.clear()

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Queue decisions, which become durable together with the next records, and before them.

        So nothing that follows from a decision is durable without it.  A decision lost in a crash
        is taken again on resume, and is the same.  A point that was asked for is durable at once,
        since its files are named by its number.
        """
        self._pending += decisions
        if any(isinstance(decision, Asked) and decision.point for decision in decisions):
            self.append(())

    def insert(self, records: Iterable[Event | Decision]) -> None:
        """Insert the rows of records, inside a transaction."""
        insert(self.connection, rows_of(self, self._selector, records))

    # -- changes of what is kept ------------------------------------------------------------------

    def forget_everything(self) -> None:
        """Empty the database of a sweep without results; `events` stays."""
        with self.transaction():
            self.connection.execute("UPDATE events SET point = NULL")
            for table in ("outcomes", "decisions", "log", "points", "meta"):
                self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
        self.read_ids()

    def rename_points(self, names: Mapping[int, str]) -> None:
        """Give points other signatures, in this order."""
        with self.transaction():
            params = dict(self.encoded_params())
            for point_id, signature in names.items():
                crc = seal(point_id, signature, params[point_id])
                self.connection.execute(
                    "UPDATE points SET signature = ?, crc = ? WHERE id = ?",
                    (signature, crc, point_id),
                )
        self.read_ids()

    def forget_failures(self) -> None:
        """Delete failed outcomes, and the tuning of points that failed or have trained nothing yet.

        Their history stays in `events`.
        """
        with self.transaction():
            self.connection.execute("DELETE FROM outcomes WHERE failure IS NOT NULL")
            # A point whose tuning failed is tuned from the beginning.
            failed = [(point_id,) for point_id, step in self.last_steps().items() if step.error]
            # If a point has trained nothing, its execution mode was chosen for the old code.
            query = (
                "SELECT id FROM points WHERE id NOT IN "
                "(SELECT point FROM outcomes WHERE stage NOT IN (?, ?, ?))"
            )
            failed += self.connection.execute(query, UNTRAINED).fetchall()
            for table in ("outcomes", "decisions"):
                self.connection.executemany(f"DELETE FROM {table} WHERE point = ?", failed)  # noqa: S608 - our names
            insert_event(self.connection, time.time(), "failures_forgotten", {})

    def forget_faults_of_the_problem(self) -> None:
        """Delete a failed check, and replicas refused because the code had changed."""
        with self.transaction():
            self.connection.execute(
                "DELETE FROM outcomes WHERE failure IS NOT NULL AND "
                "(stage = ? OR json_extract(failure, '$.kind') = 'changed')",
                (CHECK,),
            )

    # -- reading (see `recall`) -------------------------------------------------------------------

    def recorded(
        self, selector: str, *, log: bool = True, metrics: Sequence[str] = METRICS
    ) -> Recorded:
        """What the study resumes from; `log` only if the selector is replayed."""
        return recall.recorded(self, selector, log=log, metrics=metrics)

    def last_steps(self) -> dict[int, Step]:
        """By point id: where tuning stands."""
        return recall.last_steps(self)

    def log(self, selector: str) -> tuple[Asked | Told, ...]:
        """What `selector` asked and was told, in order.

        The points' parameters are as stored: classes are not imported.
        """
        return recall.read_log(self, selector)

    def refused(self, selector: str) -> list[tuple[Params, str]]:
        """Points that `selector` asked for and whose parameters do not fit, with the reason."""
        return recall.read_refused(self, selector)

    def encoded_params(self) -> list[tuple[int, str]]:
        """Each point's id and its parameters' canonical encoding, in order of id."""
        return recall.encoded_params(self)

    def decisions(self, point_id: int) -> list[tuple[str, Step, dict[str, Any], bytes]]:
        """A point's decisions, in order: the stage that ended, the step, the choice, the curves."""
        return recall.read_decisions(self, point_id)

    def notes(self) -> list[str]:
        """The notes on the sweep and on the check of its first point."""
        return recall.read_notes(self)

    def outcomes(
        self, where: str = "TRUE", values: tuple[Any, ...] = (), *, arrays: bool = True
    ) -> Iterator[Outcome]:
        """Outcomes, in order of point, stage and number; with or without `arrays`.

        `where` is trusted SQL, with a question mark for each of `values`.
        """
        return recall.read_outcomes(self, where, values, arrays=arrays)


def fold_log(path: Path) -> None:
    """Merge SQLite's log into the database, if possible, so that one file holds everything."""
    if path.is_file():
        with contextlib.suppress(FolderError):
            Store.open(path).close()
