"""Which selector's log a folder holds."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.store.database import Store


def log_name(store: Store, names: Sequence[str]) -> str:
    """The name under which a selector's log goes on in this folder.

    A log that was begun under an earlier name goes on under it: all its rows keep one name, and
    the release that began the folder still finds them.

    Args:
        store: The folder's database.
        names: Those that the selector has or had, one at least; the first is that of a new log.
    """
    query = "SELECT 1 FROM log WHERE selector = ? LIMIT 1"
    with store.understood():
        for name in names:
            if store.connection.execute(query, (name,)).fetchone() is not None:
                return name
    return names[0]
