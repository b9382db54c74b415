"""Detects damaged and forged databases: reported as errors, never read as results.

SQLite checks its pages; rows have checksums of their own, since a digit that flipped is still a
number.  Against malice, tables must be plain tables, and a row that no sweep could have written is
refused.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from sweeper.disk import files
from sweeper.errors import FolderError, SweeperError

ELSEWHERE = (
    "take the folder from a backup, or begin anew in another folder or with resume=False "
    "(--no-resume)"
)


def seal(*values: Any) -> int:
    """The checksum of these values of a row."""
    text = "\n".join(map(str, values))
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def seal_outcome(point: int, stage: str, number: int, metrics: str, failure: str | None) -> int:
    """As `seal`, but fast, for a million outcomes: the checksum starts from the outcome's key."""
    text = metrics if failure is None else f"{metrics}\n{failure}"
    begin = _begin(stage) ^ (point * 2_654_435_761 + number)
    return zlib.crc32(text.encode(), begin & 0xFFFFFFFF)


def seal_outcomes(stage: str, rows: Iterable[tuple[int, int, str]]) -> list[int]:
    """The checksums of outcomes of a stage, given as point, number and metrics.

    It is `seal_outcome` written out: a call for each would take as long again.
    """
    crc32, begin = zlib.crc32, _begin(stage)
    return [
        crc32(text.encode(), (begin ^ (point * 2_654_435_761 + number)) & 0xFFFFFFFF)
        for point, number, text in rows
    ]


@lru_cache(maxsize=64)
def _begin(stage: str) -> int:
    return zlib.crc32(stage.encode())


def damaged(path: Path, reason: str) -> FolderError:
    """The error for a damaged database: what is wrong, and what to do."""
    return FolderError(f"{path} is damaged, or no sweep wrote it: {reason}: {ELSEWHERE}")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of SQLite or the system into one that says what to do.

    Raises:
        DiskError: the disk failed.
        FolderError: the file is damaged.
    """
    try:
        with files.explained(path):
            yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InternalError):
        raise  # a bug in sweeper
    except sqlite3.DatabaseError as error:
        raise explain(path, error) from error


_REFUSED = {
    "SQLITE_FULL": "make room on its disk",
    "SQLITE_IOERR": "check whether its disk is failing, full, over a quota, or gone",
    "SQLITE_READONLY": "see that you may write there",
    "SQLITE_PERM": "see that you may write there",
    "SQLITE_CANTOPEN": "check that the folder exists and that you may write there, or copy it to "
    "where you may (after a sweep that ended suddenly even reading needs that)",
    "SQLITE_BUSY": "see what else has it open",
    "SQLITE_LOCKED": "see what else has it open",
    "SQLITE_PROTOCOL": "its file system may have no working locks: use a disk of this machine",
    "SQLITE_NOLFS": "its file system holds no large files: use another",
}
"""Advice, by the beginning of SQLite's error name."""


def explain(path: Path, error: sqlite3.Error) -> SweeperError:
    """The error of SQLite, as an error for users."""
    name = str(getattr(error, "sqlite_errorname", ""))
    for beginning, advice in _REFUSED.items():
        if name.startswith(beginning):
            return files.disk_error(path, f"{error}", advice=advice)
    return damaged(path, str(error))


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn errors from interpreting rows into one that says what to do.

    Raises:
        FolderError: a row holds what no sweep writes.
    """
    try:
        with explained(path):
            yield
    except SweeperError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    except (MemoryError, RecursionError) as error:
        raise damaged(path, "a value is nested too deep, or too large") from error


# -- the file as a whole --------------------------------------------------------------------------


def prepare(connection: sqlite3.Connection) -> None:
    """Set SQLite to distrust the file's schema and pages."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Check that its pages form a tree: one with a cycle would be read for ever.

    Raises:
        FolderError: they do not.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, " ".join(str(found).split()))


def check_tables(connection: sqlite3.Connection, path: Path, tables: tuple[str, ...]) -> None:
    """Check that the tables are plain tables: a view may be endless, a trigger runs by itself.

    Raises:
        FolderError: one is missing or not a plain table, or there are others.
    """
    rows = connection.execute("SELECT type, name, rootpage FROM sqlite_schema").fetchall()
    for kind, name, root in rows:
        # SQLite's own tables (ANALYZE) have reserved names.
        if kind not in ("table", "index") or not root:
            raise damaged(path, f"it has a {kind} {name!r}")
    found = {name for kind, name, _ in rows if kind == "table"}
    for table in tables:
        if table not in found:
            raise damaged(path, f"it has no table {table!r}")
        columns = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table,))
        for column, hidden in columns:
            if hidden:
                raise damaged(path, f"column {column!r} of table {table!r} is computed")
