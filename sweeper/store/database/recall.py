"""Reads back what a folder stores: all that the study resumes from, and the decisions.

Everything is checked while reading: the rows' checksums, and that a sweep could have written them.
"""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sweeper.disk.arrays import read_texts
from sweeper.records import (
    CHECK,
    METRICS,
    NOT_ITS_FAULT,
    REFUSED,
    TRIAL,
    Asked,
    Failure,
    Outcome,
    Params,
    Point,
    Recorded,
    RecordedTrials,
    Step,
    Told,
)
from sweeper.store.database.connection import Database
from sweeper.store.database.damage import damaged, seal_outcome, seal_outcomes
from sweeper.store.database.rows import (
    AT_ONCE,
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


def recorded(
    database: Database, selector: str, *, log: bool = True, metrics: Sequence[str] = METRICS
) -> Recorded:
    """What the study resumes from; `log` only if the selector is replayed."""
    signatures, steps = database.signatures(), last_steps(database)
    failed, staged = _failed_and_staged(database, metrics)
    return Recorded(
        steps={
            signatures[point_id]: step
            for point_id, step in steps.items()
            if not is_apart(signatures[point_id])
        },
        trials=_trials(database, metrics, failed),
        staged=staged,
        probes=_probes(database, steps),
        tries={key: tuple(found) for key, found in _tries(database).items()},
        ids=dict(database.ids()),
        log=read_log(database, selector) if log else (),
    )


def _trials(
    database: Database, metrics: Sequence[str], failed: Sequence[Outcome]
) -> dict[str, RecordedTrials]:
    """By signature: the results of trials, with these that failed.

    There may be a million: they are read in chunks, and each step handles a whole chunk, in C if
    possible.
    """
    ended: dict[int, dict[int, tuple[float, ...] | Failure]] = defaultdict(dict)
    took: dict[int, float] = {}
    mixed: set[int] = set()
    query = (
        f"SELECT point, number, metrics, {database.crc}, started, ended "  # noqa: S608 - our names
        "FROM outcomes WHERE stage = ? AND failure IS NULL ORDER BY point, stage, number"
    )
    with database.understood():
        cursor = database.connection.execute(query, (TRIAL,))
        while rows := cursor.fetchmany(AT_ONCE):
            points, numbers, texts, crcs, *times = zip(*rows, strict=True)
            expect(are_replicas(numbers, *times), "replicas", rows)
            _check_trials(database, points, numbers, texts, crcs)
            values = in_columns(read_documents(texts), metrics)
            types = set(map(type, itertools.chain.from_iterable(values)))
            expect(types <= {float, int}, "of numbers alone", types)
            for point_id, number, measured in zip(points, numbers, values, strict=True):
                ended[point_id][number] = measured
            took.update(zip(points, map(operator.sub, *reversed(times)), strict=True))
        for one in failed:
            if one.failure is not None:
                point_id = database.ids()[one.point]
                ended[point_id][one.number] = one.failure
                mixed.add(point_id)
        for point_id in mixed:
            ended[point_id] = dict(sorted(ended[point_id].items()))
        return {
            database.signatures()[point_id]: RecordedTrials(found, took.get(point_id, math.nan))
            for point_id, found in ended.items()
        }


def _failed_and_staged(
    database: Database, metrics: Sequence[str]
) -> tuple[list[Outcome], dict[str, dict[str, RecordedTrials]]]:
    """Trials without a budget or a parent that failed, and by signature and stage all others.

    Both are read in one pass, since there may be none among a million.
    """
    failed: list[Outcome] = []
    found: dict[str, dict[str, dict[int, tuple[float, ...] | Failure]]] = {}
    took: dict[tuple[str, str], float] = {}
    where = "(stage = ? AND failure NOT NULL) OR stage GLOB ?"
    for one in read_outcomes(database, where, (TRIAL, f"{TRIAL}[@+]*"), arrays=False):
        if one.stage == TRIAL:
            failed.append(one)
            continue
        among = found.setdefault(one.point, {}).setdefault(one.stage, {})
        if one.failure is None:
            (among[one.number],) = in_columns([one.metrics], metrics)
            took[one.point, one.stage] = one.ended - one.started
        else:
            among[one.number] = one.failure
    return failed, {
        point: {
            stage: RecordedTrials(ended, took.get((point, stage), math.nan))
            for stage, ended in by_stage.items()
        }
        for point, by_stage in found.items()
    }


def _check_trials(database: Database, *columns: tuple[Any, ...]) -> None:
    """Check that trials are valid: points, numbers, metrics, checksums.

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
            raise damaged(database.path, f"{what} is not as it was written")


def _probes(database: Database, steps: Mapping[int, Step]) -> dict[str, tuple[Outcome, ...]]:
    """By signature: the probes of each point's current stage of tuning."""
    running = {
        point_id: step.stage
        for point_id, step in steps.items()
        if not step.is_tuned and step.error is None
    }
    with database.understood():
        query = "SELECT DISTINCT point FROM outcomes"
        begun = running and [row[0] for row in database.connection.execute(query)]
    probes: dict[str, tuple[Outcome, ...]] = {}
    for point_id in begun:
        if point_id in running:
            wanted = (point_id, running[point_id])
            found = tuple(read_outcomes(database, "point = ? AND stage = ?", wanted))
            if found:
                probes[database.signatures()[point_id]] = found
    return probes


def _tries(database: Database) -> dict[tuple[str, str, int], list[Failure]]:
    signatures = database.signatures()
    tries: dict[tuple[str, str, int], list[Failure]] = defaultdict(list)
    with database.understood():
        for point_id, stage, value in database.connection.execute(
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


def last_steps(database: Database) -> dict[int, Step]:
    """By point id: where tuning stands."""
    with database.understood():
        # The last step of each point counts.
        last = {row[0]: row[2] for row in database.rows("decisions", "ORDER BY seq")}
        texts = list(last.values())
        some = (texts[n : n + AT_ONCE] for n in range(0, len(texts), AT_ONCE))
        documents = itertools.chain.from_iterable(map(read_documents, some))
        return dict(zip(last, map(read_step, documents), strict=True))


def read_log(database: Database, selector: str) -> tuple[Asked | Told, ...]:
    """What `selector` asked and was told, in order.

    The points' parameters are as stored: classes are not imported.
    """
    with database.understood():
        points = {
            point_id: Point(signature, read_params(params), params)
            for point_id, signature, params in database.rows("points")
        }
        rows = database.rows("log", "WHERE selector = ? ORDER BY seq", (selector,))
        return tuple(read_entry(points, *entry) for _, *entry in rows)


def read_meta(database: Database) -> dict[str, Any]:
    """All values stored by name."""
    with database.understood():
        found = {key: json.loads(value) for key, value in database.rows("meta")}
        identity, notes = found.get("identity", {}), found.get("notes", [])
        expect(isinstance(identity, dict), "an identity", identity)
        expect(isinstance(identity.get("settings", {}), dict), "settings", identity)
        for name in ("selector", "stopped"):
            expect(isinstance(found.get(name, ""), str), f"a text ({name})", found)
        expect(isinstance(notes, list) and are_texts(notes), "notes", notes)
    return found


def read_notes(database: Database) -> list[str]:
    """The notes on the sweep and on the check of its first point."""
    found: list[str] = list(read_meta(database).get("notes", ()))
    with database.understood():
        for row in database.rows("decisions", "WHERE after = ? ORDER BY seq", (CHECK,)):
            told = json.loads(row[3]).get("notes", [])
            expect(isinstance(told, list) and are_texts(told), "notes", told)
            found += [note for note in told if note not in found]
    return found


def read_refused(database: Database, selector: str) -> list[tuple[Params, str]]:
    """Points that `selector` asked for and whose parameters do not fit, with the reason."""
    found: dict[tuple[str, str], tuple[Params, str]] = {}
    query = "SELECT value FROM events WHERE kind = ? ORDER BY seq"
    with database.understood():
        for (value,) in database.connection.execute(query, (REFUSED,)):
            told = json.loads(value)
            params, message = told["params"], told["message"]
            expect(isinstance(message, str), "a reason", told)
            if told["selector"] == selector:
                found[params, message] = read_params(params), message
    return list(found.values())


def encoded_params(database: Database) -> list[tuple[int, str]]:
    """Each point's id and its parameters' canonical encoding, in order of id."""
    with database.understood():
        return [(row[0], row[2]) for row in database.rows("points", "ORDER BY id")]


def read_decisions(
    database: Database, point_id: int
) -> list[tuple[str, Step, dict[str, Any], bytes]]:
    """A point's decisions, in order: the stage that ended, the step, the choice, the curves."""
    with database.understood():
        rows = database.rows(
            "decisions", "WHERE point = ? ORDER BY seq", (point_id,), more="arrays"
        )
        return [
            (after, read_step(json.loads(step)), json.loads(choice), arrays)
            for _, after, step, choice, arrays in rows
        ]


def read_outcomes(
    database: Database, where: str = "TRUE", values: tuple[Any, ...] = (), *, arrays: bool = True
) -> Iterator[Outcome]:
    """Outcomes, in order of point, stage and number; with or without `arrays`.

    `where` is trusted SQL, with a question mark for each of `values`.
    """
    columns = f"point, stage, number, started, ended, metrics, failure, {database.crc}"
    query = (
        f"SELECT {columns}, {'arrays' if arrays else 'NULL'} FROM outcomes "  # noqa: S608
        f"WHERE {where} ORDER BY point, stage, number"
    )
    with database.understood():
        rows = database.connection.execute(query, values)
    while True:
        with database.understood():
            found = _outcomes_of(database, rows.fetchmany(100))
        if not found:
            return
        yield from found


def _outcomes_of(database: Database, rows: list[Any]) -> list[Outcome]:
    if not rows:
        return []
    metrics = read_documents(row[5] for row in rows)
    _check_outcomes(database, rows)
    signatures, found = database.signatures(), []
    for row, measured in zip(rows, metrics, strict=True):
        point_id, stage, number, started, ended, _, text, _, blob = row
        failure = None if text is None else read_failure(json.loads(text))
        texts = read_texts(blob) if blob else {}
        rest = (measured, blob or b"", failure, texts)
        found.append(Outcome(signatures[point_id], stage, number, started, ended, *rest))
    return found


def _check_outcomes(database: Database, rows: list[Any]) -> None:
    _, _, numbers, started, ended, *_ = zip(*rows, strict=True)
    valid = are_replicas(numbers, started, ended)
    for point_id, stage, number, began, end, written, text, crc, _ in rows:
        if not valid and not are_replicas([number], [began], [end]):
            raise ValueError(f"{stage} {number} of point {point_id} is no replica")
        if crc is not None and crc != seal_outcome(point_id, stage, number, written, text):
            what = f"{stage} {number} of point {point_id}"
            raise damaged(database.path, f"{what} is not as it was written")
