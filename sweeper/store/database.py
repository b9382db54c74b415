"""The database: what happened and what was decided, in order, durable before anybody is told.

One writer, the driver, under the folder's lock; readers open it read-only at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from sweeper.errors import FolderError
from sweeper.signature import decode
from sweeper.types import (
    CHECK,
    NOT_ITS_FAULT,
    TRIAL,
    Asked,
    Decision,
    Event,
    Failure,
    Finished,
    Found,
    GaveUp,
    Interrupted,
    Lost,
    Outcome,
    Planned,
    Point,
    Recorded,
    Started,
    Step,
    Tick,
    Told,
)

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL             -- JSON
) WITHOUT ROWID;
CREATE TABLE points (
    id INTEGER PRIMARY KEY,         -- from 0, in the order of first asking
    signature TEXT NOT NULL UNIQUE,
    params TEXT NOT NULL            -- canonical encoding
);
CREATE TABLE outcomes (
    point INTEGER NOT NULL REFERENCES points,
    stage TEXT NOT NULL,
    number INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    metrics TEXT NOT NULL,          -- JSON
    arrays BLOB NOT NULL,           -- .npz, or empty
    failure TEXT,                   -- JSON
    PRIMARY KEY (point, stage, number)
) WITHOUT ROWID;
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,
    point INTEGER NOT NULL REFERENCES points,
    after TEXT NOT NULL,            -- the stage that ended
    step TEXT NOT NULL,             -- JSON
    choice TEXT NOT NULL,           -- JSON
    arrays BLOB NOT NULL
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    selector TEXT NOT NULL,
    kind TEXT NOT NULL,             -- asked, waits, hparams, trials, failed
    point INTEGER REFERENCES points,
    value TEXT NOT NULL             -- JSON: trials asked, or numbers told
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,             -- opened, started, lost, interrupted, code_changed,
                                    -- failures_forgotten
    point INTEGER REFERENCES points,
    stage TEXT,
    value TEXT NOT NULL             -- JSON
);
CREATE INDEX log_by_selector ON log (selector, seq);
CREATE INDEX decisions_by_point ON decisions (point, seq);
CREATE INDEX events_by_kind ON events (kind, seq);
"""

# In the order in which rows are inserted: a point goes before all that is said of it.
_COLUMNS = {
    "points": ("id, signature, params", "?, ?, ?"),
    "outcomes": (
        "point, stage, number, started, ended, metrics, arrays, failure",
        "?, ?, ?, ?, ?, ?, ?, ?",
    ),
    "decisions": ("point, after, step, choice, arrays", "?, ?, ?, ?, ?"),
    "log": ("selector, kind, point, value", "?, ?, ?, ?"),
    "events": ("time, kind, point, stage, value", "?, ?, ?, ?, ?"),
}


class _Rows(NamedTuple):
    """Rows to be inserted, by table: many at once take a fraction of the time."""

    points: list[tuple[Any, ...]]
    outcomes: list[tuple[Any, ...]]
    decisions: list[tuple[Any, ...]]
    log: list[tuple[Any, ...]]
    events: list[tuple[Any, ...]]


class Store:
    """A sweep's database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._selector = ""
        self._read_ids()
        self._pending: list[Decision] = []
        """Not durable yet."""

    def _read_ids(self) -> None:
        rows = self.connection.execute("SELECT id, signature FROM points ORDER BY id")
        self._signatures: dict[int, str] = dict(rows.fetchall())
        self._ids = {signature: point_id for point_id, signature in self._signatures.items()}

    # -- opening ----------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, connect: Callable[..., sqlite3.Connection] = sqlite3.connect) -> Self:
        """Open for writing, making what is not there; the caller holds the folder's lock.

        `connect` makes the connection, as `sqlite3.connect` does.

        Raises:
            FolderError: the file is no database of ours, or of a later version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path, isolation_level=None)
        try:
            with _explained(path):
                connection.execute("PRAGMA journal_mode = WAL")
                # In WAL mode only FULL syncs every commit.
                connection.execute("PRAGMA synchronous = FULL")
                if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                    connection.executescript(
                        f"BEGIN;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
                    )
                _check_version(connection, path)
                return cls(connection)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open for reading only; never blocks the driver.

        Raises:
            FolderError: there is no sweep here.
        """
        if not path.is_file():
            raise FolderError(f"{path.parent} holds no sweep: there is no {path.name} in it")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        # SQLite reads beside its log, and makes what it needs for that; where nobody can write,
        # nobody does, and there is nothing to read beside.
        if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
            uri += "&immutable=1"
        with _explained(path):
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            _check_version(connection, path)
            return cls(connection)

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it durable at the end, or none of it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            # A full disk may have ended it already.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._read_ids()
            raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the database for all reads inside, whatever the driver writes."""
        self.connection.execute("BEGIN")
        try:
            self._read_ids()
            yield
        finally:
            self.connection.execute("ROLLBACK")

    # -- what the sweep is ------------------------------------------------------------------------

    @property
    def meta(self) -> dict[str, Any]:
        """Everything that is kept by name."""
        rows = self.connection.execute("SELECT key, value FROM meta")
        return {key: json.loads(value) for key, value in rows}

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Keep values by name."""
        with self.transaction():
            self.connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in values.items()],
            )

    def has_results(self) -> bool:
        """Whether a replica has ended well: from then on the folder belongs to its problem."""
        query = "SELECT 1 FROM outcomes WHERE failure IS NULL AND stage != ? LIMIT 1"
        return self.connection.execute(query, (CHECK,)).fetchone() is not None

    def has_outcomes(self) -> bool:
        """Whether a replica has ended at all, the problem's check aside."""
        query = "SELECT 1 FROM outcomes WHERE stage != ? LIMIT 1"
        return self.connection.execute(query, (CHECK,)).fetchone() is not None

    def add_event(self, time: float, kind: str, value: Mapping[str, Any]) -> None:
        """Note something about the sweep as a whole."""
        with self.transaction():
            self._insert_event(time, kind, value)

    # -- writing ----------------------------------------------------------------------------------

    def begin(self, decisions: Iterable[Decision], selector: str, *, keep_log: bool) -> None:
        """From here on `selector` asks; its earlier log goes on, or is replaced."""
        self._selector = selector
        with self.transaction():
            if not keep_log:
                self.connection.execute("DELETE FROM log WHERE selector = ?", (selector,))
            self.connection.execute(
                "INSERT OR REPLACE INTO meta VALUES ('selector', ?)", (json.dumps(selector),)
            )
            self._insert(decisions)

    def append(self, records: Iterable[Event | Decision]) -> None:
        """Make events and decisions durable, in one transaction."""
        batch = [record for record in records if not isinstance(record, Tick)]
        if not batch and not self._pending:
            return
        with self.transaction():
            self._insert((*self._pending, *batch))
        self._pending.clear()

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Make decisions durable: together with the next records, and before them.

        So nothing that follows from a decision is durable without it, and one that is lost with the
        driver is taken again, the same, when the sweep goes on.  A point that was asked for is
        durable at once: its files go by its number.
        """
        self._pending += decisions
        if any(isinstance(decision, Asked) and decision.point for decision in decisions):
            self.append(())

    def _insert(self, records: Iterable[Event | Decision]) -> None:
        rows = _Rows([], [], [], [], [])
        for record in records:
            self._add(record, rows)
        for table, (columns, places) in _COLUMNS.items():
            if getattr(rows, table):
                self.connection.executemany(
                    f"INSERT INTO {table} ({columns}) VALUES ({places})",  # noqa: S608 - our names
                    getattr(rows, table),
                )

    def _add(self, record: Event | Decision, rows: _Rows) -> None:
        """Add what is kept of a record to the rows of its table."""
        match record:
            case Finished(outcome=outcome) | GaveUp(outcome):
                rows.outcomes.append(self._outcome_row(outcome))
            case Started(time, job, slot):
                value = {"numbers": job.numbers, "slot": slot, "job": job.id}
                rows.events.append(self._event_row(time, "started", job.point, job.stage, value))
            case Lost(time, job, numbers, cause):
                lost = {"numbers": numbers, "cause": asdict(cause), "job": job.id}
                rows.events.append(self._event_row(time, "lost", job.point, job.stage, lost))
            case Interrupted(time, signal):
                value = {"signal": signal}
                rows.events.append(self._event_row(time, "interrupted", None, None, value))
            case Asked(None):
                rows.log.append((self._selector, "waits", None, "null"))
            case Asked(Point() as point, trials, point_id):
                if point.signature not in self._ids:
                    self._ids[point.signature] = point_id
                    self._signatures[point_id] = point.signature
                    rows.points.append((point_id, point.signature, point.encoded))
                rows.log.append((self._selector, "asked", point_id, json.dumps(trials)))
            case Told(signature, what, numbers):
                told = json.dumps(numbers)
                rows.log.append((self._selector, what, self._ids[signature], told))
            case Planned(signature, step, after, choice, arrays):
                texts = (json.dumps(asdict(step)), json.dumps(dict(choice)))
                rows.decisions.append((self._ids[signature], after, *texts, arrays))

    def _outcome_row(self, outcome: Outcome) -> tuple[Any, ...]:
        failure = None if outcome.failure is None else json.dumps(asdict(outcome.failure))
        return (
            self._ids[outcome.point],
            outcome.stage,
            outcome.number,
            outcome.started,
            outcome.ended,
            json.dumps(dict(outcome.metrics)),
            outcome.arrays,
            failure,
        )

    def _event_row(
        self, time: float, kind: str, point: str | None, stage: str | None, value: Any
    ) -> tuple[Any, ...]:
        point_id = None if point is None else self._ids[point]
        return (time, kind, point_id, stage, json.dumps(value))

    def _insert_event(self, time: float, kind: str, value: Mapping[str, Any]) -> None:
        columns, places = _COLUMNS["events"]
        self.connection.execute(
            f"INSERT INTO events ({columns}) VALUES ({places})",  # noqa: S608 - our names
            self._event_row(time, kind, None, None, value),
        )

    def forget_everything(self) -> None:
        """Empty the folder of a sweep that came to nothing; `events` stays."""
        with self.transaction():
            self.connection.execute("UPDATE events SET point = NULL")
            for table in ("outcomes", "decisions", "log", "points", "meta"):
                self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
        self._read_ids()

    def forget_failures(self) -> None:
        """Forget failed outcomes and failed points: they are tried again.

        What led to them stays in `events`.
        """
        with self.transaction():
            self.connection.execute("DELETE FROM outcomes WHERE failure IS NOT NULL")
            # A point that tuning rejected is tuned from the beginning.
            failed = [(point_id,) for point_id, step in self.last_steps().items() if step.error]
            for table in ("outcomes", "decisions"):
                self.connection.executemany(f"DELETE FROM {table} WHERE point = ?", failed)  # noqa: S608 - our names
            self._insert_event(time.time(), "failures_forgotten", {})

    def forget_faults_of_the_problem(self) -> None:
        """Forget a check that failed, and replicas refused since the code had changed."""
        with self.transaction():
            self.connection.execute(
                "DELETE FROM outcomes WHERE failure IS NOT NULL AND "
                "(stage = ? OR json_extract(failure, '$.kind') = 'changed')",
                (CHECK,),
            )

    # -- reading ----------------------------------------------------------------------------------

    def recorded(self, selector: str, *, log: bool = True) -> Recorded:
        """What the study goes on from; `log` only where the selector is replayed."""
        signatures = self.signatures()
        steps = {signatures[point_id]: step for point_id, step in self.last_steps().items()}
        outcomes: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes("stage = ?", (TRIAL,), arrays=False):
            outcomes[outcome.point].append(outcome)
        for signature, step in steps.items():
            if step.found is None and step.error is None:
                wanted = (self._ids[signature], step.stage)
                outcomes[signature] += self.outcomes("point = ? AND stage = ?", wanted)
        return Recorded(
            steps=steps,
            outcomes={signature: tuple(found) for signature, found in outcomes.items()},
            tries={key: tuple(found) for key, found in self._tries().items()},
            ids=dict(self._ids),
            log=self.log(selector) if log else (),
        )

    def last_steps(self) -> dict[int, Step]:
        """By point id: where tuning stands."""
        rows = self.connection.execute("SELECT point, step FROM decisions ORDER BY seq")
        return {point_id: _read_step(text) for point_id, text in dict(rows.fetchall()).items()}

    def log(self, selector: str) -> tuple[Asked | Told, ...]:
        """What `selector` asked and was told, in order.

        The points' parameters are as files keep them: classes are not imported.
        """
        points = {
            point_id: Point(signature, decode(params), params)
            for point_id, signature, params in self.connection.execute("SELECT * FROM points")
        }
        found: list[Asked | Told] = []
        for kind, point_id, value in self.connection.execute(
            "SELECT kind, point, value FROM log WHERE selector = ? ORDER BY seq", (selector,)
        ):
            if kind == "waits":
                found.append(Asked(None))
            elif kind == "asked":
                found.append(Asked(points[point_id], json.loads(value), point_id))
            else:
                found.append(Told(points[point_id].signature, kind, tuple(json.loads(value))))
        return tuple(found)

    def encoded_params(self) -> list[tuple[int, str]]:
        """Each point's id and its parameters' canonical encoding, in order of id."""
        return self.connection.execute("SELECT id, params FROM points ORDER BY id").fetchall()

    def _tries(self) -> dict[tuple[str, str, int], list[Failure]]:
        signatures = self.signatures()
        tries: dict[tuple[str, str, int], list[Failure]] = defaultdict(list)
        for point_id, stage, value in self.connection.execute(
            "SELECT point, stage, value FROM events WHERE kind = 'lost' AND point NOT NULL AND "
            "seq > (SELECT coalesce(max(seq), 0) FROM events WHERE kind = 'failures_forgotten') "
            "ORDER BY seq"
        ):
            lost = json.loads(value)
            if lost["cause"]["kind"] in NOT_ITS_FAULT:
                continue
            key = (signatures[point_id], stage, lost["numbers"][0])
            tries[key].append(Failure(**lost["cause"]))
        return tries

    def decisions(self, point_id: int) -> list[tuple[str, Step, dict[str, Any], bytes]]:
        """A point's decisions, in order: the stage that ended, the step, the choice, the curves."""
        rows = self.connection.execute(
            "SELECT after, step, choice, arrays FROM decisions WHERE point = ? ORDER BY seq",
            (point_id,),
        )
        return [
            (after, _read_step(step), json.loads(choice), arrays)
            for after, step, choice, arrays in rows
        ]

    def signatures(self) -> Mapping[int, str]:
        """By point id: a live view."""
        return MappingProxyType(self._signatures)

    def outcomes(
        self, where: str = "TRUE", values: tuple[Any, ...] = (), *, arrays: bool = True
    ) -> Iterator[Outcome]:
        """Outcomes, in order of point, stage and number; without `arrays` if told so.

        `where` is SQL of ours, with a question mark for each of `values`.
        """
        signatures = self._signatures
        columns = "point, stage, number, started, ended, metrics, failure"
        query = (
            f"SELECT {columns}, {'arrays' if arrays else 'NULL'} FROM outcomes "  # noqa: S608
            f"WHERE {where} ORDER BY point, stage, number"
        )
        rows = self.connection.execute(query, values)
        while some := rows.fetchmany(100):
            # Read as one document: a million little ones take several times as long.
            metrics = json.loads(f"[{','.join(row[5] for row in some)}]")
            for row, measured in zip(some, metrics, strict=True):
                point_id, stage, number, started, ended, _, text, blob = row
                failure = None if text is None else Failure(**json.loads(text))
                who = signatures[point_id]
                yield Outcome(who, stage, number, started, ended, measured, blob or b"", failure)


def fold_log(path: Path) -> None:
    """Fold SQLite's log into the database, so that one file holds everything; if it can be."""
    if path.is_file():
        with contextlib.suppress(FolderError):
            Store.open(path).close()


def _read_step(text: str) -> Step:
    fields = json.loads(text)
    if fields["found"] is not None:
        fields["found"] = Found(**fields["found"])
    return Step(**fields)


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise FolderError(
            f"{path} has format {version}, and this version of sweeper reads format "
            f"{SCHEMA_VERSION}: use the version of sweeper that wrote it"
        )


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise FolderError(f"{path} cannot be opened as a sweep's database: {error}") from error
