"""The tables of the database: created, checked, and upgraded."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sweeper.errors import FolderError
from sweeper.store.database.damage import check_pages, check_tables

SCHEMA_VERSION = 2
"""The version written.  Folders of every earlier version can be read, and are upgraded when a
sweep is resumed in them.  1: rows had no `crc`."""

WITH_CRC = 2
"""The first version whose rows have a checksum."""

SCHEMA = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,            -- JSON
    crc INTEGER                     -- of what the row says, its arrays aside, which have their own
) WITHOUT ROWID;
CREATE TABLE points (
    id INTEGER PRIMARY KEY,         -- from 0, in the order of first asking
    signature TEXT NOT NULL UNIQUE,
    params TEXT NOT NULL,           -- canonical encoding
    crc INTEGER
);
CREATE TABLE outcomes (
    point INTEGER NOT NULL REFERENCES points,
    stage TEXT NOT NULL,
    number INTEGER NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    metrics TEXT NOT NULL,          -- JSON
    arrays BLOB NOT NULL,           -- .npz, or empty
    failure TEXT,                   -- JSON
    crc INTEGER,
    PRIMARY KEY (point, stage, number)
) WITHOUT ROWID;
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,
    point INTEGER NOT NULL REFERENCES points,
    after TEXT NOT NULL,            -- the stage that ended
    step TEXT NOT NULL,             -- JSON
    choice TEXT NOT NULL,           -- JSON
    arrays BLOB NOT NULL,
    crc INTEGER
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    selector TEXT NOT NULL,
    kind TEXT NOT NULL,             -- asked, waits, hparams, trials, failed
    point INTEGER REFERENCES points,
    value TEXT NOT NULL,            -- JSON: trials asked, or numbers told
    crc INTEGER
);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,             -- opened, started, lost, interrupted, code_changed,
                                    -- failures_forgotten, refused, usage, environment, spare
    point INTEGER REFERENCES points,
    stage TEXT,
    value TEXT NOT NULL             -- JSON
);
CREATE INDEX log_by_selector ON log (selector, seq);
CREATE INDEX decisions_by_point ON decisions (point, seq);
CREATE INDEX events_by_kind ON events (kind, seq);
"""

# In the order of insertion: a point goes before the rows that refer to it.
COLUMNS = {
    "points": ("id, signature, params, crc", "?, ?, ?, ?"),
    "outcomes": (
        "point, stage, number, started, ended, metrics, arrays, failure, crc",
        "?, ?, ?, ?, ?, ?, ?, ?, ?",
    ),
    "decisions": ("point, after, step, choice, arrays, crc", "?, ?, ?, ?, ?, ?"),
    "log": ("selector, kind, point, value, crc", "?, ?, ?, ?, ?"),
    "events": ("time, kind, point, stage, value", "?, ?, ?, ?, ?"),
}

SEALED = {
    "meta": ("key", "value"),
    "points": ("id", "signature", "params"),
    "decisions": ("point", "after", "step", "choice"),
    "log": ("selector", "kind", "point", "value"),
}
"""The columns that a row's `crc` covers; for outcomes see `seal_outcome`."""

TABLES = ("meta", *COLUMNS)


def is_new(connection: sqlite3.Connection) -> bool:
    """Whether the database is empty."""
    made = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return not made and connection.execute("PRAGMA user_version").fetchone()[0] == 0


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Check that it is a sweep's database, undamaged, and of a known version.

    Raises:
        FolderError: it is not.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= version <= SCHEMA_VERSION:
        raise FolderError(
            f"{path} has format {version}, and this version of sweeper reads formats 1 to "
            f"{SCHEMA_VERSION}: use the version of sweeper that wrote it, or a later one"
        )
    check_tables(connection, path, TABLES)
    check_pages(connection, path)


def bring_up(connection: sqlite3.Connection) -> None:
    """Upgrade a database of an earlier version."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < WITH_CRC:
        added = "".join(
            f"ALTER TABLE {table} ADD COLUMN crc INTEGER;" for table in TABLES if table != "events"
        )
        connection.executescript(f"BEGIN;{added}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
