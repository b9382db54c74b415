"""Points trained by earlier code: kept apart, under names that no current point has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.disk.files import refuse_link
from sweeper.records import DESCRIBE, UNTRAINED, is_trial
from sweeper.store.database.rows import APART, expect, is_apart
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths

# The names of stages in `sweeper.train`.
_FIRST_STAGES, _FINGERPRINT = ("lr_range", "ladder", DESCRIBE), "fingerprint"


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point in the folder, current or kept apart."""

    id: int
    name: str
    """Its signature, followed by its revision if it is kept apart."""
    encoded: str
    has_results: bool
    is_tuned: bool
    """Whether a stage of its tuning has ended: its results took long."""
    fingerprint: str | None
    """Its fingerprint, as text; None: not known."""

    @property
    def signature(self) -> str:
        """The signature of the point that it is, or was."""
        return self.name.partition(APART)[0]

    @property
    def is_apart(self) -> bool:
        """Whether it was trained by earlier code."""
        return is_apart(self.name)


def stored_points(store: Store) -> list[StoredPoint]:
    """All points, in order of id.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    with store.understood():
        query = (
            "SELECT DISTINCT point, stage FROM outcomes "
            "WHERE failure IS NULL AND stage NOT IN (?, ?, ?)"
        )
        rows = store.connection.execute(query, UNTRAINED).fetchall()
        ended = {point for point, _ in rows}
        query = "SELECT DISTINCT point FROM decisions WHERE after NOT IN (?, ?, ?, '')"
        tuned = {row[0] for row in store.connection.execute(query, UNTRAINED)}
        tuned |= {point for point, stage in rows if is_trial(stage)}
        prints = _fingerprints(store)
        names = store.signatures()
        return [
            StoredPoint(
                point_id,
                names[point_id],
                encoded,
                point_id in ended,
                point_id in tuned,
                prints.get(names[point_id]),
            )
            for point_id, encoded in store.encoded_params()
        ]


def _fingerprints(store: Store) -> dict[str, str]:
    """By name: the fingerprints, which are stored with the first replica of the first stage."""
    found = {}
    first = "stage IN (?, ?, ?) AND number = 0 AND failure IS NULL"
    for outcome in store.outcomes(first, _FIRST_STAGES):
        text = outcome.info.get(_FINGERPRINT)
        if text is not None:
            expect(isinstance(text, str), "a fingerprint", text)
            found[outcome.point] = text
    return found


def asked_by(store: Store, selector: str) -> set[int]:
    """The ids of the points in a selector's log."""
    with store.understood():
        query = "SELECT DISTINCT point FROM log WHERE selector = ? AND point NOT NULL"
        return {row[0] for row in store.connection.execute(query, (selector,))}


def keep_apart(
    store: Store, paths: Paths, old: Sequence[StoredPoint], back: Sequence[StoredPoint] = ()
) -> None:
    """Rename the `old` points, so that their signatures count as new.

    Points that come `back` get their names back.
    """
    used: dict[str, int] = defaultdict(int)
    for point in stored_points(store):
        number = re.sub(r"^\D*", "", point.name.partition(APART)[2])
        used[point.signature] = max(used[point.signature], int(number or 0))
    names: dict[int, str] = {}
    for point in old:
        used[point.signature] += 1
        names[point.id] = f"{point.signature}{APART}{used[point.signature]}"
    names |= {point.id: point.signature for point in back}
    store.rename_points(names)
    # Includes points whose files an earlier driver had not moved when it died.
    apart = {point_id: is_apart(name) for point_id, name in store.signatures().items()}
    came_back = {point.id for point in back}
    _move(paths, {each: aside for each, aside in apart.items() if aside or each in came_back})


def _move(paths: Paths, apart: Mapping[int, bool]) -> None:
    """Move the files of points aside, or back."""
    refuse_link(paths.apart(0).parent)
    for point_id, aside in apart.items():
        here, there = paths.point(point_id), paths.apart(point_id)
        source, target = (here, there) if aside else (there, here)
        if source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
