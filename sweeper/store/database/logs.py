"""Finds the name of a selector's log in a folder."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.store.database.store import Store


def log_name(store: Store, names: Sequence[str]) -> str:
    """The name under which a selector's log continues in this folder.

    A log begun under an earlier name keeps it: so all its rows have one name, and the release that
    began the folder still finds them.

    Args:
        store: The folder's database.
        names: The selector's current and earlier names, at least one; a new log gets the first.
    """
    query = "SELECT 1 FROM log WHERE selector = ? LIMIT 1"
    with store.understood():
        for name in names:
            if store.connection.execute(query, (name,)).fetchone() is not None:
                return name
    return names[0]
