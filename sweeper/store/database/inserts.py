"""Turns events and decisions into rows, and inserts them."""

from __future__ import annotations

import functools
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from sweeper.disk.arrays import add_texts
from sweeper.records import (
    REFUSED,
    SPARE,
    USAGE,
    Asked,
    Decision,
    Event,
    Finished,
    GaveUp,
    Interrupted,
    Lost,
    Outcome,
    Planned,
    Point,
    Refused,
    Spared,
    Started,
    Told,
)
from sweeper.signature import encode
from sweeper.store.database.connection import Database
from sweeper.store.database.damage import seal, seal_outcome
from sweeper.store.database.schema import COLUMNS


class Rows(NamedTuple):
    """Rows to insert, by table: inserting many at once takes a fraction of the time."""

    points: list[tuple[Any, ...]]
    outcomes: list[tuple[Any, ...]]
    decisions: list[tuple[Any, ...]]
    log: list[tuple[Any, ...]]
    """Without checksums: most are known when a folder is opened again."""
    events: list[tuple[Any, ...]]


def rows_of(database: Database, selector: str, records: Iterable[Event | Decision]) -> Rows:
    """The rows of records; new points are registered in `database`.

    Rows of the log are written under the name `selector`.
    """
    rows = Rows([], [], [], [], [])
    ids = database.ids()
    ended: list[Outcome] = []
    for record in records:
        match record:
            case Finished(outcome=outcome) | GaveUp(outcome):
                rows.outcomes.append(_outcome_row(ids[outcome.point], outcome))
                ended.append(outcome)
            case Told(point=signature, what=what):
                rows.log.append((selector, what, ids[signature], _told_text(record)))
            case Asked(point=None):
                rows.log.append((selector, "waits", None, "null"))
            case Asked(point=Point() as point, id=point_id):
                if database.add_id(point_id, point.signature):
                    rows.points.append(_sealed(point_id, point.signature, point.encoded))
                rows.log.append((selector, "asked", point_id, _asked_text(record)))
            case Started() | Lost() | Interrupted() | Spared():
                rows.events.append(_event_row_of(ids, record))
            case Refused(encoded, message):
                told = {"selector": selector, "params": encoded, "message": message}
                rows.events.append(_event_row(time.time(), REFUSED, None, None, told))
            case Planned(signature, step, after, choice, arrays):
                texts = (json.dumps(asdict(step)), json.dumps(dict(choice)))
                row = (ids[signature], after, *texts)
                rows.decisions.append((*row, arrays, seal(*row)))
    rows.events.extend(_usage_rows(ids, ended))
    return rows


def _outcome_row(point_id: int, outcome: Outcome) -> tuple[Any, ...]:
    failure = None if outcome.failure is None else json.dumps(asdict(outcome.failure))
    which = (point_id, outcome.stage, outcome.number)
    metrics = json.dumps(dict(outcome.metrics))
    crc = seal_outcome(*which, metrics, failure)
    info = {name: text for name, text in outcome.info.items() if name != USAGE}
    arrays = add_texts(outcome.arrays, info) if info else outcome.arrays
    return (*which, outcome.started, outcome.ended, metrics, arrays, failure, crc)


def _usage_rows(ids: Mapping[str, int], ended: Iterable[Outcome]) -> Iterator[tuple[Any, ...]]:
    """What replicas used, if they say so, as events: it differs from run to run.

    There is one for those of the same point and stage: of short trials a hundred end together.
    """
    by_stage: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in ended:
        if USAGE in outcome.info:
            by_stage[outcome.point, outcome.stage].append(outcome)
    for (point, stage), outcomes in by_stage.items():
        numbers = ", ".join([str(outcome.number) for outcome in outcomes])
        used = ", ".join([outcome.info[USAGE] for outcome in outcomes])
        value = f'{{"numbers": [{numbers}], "used": [{used}]}}'
        yield (outcomes[-1].ended, USAGE, ids[point], stage, value)


def _event_row_of(
    ids: Mapping[str, int], event: Started | Lost | Interrupted | Spared
) -> tuple[Any, ...]:
    match event:
        case Started(when, job, slot, others):
            value = {"numbers": job.numbers, "slot": slot, "job": job.id}
            if others:
                value["others"] = others
            return _event_row(when, "started", ids[job.point], job.stage, value)
        case Lost(when, job, numbers, cause):
            lost = {"numbers": numbers, "cause": asdict(cause), "job": job.id}
            return _event_row(when, "lost", ids[job.point], job.stage, lost)
        case Interrupted(when, signal):
            return _event_row(when, "interrupted", None, None, {"signal": signal})
        case Spared(signature, stage, number):
            return _event_row(time.time(), SPARE, ids[signature], stage, {"number": number})


def _event_row(
    time: float, kind: str, point_id: int | None, stage: str | None, value: Mapping[str, Any]
) -> tuple[Any, ...]:
    return (time, kind, point_id, stage, json.dumps(value))


def _sealed(*values: Any) -> tuple[Any, ...]:
    return (*values, seal(*values))


def _asked_text(asked: Asked) -> str:
    """The number of trials; an object if they have a budget, a group or a parent."""
    parent = asked.parent
    if asked.budget is None and not asked.group and parent is None:
        return _counts_text(asked.trials)
    told = {"trials": asked.trials, "budget": asked.budget, "group": asked.group}
    if parent is None:
        return json.dumps(told)
    params = encode(parent.params, as_given=True)
    own = {"params": params, "trial": parent.trial, "budget": parent.budget}
    of_parent = {**own, "lineage": parent.lineage}
    return json.dumps({**told, "parent": of_parent, "lineage": asked.lineage})


def _told_text(told: Told) -> str:
    """The numbers of the trials; an object if they have a budget or a parent."""
    if told.budget is None and not told.lineage:
        return _counts_text(told.numbers)
    found = {"numbers": told.numbers, "budget": told.budget}
    return json.dumps({**found, "lineage": told.lineage} if told.lineage else found)


@functools.lru_cache(maxsize=1_000)
def _counts_text(counts: int | tuple[int, ...]) -> str:
    """As JSON; cached, since most points have the same counts."""
    return json.dumps(counts)


# -- inserting, inside of a transaction -----------------------------------------------------------


def insert(connection: sqlite3.Connection, rows: Rows) -> None:
    """Insert rows, those of points first."""
    rows = rows._replace(log=[_sealed(*row) for row in rows.log])
    for table, (columns, places) in COLUMNS.items():
        if getattr(rows, table):
            connection.executemany(
                f"INSERT INTO {table} ({columns}) VALUES ({places})",  # noqa: S608 - our names
                getattr(rows, table),
            )


def insert_event(
    connection: sqlite3.Connection, time: float, kind: str, value: Mapping[str, Any]
) -> None:
    """Insert an event of the sweep as a whole."""
    insert(connection, Rows([], [], [], [], [_event_row(time, kind, None, None, value)]))


def put_meta(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Store values by name, replacing earlier ones."""
    rows = [(key, json.dumps(value)) for key, value in values.items()]
    connection.executemany(
        "INSERT OR REPLACE INTO meta (key, value, crc) VALUES (?, ?, ?)",
        [_sealed(*row) for row in rows],
    )


def replace_log(connection: sqlite3.Connection, selector: str, rows: Rows) -> None:
    """Delete the log from its first difference to these rows on, and drop the rows it has already.

    So for a hundred thousand points that were asked for before, little is written.
    """
    query = "SELECT selector, kind, point, value FROM log WHERE +selector = ? ORDER BY seq"
    said = connection.execute(query, (selector,))  # +: in the order of the table
    same = 0
    for known, new in zip(said, rows.log, strict=False):
        if known != new:
            break
        same += 1
    said.close()
    del rows.log[:same]
    connection.execute(
        "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE selector = ? "
        "ORDER BY seq LIMIT -1 OFFSET ?)",
        (selector, same),
    )
