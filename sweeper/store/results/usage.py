"""Reads what trials of a program used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from sweeper.records import USAGE, Outcome, Usage
from sweeper.store.database.rows import expect, read_documents
from sweeper.store.database.store import Store

Used: TypeAlias = Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]
"""What trials used, as stored: by signature and stage, then by number."""


def read_usage(store: Store) -> Used:
    """What all trials used."""
    # An event has no point any more if its sweep was begun anew, since nothing had succeeded.
    query = "SELECT point, stage, value FROM events WHERE kind = ? AND point NOT NULL ORDER BY seq"
    rows = store.connection.execute(query, (USAGE,)).fetchall()
    signatures = store.signatures()
    told = read_documents(value for _, _, value in rows)
    found: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    for (point_id, stage, _), one in zip(rows, told, strict=True):
        found[signatures[point_id], stage].update(_by_number(one))
    return found


def _by_number(told: Mapping[str, Any]) -> Iterable[tuple[int, Any]]:
    """What an event tells of each trial: earlier releases stored one for each."""
    if "number" in told:
        return [(told["number"], told["used"])]
    return zip(told["numbers"], told["used"], strict=True)


def usage_of(
    trials: Sequence[Outcome], used: Mapping[int, Mapping[str, Any]]
) -> tuple[Usage | None, ...]:
    """What these trials used, of what is known of their point; None: its folder does not say.

    Raises:
        ValueError: what is stored is nothing that a trial can use.
    """
    found = [used.get(trial.number) for trial in trials]
    _check([one for one in found if one is not None])
    return tuple(
        [
            None
            if one is None
            else Usage(
                trial.started,
                trial.ended,
                one["cpu_seconds"],
                one["peak_bytes"],
                one["host"],
                tuple(one["cores"]),
            )
            for trial, one in zip(trials, found, strict=True)
        ]
    )


def _check(found: Sequence[Mapping[str, Any]]) -> None:
    """The types of all at once, since there may be a million."""
    kinds = {"cpu_seconds": float, "peak_bytes": int, "host": str, "cores": list}
    for name, kind in kinds.items():
        expect({type(one[name]) for one in found} <= {kind}, "what a trial used", found)
    cores = chain.from_iterable([one["cores"] for one in found])
    expect({*map(type, cores)} <= {int}, "what a trial used", found)
