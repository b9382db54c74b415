"""A sweep that is refused before it has begun: what it made in its folder is removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sweeper.disk.files import explained
from sweeper.errors import DiskError, FolderError
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths, database_files


@dataclass(frozen=True, slots=True)
class Before:
    """What there was before a run."""

    missing: tuple[Path, ...]
    """The folders that were not there, the innermost first."""
    locked: bool
    """Whether there was a file that locks the folder."""

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """What there is now.

        Raises:
            FolderError: no folder can have this path.
            DiskError: it cannot be read.
        """
        outwards = (paths.folder, *paths.folder.parents)
        with explained(paths.folder):
            missing = tuple(folder for folder in outwards if not folder.exists())
            return cls(missing, paths.lock.exists())


@contextlib.contextmanager
def leave_nothing(paths: Paths, before: Before) -> Iterator[None]:
    """Context of a run, under its folder's lock: if no sweep has begun, it leaves nothing.

    What was there before, and what others have put there meanwhile, stays.
    """
    resumes = paths.database.exists()
    try:
        yield
    except DiskError:
        raise  # what is there now may be another's
    except BaseException:
        # What cannot be removed is no reason to say anything else than why the sweep was refused.
        with contextlib.suppress(OSError, FolderError):
            if not resumes and not _has_begun(paths):
                _remove(paths, before)
        raise


def _has_begun(paths: Paths) -> bool:
    if not paths.database.exists():
        return False
    with Store.read(paths.database) as store:
        return store.has_begun


def _remove(paths: Paths, before: Before) -> None:
    # SQLite's log beside a database that somebody has moved away may be all that there is.
    databases = database_files(paths) if paths.database.exists() else ()
    for path in (*databases, *([] if before.locked else [paths.lock])):
        path.unlink(missing_ok=True)
    for folder in before.missing:
        folder.rmdir()
