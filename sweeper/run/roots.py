"""Work that shares a root, by root: which of it a worker takes, where several are waiting.

Pure.  A worker goes on with the root that it holds; else it takes one that no other worker holds,
so that few roots are built twice.  Neither keeps a core idle: with no such work it takes any, and
work that is known to take twice as long goes first, so that a sweep does not end with it alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

URGENT = 2.0
"""Work goes before that of the worker's own root if it takes more than so many times as long."""


class Roots:
    """The waiting trials that have a root, by how many slots they take, by root, and by urgency."""

    def __init__(self) -> None:
        self._shelves: dict[int, dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._shelves)

    def add(self, taken: int, root: str, key: tuple[Any, ...], point: Any) -> None:
        """Note that work of the point waits; `key` begins with minus the seconds of its path."""
        self._shelves.setdefault(taken, {}).setdefault(root, SortedDict())[key] = point

    def remove(self, taken: int, root: str, key: tuple[Any, ...]) -> None:
        """Undo `add`."""
        shelves = self._shelves[taken]
        del shelves[root][key]
        if not shelves[root]:
            del shelves[root]
        if not shelves:
            del self._shelves[taken]

    def choose(
        self, taken: int, idle: Collection[str], busy: Collection[str], top: tuple[Any, ...]
    ) -> Any | None:
        """The point whose work one of the idle workers takes; None: the first of all.

        Args:
            taken: how many slots it takes.
            idle: the roots that idle workers hold.
            busy: the roots that other workers hold.
            top: the key of the work that is first of all.
        """
        shelves = self._shelves.get(taken, {})
        for root in _preferred(shelves, idle, busy):
            key, point = shelves[root].peekitem(0)
            # Seconds are negative in keys; those that are not known are minus infinity.
            if top[0] >= URGENT * key[0] or top[0] == -math.inf:
                return point
        return None


def _preferred(
    shelves: dict[str, Any], idle: Collection[str], busy: Collection[str]
) -> Iterator[str]:
    """The roots of idle workers that have work, the most urgent first, then one that is free."""
    held = [root for root in idle if root in shelves]
    yield from sorted(held, key=lambda root: shelves[root].keys()[0])
    # Among so many roots at least one is free.
    first = islice(shelves, len(idle) + len(busy) + 1)
    yield from islice((root for root in first if root not in idle and root not in busy), 1)
