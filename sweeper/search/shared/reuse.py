"""A selector object serves one sweep: what it asked for in one it does not ask for in another."""

from __future__ import annotations

import weakref

from sweeper.errors import SelectorError
from sweeper.search.selector import ParamSelector

_used: weakref.WeakValueDictionary[int, ParamSelector] = weakref.WeakValueDictionary()
"""By identity, since a selector may not be hashable."""


def take(selector: ParamSelector) -> None:
    """Note that a sweep asks it.

    Raises:
        SelectorError: another has: it would go on from where that ended, and ask for nothing.
    """
    if _used.get(id(selector)) is selector:
        name = type(selector).__name__
        raise SelectorError(
            f"selector {name}: this object was used by another sweep, and would go on from where "
            f"that ended: make a new {name} for each sweep"
        )
    _used[id(selector)] = selector
