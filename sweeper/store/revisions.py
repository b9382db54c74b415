"""Points that were trained by earlier code: kept, under names that no point goes by."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeper.files import refuse_link
from sweeper.records import CHECK, WAY
from sweeper.store.database import Store
from sweeper.store.paths import Paths
from sweeper.store.rows import APART, expect, is_apart

# As `sweeper.train` calls them.
_FIRST_STAGES, _FINGERPRINT = ("lr_range", "ladder"), "fingerprint"


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point that the folder holds something of."""

    id: int
    name: str
    """Its signature, and which revision it is where it is kept apart."""
    encoded: str
    has_results: bool
    is_tuned: bool
    """Whether a stage of its tuning has ended: what it holds took long."""
    fingerprint: str | None
    """How it behaved, as text; None: nobody knows."""

    @property
    def signature(self) -> str:
        """Of the point that it is, or was."""
        return self.name.partition(APART)[0]

    @property
    def is_apart(self) -> bool:
        """Whether it was trained by earlier code."""
        return is_apart(self.name)


def stored_points(store: Store) -> list[StoredPoint]:
    """All points, in order of id.

    Raises:
        FolderError: the folder says what no sweep writes.
    """
    with store.understood():
        query = "SELECT DISTINCT point FROM outcomes WHERE failure IS NULL AND stage NOT IN (?, ?)"
        ended = {row[0] for row in store.connection.execute(query, (CHECK, WAY))}
        query = "SELECT DISTINCT point FROM decisions WHERE after NOT IN (?, ?, '')"
        tuned = {row[0] for row in store.connection.execute(query, (CHECK, WAY))}
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
    """By name: the fingerprints, which lie beside the first replica of the first stage."""
    found = {}
    first = "stage IN (?, ?) AND number = 0 AND failure IS NULL"
    for outcome in store.outcomes(first, _FIRST_STAGES):
        text = outcome.info.get(_FINGERPRINT)
        if text is not None:
            expect(isinstance(text, str), "a fingerprint", text)
            found[outcome.point] = text
    return found


def asked_by(store: Store, selector: str) -> set[int]:
    """The points that a selector's log is about."""
    with store.understood():
        query = "SELECT DISTINCT point FROM log WHERE selector = ? AND point NOT NULL"
        return {row[0] for row in store.connection.execute(query, (selector,))}


def keep_apart(
    store: Store, paths: Paths, old: Sequence[StoredPoint], back: Sequence[StoredPoint] = ()
) -> None:
    """Keep the `old` under other names, so that their points are new.

    Those that come `back` are what they were before that.
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
    # Also those that a driver had not come to, which died over it.
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
