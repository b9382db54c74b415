"""The database: what happened and what was decided, in order, durable before anybody is told.

One writer, the driver, under the folder's lock; readers open it read-only at any time.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import operator
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
from sweeper.files import add_texts, disk_error, read_texts, refuse_link
from sweeper.records import (
    CHECK,
    NOT_ITS_FAULT,
    TRIAL,
    WAY,
    Asked,
    Decision,
    Event,
    Failure,
    Finished,
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
    Trials,
)
from sweeper.store.damage import (
    damaged,
    explained,
    prepare,
    seal,
    seal_outcome,
    seal_outcomes,
    seal_text,
    understood,
)
from sweeper.store.rows import (
    AT_ONCE,
    MOST_TIME,
    are_replicas,
    are_texts,
    expect,
    in_columns,
    is_apart,
    read_documents,
    read_entry,
    read_failure,
    read_params,
    read_step,
)
from sweeper.store.schema import (
    COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    SEALED,
    WITH_CRC,
    bring_up,
    check,
    is_new,
)


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
        file = connection.execute("SELECT file FROM pragma_database_list").fetchone()[0]
        self._path = Path(file)
        self._file = self._path.stat() if file else None
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        self._crc = "NULL" if version < WITH_CRC else "crc"
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
            FolderError: the file is no database of ours, damaged, or of a later version.
            DiskError: it cannot be written.
        """
        with explained(path):
            for end in ("", "-wal", "-shm"):
                refuse_link(path.with_name(f"{path.name}{end}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(path, isolation_level=None)
        try:
            with explained(path):
                prepare(connection)
                if is_new(connection):
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(
                        f"BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
                    )
                check(connection, path)
                connection.execute("PRAGMA journal_mode = WAL")
                # In WAL mode only FULL syncs every commit.
                connection.execute("PRAGMA synchronous = FULL")
                bring_up(connection)
                return cls(connection)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open for reading only; never blocks the driver.

        Raises:
            FolderError: there is no sweep here, or it is damaged.
            DiskError: it cannot be read from where it is.
        """
        with explained(path):
            there = path.is_file()
        if not there:
            raise FolderError(f"{path.parent} holds no sweep: there is no {path.name} in it")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        # SQLite reads beside its log, and makes what it needs for that; where nobody can write,
        # nobody does, and there is nothing to read beside.
        if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
            uri += "&immutable=1"
        with explained(path):
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            with explained(path):
                prepare(connection)
                connection.execute("PRAGMA query_only = ON")
                check(connection, path)
                return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with explained(self._path):
            self.close()
            if isinstance(error, sqlite3.Error):
                raise error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it durable at the end, or none of it.

        Raises:
            DiskError: the disk is full or failing, or the folder is gone.
        """
        with explained(self._path):
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
        self._check_there()

    def _check_there(self) -> None:
        """SQLite goes on writing into a file that was removed, and nobody would find it again."""
        if self._file is None:
            return
        try:
            if os.path.samestat(self._path.stat(), self._file):
                return
        except OSError:
            pass
        raise disk_error(
            self._path.parent,
            "it was moved, removed or replaced while the sweep ran",
            advice="put it back",
        )

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
        with understood(self._path):
            found = {key: json.loads(value) for key, value in self._rows("meta")}
            identity, notes = found.get("identity", {}), found.get("notes", [])
            expect(isinstance(identity, dict), "an identity", identity)
            expect(isinstance(identity.get("settings", {}), dict), "settings", identity)
            expect(isinstance(found.get("selector", ""), str), "a selector", found)
            expect(isinstance(notes, list) and are_texts(notes), "notes", notes)
        return found

    def _rows(
        self, table: str, rest: str = "", values: tuple[Any, ...] = (), *, more: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """What the rows of a table say: what is under their seal, and `more` columns.

        Raises:
            FolderError: a row is not as it was written.
        """
        sealed = SEALED[table]
        columns = ", ".join([*sealed, self._crc, *([more] if more else [])])
        query = f"SELECT {columns} FROM {table} {rest}"  # noqa: S608 - our names
        count = len(sealed)
        for row in self.connection.execute(query, values):
            said, crc = row[:count], row[count]
            if crc is not None and crc != seal(*said):
                raise damaged(self._path, f"a row of table {table} is not as it was written")
            yield said + row[count + 1 :]

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Keep values by name."""
        with self.transaction():
            self._put_meta(values)

    def _put_meta(self, values: Mapping[str, Any]) -> None:
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        self.connection.executemany(
            "INSERT OR REPLACE INTO meta (key, value, crc) VALUES (?, ?, ?)",
            [(*row, seal(*row)) for row in rows],
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
            rows = self._rows_of(decisions)
            if not keep_log:
                self._replace_log(rows)
            self._put_meta({"selector": selector})
            self._insert(rows)

    def _replace_log(self, rows: _Rows) -> None:
        """Drop what the log says otherwise than these rows, and of these what it says already.

        Of a hundred thousand points that were asked for before, little is said anew.
        """
        query = "SELECT selector, kind, point, value, crc FROM log WHERE +selector = ? ORDER BY seq"
        said = self.connection.execute(query, (self._selector,))  # +: in the order of the table
        same = 0
        for known, new in zip(said, rows.log, strict=False):
            if known != new:
                break
            same += 1
        said.close()
        del rows.log[:same]
        self.connection.execute(
            "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE selector = ? "
            "ORDER BY seq LIMIT -1 OFFSET ?)",
            (self._selector, same),
        )

    def append(self, records: Iterable[Event | Decision]) -> None:
        """Make events and decisions durable, in one transaction."""
        batch = [record for record in records if not isinstance(record, Tick)]
        if not batch and not self._pending:
            return
        with self.transaction():
            self._insert(self._rows_of((*self._pending, *batch)))
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

    def _rows_of(self, records: Iterable[Event | Decision]) -> _Rows:
        rows = _Rows([], [], [], [], [])
        for record in records:
            self._add(record, rows)
        return rows

    def _insert(self, rows: _Rows) -> None:
        for table, (columns, places) in COLUMNS.items():
            if getattr(rows, table):
                self.connection.executemany(
                    f"INSERT INTO {table} ({columns}) VALUES ({places})",  # noqa: S608 - our names
                    getattr(rows, table),
                )

    def _add(self, record: Event | Decision, rows: _Rows) -> None:
        """Add what is kept of a record to the rows of its table."""
        match record:
            case Told(point=signature, what=what, numbers=numbers):
                who = self._ids[signature]
                rows.log.append(self._log_row(what, who, _counts_text(numbers)))
            case Finished(outcome=outcome) | GaveUp(outcome):
                rows.outcomes.append(self._outcome_row(outcome))
            case Asked(point=None):
                rows.log.append(self._log_row("waits", None, "null"))
            case Asked(point=Point() as point, trials=trials, id=point_id):
                if point.signature not in self._ids:
                    self._ids[point.signature] = point_id
                    self._signatures[point_id] = point.signature
                    rows.points.append(_sealed(point_id, point.signature, point.encoded))
                rows.log.append(self._log_row("asked", point_id, _counts_text(trials)))
            case Started(time, job, slot):
                value = {"numbers": job.numbers, "slot": slot, "job": job.id}
                rows.events.append(self._event_row(time, "started", job.point, job.stage, value))
            case Lost(time, job, numbers, cause):
                lost = {"numbers": numbers, "cause": asdict(cause), "job": job.id}
                rows.events.append(self._event_row(time, "lost", job.point, job.stage, lost))
            case Interrupted(time, signal):
                value = {"signal": signal}
                rows.events.append(self._event_row(time, "interrupted", None, None, value))
            case Planned(signature, step, after, choice, arrays):
                texts = (json.dumps(asdict(step)), json.dumps(dict(choice)))
                row = (self._ids[signature], after, *texts)
                rows.decisions.append((*row, arrays, seal(*row)))

    def _log_row(self, kind: str, point_id: int | None, value: str) -> tuple[Any, ...]:
        who = self._selector
        return (who, kind, point_id, value, seal_text(f"{who}\n{kind}\n{point_id}\n{value}"))

    def _outcome_row(self, outcome: Outcome) -> tuple[Any, ...]:
        failure = None if outcome.failure is None else json.dumps(asdict(outcome.failure))
        which = (self._ids[outcome.point], outcome.stage, outcome.number)
        metrics = json.dumps(dict(outcome.metrics))
        crc = seal_outcome(*which, metrics, failure)
        arrays = add_texts(outcome.arrays, outcome.info)
        return (*which, outcome.started, outcome.ended, metrics, arrays, failure, crc)

    def _event_row(
        self, time: float, kind: str, point: str | None, stage: str | None, value: Any
    ) -> tuple[Any, ...]:
        point_id = None if point is None else self._ids[point]
        return (time, kind, point_id, stage, json.dumps(value))

    def _insert_event(self, time: float, kind: str, value: Mapping[str, Any]) -> None:
        columns, places = COLUMNS["events"]
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
        self._read_ids()

    def forget_failures(self) -> None:
        """Forget failed outcomes and failed points, and those that have trained nothing yet.

        What led to them stays in `events`.
        """
        with self.transaction():
            self.connection.execute("DELETE FROM outcomes WHERE failure IS NOT NULL")
            # A point that tuning rejected is tuned from the beginning.
            failed = [(point_id,) for point_id, step in self.last_steps().items() if step.error]
            # How one may be trained that has trained nothing was found out of other code.
            query = (
                "SELECT id FROM points WHERE id NOT IN "
                "(SELECT point FROM outcomes WHERE stage NOT IN (?, ?))"
            )
            failed += self.connection.execute(query, (CHECK, WAY)).fetchall()
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
        signatures, steps = self.signatures(), self.last_steps()
        return Recorded(
            steps={
                signatures[point_id]: step
                for point_id, step in steps.items()
                if not is_apart(signatures[point_id])
            },
            trials=self._trials(),
            probes=self._probes(steps),
            tries={key: tuple(found) for key, found in self._tries().items()},
            ids=dict(self._ids),
            log=self.log(selector) if log else (),
        )

    def _trials(self) -> dict[str, Trials]:
        """By signature: what trials came to.

        There may be a million: they are read many at once, and each step of it is done for all of
        these, in C where it can be.
        """
        ended: dict[int, dict[int, tuple[float, ...] | Failure]] = defaultdict(dict)
        took: dict[int, float] = {}
        mixed: set[int] = set()
        query = (
            f"SELECT point, number, metrics, {self._crc}, started, ended "  # noqa: S608 - our names
            "FROM outcomes WHERE stage = ? AND failure IS NULL ORDER BY point, stage, number"
        )
        with understood(self._path):
            cursor = self.connection.execute(query, (TRIAL,))
            while rows := cursor.fetchmany(AT_ONCE):
                points, numbers, metrics, crcs, *times = zip(*rows, strict=True)
                expect(are_replicas(numbers, *times), "replicas", rows)
                self._check_trials(points, numbers, metrics, crcs)
                values = list(map(in_columns, read_documents(metrics)))
                types = set(map(type, itertools.chain.from_iterable(values)))
                expect(types <= {float, int}, "of numbers alone", types)
                for point_id, number, measured in zip(points, numbers, values, strict=True):
                    ended[point_id][number] = measured
                took.update(zip(points, map(operator.sub, *reversed(times)), strict=True))
            for failed in self.outcomes("stage = ? AND failure NOT NULL", (TRIAL,), arrays=False):
                if failed.failure is not None:
                    among = ended[self._ids[failed.point]]
                    among[failed.number] = failed.failure
                    mixed.add(self._ids[failed.point])
            for point_id in mixed:
                ended[point_id] = dict(sorted(ended[point_id].items()))
            return {
                self._signatures[point_id]: Trials(found, took.get(point_id, math.nan))
                for point_id, found in ended.items()
            }

    def _check_trials(self, *columns: tuple[Any, ...]) -> None:
        """See that trials are as they were written: points, numbers, metrics, checksums.

        Raises:
            FolderError: one is not.
        """
        points, numbers, metrics, written = columns
        crcs = seal_outcomes(TRIAL, zip(points, numbers, metrics, strict=True))
        if tuple(crcs) == written:
            return
        for point_id, number, crc, kept in zip(points, numbers, crcs, written, strict=True):
            if kept is not None and kept != crc:
                what = f"{TRIAL} {number} of point {point_id}"
                raise damaged(self._path, f"{what} is not as it was written")

    def _probes(self, steps: Mapping[int, Step]) -> dict[str, tuple[Outcome, ...]]:
        """By signature: the probes of the stages at which tuning stands."""
        running = {
            point_id: step.stage
            for point_id, step in steps.items()
            if step.found is None and step.error is None
        }
        with understood(self._path):
            query = "SELECT DISTINCT point FROM outcomes"
            begun = running and [row[0] for row in self.connection.execute(query)]
        probes: dict[str, tuple[Outcome, ...]] = {}
        for point_id in begun:
            if point_id in running:
                wanted = (point_id, running[point_id])
                found = tuple(self.outcomes("point = ? AND stage = ?", wanted))
                if found:
                    probes[self._signatures[point_id]] = found
        return probes

    def last_steps(self) -> dict[int, Step]:
        """By point id: where tuning stands."""
        with understood(self._path):
            # The last one of each point counts.
            last = {row[0]: row[2] for row in self._rows("decisions", "ORDER BY seq")}
            texts = list(last.values())
            some = (texts[n : n + AT_ONCE] for n in range(0, len(texts), AT_ONCE))
            documents = itertools.chain.from_iterable(map(read_documents, some))
            return dict(zip(last, map(read_step, documents), strict=True))

    def log(self, selector: str) -> tuple[Asked | Told, ...]:
        """What `selector` asked and was told, in order.

        The points' parameters are as files keep them: classes are not imported.
        """
        with understood(self._path):
            points = {
                point_id: Point(signature, read_params(params), params)
                for point_id, signature, params in self._rows("points")
            }
            rows = self._rows("log", "WHERE selector = ? ORDER BY seq", (selector,))
            return tuple(read_entry(points, *entry) for _, *entry in rows)

    def encoded_params(self) -> list[tuple[int, str]]:
        """Each point's id and its parameters' canonical encoding, in order of id."""
        with understood(self._path):
            return [(row[0], row[2]) for row in self._rows("points", "ORDER BY id")]

    def _tries(self) -> dict[tuple[str, str, int], list[Failure]]:
        signatures = self.signatures()
        tries: dict[tuple[str, str, int], list[Failure]] = defaultdict(list)
        with understood(self._path):
            for point_id, stage, value in self.connection.execute(
                "SELECT point, stage, value FROM events WHERE kind = 'lost' AND point NOT NULL AND "
                "seq > (SELECT coalesce(max(seq), 0) FROM events WHERE "
                "kind = 'failures_forgotten') ORDER BY seq"
            ):
                lost = json.loads(value)
                if lost["cause"]["kind"] in NOT_ITS_FAULT:
                    continue
                key = (signatures[point_id], stage, lost["numbers"][0])
                tries[key].append(read_failure(lost["cause"]))
        return tries

    def decisions(self, point_id: int) -> list[tuple[str, Step, dict[str, Any], bytes]]:
        """A point's decisions, in order: the stage that ended, the step, the choice, the curves."""
        with understood(self._path):
            rows = self._rows(
                "decisions", "WHERE point = ? ORDER BY seq", (point_id,), more="arrays"
            )
            return [
                (after, read_step(json.loads(step)), json.loads(choice), arrays)
                for _, after, step, choice, arrays in rows
            ]

    def notes(self) -> list[str]:
        """What a person should know of the sweep, and of how its first point's check ended."""
        found: list[str] = list(self.meta.get("notes", ()))
        with understood(self._path):
            for row in self._rows("decisions", "WHERE after = ? ORDER BY seq", (CHECK,)):
                told = json.loads(row[3]).get("notes", [])
                expect(isinstance(told, list) and are_texts(told), "notes", told)
                found += [note for note in told if note not in found]
        return found

    def understood(self) -> contextlib.AbstractContextManager[None]:
        """Where what the rows say is made sense of (see `sweeper.store.damage`)."""
        return understood(self._path)

    def signatures(self) -> Mapping[int, str]:
        """By point id: a live view."""
        return MappingProxyType(self._signatures)

    def outcomes(
        self, where: str = "TRUE", values: tuple[Any, ...] = (), *, arrays: bool = True
    ) -> Iterator[Outcome]:
        """Outcomes, in order of point, stage and number; without `arrays` if told so.

        `where` is SQL of ours, with a question mark for each of `values`.
        """
        columns = f"point, stage, number, started, ended, metrics, failure, {self._crc}"
        query = (
            f"SELECT {columns}, {'arrays' if arrays else 'NULL'} FROM outcomes "  # noqa: S608
            f"WHERE {where} ORDER BY point, stage, number"
        )
        with understood(self._path):
            rows = self.connection.execute(query, values)
        while True:
            with understood(self._path):
                found = self._read_outcomes(rows.fetchmany(100))
            if not found:
                return
            yield from found

    def _read_outcomes(self, rows: list[Any]) -> list[Outcome]:
        metrics = read_documents(row[5] for row in rows)
        found = []
        for row, measured in zip(rows, metrics, strict=True):
            point_id, stage, number, started, ended, written, text, crc, blob = row
            if type(number) is not int or not -MOST_TIME < started < MOST_TIME > abs(ended):
                raise ValueError(f"{stage} {number} of point {point_id} is no replica")
            if crc is not None and crc != seal_outcome(point_id, stage, number, written, text):
                what = f"{stage} {number} of point {point_id}"
                raise damaged(self._path, f"{what} is not as it was written")
            failure = None if text is None else read_failure(json.loads(text))
            who = self._signatures[point_id]
            data = blob or b""
            rest = (measured, data, failure, read_texts(data))
            found.append(Outcome(who, stage, number, started, ended, *rest))
        return found


def fold_log(path: Path) -> None:
    """Fold SQLite's log into the database, so that one file holds everything; if it can be."""
    if path.is_file():
        with contextlib.suppress(FolderError):
            Store.open(path).close()


def _sealed(*values: Any) -> tuple[Any, ...]:
    return (*values, seal(*values))


@functools.lru_cache(maxsize=1_000)
def _counts_text(counts: int | tuple[int, ...]) -> str:
    """As JSON; most points have as many trials, and are told of the same."""
    return json.dumps(counts)
