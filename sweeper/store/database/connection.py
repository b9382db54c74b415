"""A folder's open database: checked, read, and written in durable transactions.

One writer, the driver, under the folder's lock; readers open it read-only at any time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from sweeper.disk.files import disk_error, refuse_link
from sweeper.errors import FolderError
from sweeper.store.database.damage import damaged, explained, prepare, seal, understood
from sweeper.store.database.schema import (
    SCHEMA,
    SCHEMA_VERSION,
    SEALED,
    WITH_CRC,
    bring_up,
    check,
    is_new,
)


class Database:
    """An open database, and the ids of its points."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        file = connection.execute("SELECT file FROM pragma_database_list").fetchone()[0]
        self.path = Path(file)
        self._file = self.path.stat() if file else None
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        self.crc = "NULL" if version < WITH_CRC else "crc"
        """The SQL expression for a row's checksum: folders of the first schema have none."""
        self.read_ids()

    # -- opening ----------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, connect: Callable[..., sqlite3.Connection] = sqlite3.connect) -> Self:
        """Open for writing, creating what is missing; the caller holds the folder's lock.

        `connect` makes the connection, as `sqlite3.connect` does.

        Raises:
            FolderError: the file is not a sweep's database, damaged, or of a later version.
            DiskError: it cannot be written.
        """
        with explained(path):
            for end in ("", "-wal", "-shm"):
                refuse_link(path.with_name(f"{path.name}{end}"))
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = connect(path, isolation_level=None)
        try:
            with explained(path):
                prepare(connection)
                if is_new(connection):
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(
                        f"BEGIN;{SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
                    )
                check(connection, path)
                connection.execute("PRAGMA journal_mode = WAL")
                # In WAL mode only FULL syncs every commit.
                connection.execute("PRAGMA synchronous = FULL")
                bring_up(connection)
                return cls(connection)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open for reading only; never blocks the driver.

        Raises:
            FolderError: there is no sweep here, or it is damaged.
            DiskError: it cannot be read.
        """
        with explained(path):
            there = path.is_file()
        if not there:
            raise FolderError(f"{path.parent} holds no sweep: there is no {path.name} in it")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        # To read in WAL mode SQLite creates files beside the database.  If the folder cannot be
        # written, no driver writes either, and SQLite can treat the file as immutable.
        if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
            uri += "&immutable=1"
        with explained(path):
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            with explained(path):
                prepare(connection)
                connection.execute("PRAGMA query_only = ON")
                check(connection, path)
                return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with explained(self.path):
            self.close()
            if isinstance(error, sqlite3.Error):
                raise error

    # -- writing ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is durable at the end, or none of it.

        Raises:
            DiskError: the disk is full or failing, or the folder is gone.
        """
        with explained(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                # A full disk may have ended the transaction already.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                self.read_ids()
                raise
        self._check_there()

    def _check_there(self) -> None:
        """Check that the file was not removed: SQLite would go on writing into the removed file."""
        if self._file is None:
            return
        try:
            if os.path.samestat(self.path.stat(), self._file):
                return
        except OSError:
            pass
        raise disk_error(
            self.path.parent,
            "it was moved, removed or replaced while the sweep ran",
            advice="put it back",
        )

    # -- reading ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Context in which all reads see one state of the database, whatever the driver writes."""
        self.connection.execute("BEGIN")
        try:
            self.read_ids()
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def understood(self) -> contextlib.AbstractContextManager[None]:
        """Context in which rows are interpreted (see `damage.understood`)."""
        return understood(self.path)

    def rows(
        self, table: str, rest: str = "", values: tuple[Any, ...] = (), *, more: str = ""
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a table: the columns that their checksum covers, and `more` columns.

        `rest` is trusted SQL, with a question mark for each of `values`.

        Raises:
            FolderError: a row does not match its checksum.
        """
        sealed = SEALED[table]
        columns = ", ".join([*sealed, self.crc, *([more] if more else [])])
        query = f"SELECT {columns} FROM {table} {rest}"  # noqa: S608 - our names
        count = len(sealed)
        for row in self.connection.execute(query, values):
            said, crc = row[:count], row[count]
            if crc is not None and crc != seal(*said):
                raise damaged(self.path, f"a row of table {table} is not as it was written")
            yield said + row[count + 1 :]

    # -- the ids of points ------------------------------------------------------------------------

    def read_ids(self) -> None:
        """Read the ids of points again: they differ after a rollback or a renaming."""
        rows = self.connection.execute("SELECT id, signature FROM points ORDER BY id")
        self._signatures: dict[int, str] = dict(rows.fetchall())
        self._ids = {signature: point_id for point_id, signature in self._signatures.items()}

    def add_id(self, point_id: int, signature: str) -> bool:
        """Register a point that the transaction adds; returns whether it is new."""
        if signature in self._ids:
            return False
        self._ids[signature] = point_id
        self._signatures[point_id] = signature
        return True

    def ids(self) -> Mapping[str, int]:
        """By signature: the points' ids; a live view."""
        return MappingProxyType(self._ids)

    def signatures(self) -> Mapping[int, str]:
        """By point id: a live view."""
        return MappingProxyType(self._signatures)
