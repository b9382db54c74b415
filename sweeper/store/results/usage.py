"""Reads what trials of a program used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweeper.records import USAGE, Outcome, Usage
from sweeper.store.database.rows import expect, read_documents
from sweeper.store.database.store import Store


def read_usage(store: Store) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What each trial used, as stored, by signature, stage and number."""
    # An event has no point any more if its sweep was begun anew, since nothing had succeeded.
    query = "SELECT point, stage, value FROM events WHERE kind = ? AND point NOT NULL ORDER BY seq"
    rows = store.connection.execute(query, (USAGE,)).fetchall()
    signatures = store.signatures()
    told = read_documents(value for _, _, value in rows)
    return {
        (signatures[point_id], stage, number): used
        for (point_id, stage, _), one in zip(rows, told, strict=True)
        for number, used in _by_number(one)
    }


def _by_number(told: Mapping[str, Any]) -> Iterable[tuple[int, Any]]:
    """What an event tells of each trial: earlier releases stored one for each."""
    if "number" in told:
        return [(told["number"], told["used"])]
    return zip(told["numbers"], told["used"], strict=True)


def usage_of(trial: Outcome, found: Mapping[tuple[str, str, int], dict[str, Any]]) -> Usage | None:
    """What this trial used; None: its folder does not say."""
    used = found.get((trial.point, trial.stage, trial.number))
    if used is None:
        return None
    seconds, peak = used["cpu_seconds"], used["peak_bytes"]
    host, cores = used["host"], used["cores"]
    whole = type(seconds) is float and type(peak) is int and type(host) is str
    whole = whole and type(cores) is list and {*map(type, cores)} <= {int}
    expect(whole, "what a trial used", used)
    return Usage(trial.started, trial.ended, seconds, peak, host, tuple(cores))
