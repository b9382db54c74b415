"""Work that shares a root, by root: which of it a worker takes, where several are waiting.

Pure.  A worker goes on with the root that it holds; else it takes one that no other worker holds,
so that few roots are built twice.  Neither keeps a core idle: with no such work it takes any, and
work that is known to take twice as long goes first, so that a sweep does not end with it alone.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

URGENT = 2.0
"""Work goes before that of the worker's own root if it takes more than so many times as long."""


class Roots:
    """The waiting trials that have a root: for each root, points by urgency."""

    def __init__(self) -> None:
        self._shelves: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._shelves)

    def add(self, root: str, key: tuple[Any, ...], point: Any) -> None:
        """Note that work of the point waits; `key` begins with minus the seconds of its path."""
        self._shelves.setdefault(root, SortedDict())[key] = point

    def remove(self, root: str, key: tuple[Any, ...]) -> None:
        """Undo `add`."""
        shelf = self._shelves[root]
        del shelf[key]
        if not shelf:
            del self._shelves[root]

    def choose(self, held: str, others: Collection[str], top: tuple[Any, ...]) -> Any | None:
        """The point whose work a worker that holds the root `held` takes; None: the first of all.

        Args:
            held: "": none.
            others: the roots that other workers hold.
            top: the key of the work that is first of all.
        """
        # Among so many roots at least one is not held by the others.
        first = islice(self._shelves, len(others) + 1)
        for root in (held, next((one for one in first if one not in others), "")):
            shelf = self._shelves.get(root)
            if shelf:
                key, point = shelf.peekitem(0)
                # Seconds are negative in keys; those that are not known are minus infinity.
                if top[0] >= URGENT * key[0] or top[0] == float("-inf"):
                    return point
        return None
