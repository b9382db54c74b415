"""What the last selector asked for, folded from its log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sweeper.records import Asked, Parent, Point, budget_of, is_trial, lineage_of, trial_stage
from sweeper.store.database.rows import is_apart
from sweeper.store.database.store import Store


@dataclass(slots=True)
class AskedTrials:
    """The trials of a point that were asked for with the same budget, group and parent."""

    id: int
    signature: str
    encoded: str
    budget: int | None = None
    group: str = ""
    lineage: str = ""
    parent: Parent | None = None
    """The trial that they begin from; None also where it is not known any more."""
    numbers: list[range] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """How many of these trials had been asked for after each ask."""
    spares: range = range(0)
    """Trials that nobody asked for, and that count among these (see `spare.py`)."""

    @property
    def stage(self) -> str:
        """The stage of these trials."""
        return trial_stage(self.budget, self.lineage)

    @property
    def trials(self) -> int:
        """How many they are."""
        return sum(map(len, self.numbers))

    @property
    def end(self) -> int:
        """The number after the last of them."""
        return self.numbers[-1].stop

    def __contains__(self, number: int) -> bool:
        for some in self.numbers:  # not `any`: it is asked of each trial of a folder
            if number in some:
                return True
        return number in self.spares

    def add(self, begin: int, trials: int) -> None:
        """Add trials from number `begin` on."""
        end = begin + trials
        if self.numbers and self.numbers[-1].stop == begin:
            begin = self.numbers.pop().start
        self.numbers.append(range(begin, end))
        self.ends.append(trials + (self.ends[-1] if self.ends else 0))

    def asks_of(self, numbers: Iterable[int]) -> list[int]:
        """The ask, from 0, with which each of these was asked for; of spare trials, the last."""
        found = []
        for number in numbers:
            if number in self.spares:
                found.append(len(self.ends) - 1)
                continue
            before = 0
            for some in self.numbers:
                if number in some:
                    found.append(bisect_right(self.ends, before + number - some.start))
                    break
                before += len(some)
        return found


def asked_trials(store: Store) -> list[AskedTrials]:
    """What the last selector asked for, in the order of first asking.

    Trials of a point with the same budget and parent are numbered in the order of asking, whatever
    the group.
    """
    found: dict[tuple[str, str, str], AskedTrials] = {}
    counts: dict[tuple[str, str], int] = {}
    for entry in store.log(store.meta.get("selector", "")):
        if not isinstance(entry, Asked) or not entry.point or is_apart(entry.point.signature):
            continue
        point = entry.point
        key = (point.signature, entry.stage, entry.group)
        if key not in found:
            found[key] = _of(entry, point)
        begin = counts.get(key[:2], 0)
        found[key].add(begin, entry.trials)
        counts[key[:2]] = begin + entry.trials
    return list(found.values())


def _of(entry: Asked, point: Point) -> AskedTrials:
    own = (entry.id, point.signature, point.encoded)
    return AskedTrials(*own, entry.budget, entry.group, entry.lineage, entry.parent)


def unasked_trials(store: Store, asked: Sequence[AskedTrials]) -> list[AskedTrials]:
    """The trials of all other points, budgets and parents, in the order of the points' ids.

    They were asked for by an earlier run; with which group and parent is not known any more.
    """
    known = {(one.id, one.stage) for one in asked}
    params = dict(store.encoded_params())
    signatures = store.signatures()
    found: list[AskedTrials] = []
    query = "SELECT point, stage, max(number) FROM outcomes GROUP BY point, stage ORDER BY point"
    for point_id, stage, last in store.connection.execute(query):
        if (
            (point_id, stage) not in known
            and is_trial(stage)
            and not is_apart(signatures[point_id])
        ):
            own = (point_id, signatures[point_id], params[point_id])
            one = AskedTrials(*own, budget_of(stage), lineage=lineage_of(stage))
            one.add(0, last + 1)
            found.append(one)
    return found
