"""The source files of a problem, as stored in its folder."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sweeper.code.carried import NO_FILE
from sweeper.signature import decode
from sweeper.store.database.rows import MOST_TIME, expect
from sweeper.store.database.store import Store
from sweeper.summary import show_params

MOST_EARLIER = 20
"""Maximum number of changes of the files that are stored."""

LARGEST = 2**24
"""Maximum bytes of a text: a larger one is not a source file, but an attack on memory."""


class SourceFile(Protocol):
    """A file as it was read (see `sweeper.code.sources`)."""

    @property
    def label(self) -> str:
        """Its path, relative to the folder of the problem's own file."""

    @property
    def sha256(self) -> str:
        """SHA-256 of its text."""

    @property
    def text(self) -> bytes:
        """Compressed by zlib; empty if not stored."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file as stored in the folder."""

    label: str
    sha256: str
    text: bytes


def as_meta(files: Iterable[SourceFile]) -> dict[str, Any]:
    """Files as plain data, by label."""
    return {
        file.label: {
            "sha256": file.sha256,
            "zlib": base64.b64encode(file.text).decode("ascii"),
        }
        for file in files
    }


def kept_sources(store: Store) -> tuple[Kept, ...] | None:
    """The files of the folder's problem; None: it was begun by a release that stored none.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    with store.understood():
        found = store.meta.get("sources")
        return None if found is None else _from_meta(found)


def _from_meta(found: Mapping[str, Any]) -> tuple[Kept, ...]:
    kept = []
    for label, file in found.items():
        expect(isinstance(file["sha256"], str), "a SHA-256", file["sha256"])
        text = base64.b64decode(file["zlib"], validate=True)
        kept.append(Kept(label, file["sha256"], text))
    return tuple(kept)


def earlier_sources(store: Store) -> tuple[Mapping[str, Any], ...]:
    """The files before each change, the first change first.

    Each entry has its `time`, the ids of the points that were kept `apart`, and `files`.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    with store.understood():
        found = store.meta.get("earlier_sources", [])
        expect(isinstance(found, list), "earlier sources", found)
        for entry in found:
            moment = entry["time"]
            expect(isinstance(moment, float) and abs(moment) < MOST_TIME, "a time", moment)
            expect(isinstance(entry["apart"], list), "a list of points", entry["apart"])
            _from_meta(entry["files"])
    return tuple(found)


def files_of(entry: Mapping[str, Any]) -> tuple[Kept, ...]:
    """The files of an entry of `earlier_sources`."""
    return _from_meta(entry["files"])


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the code."""

    time: float
    """When it was noticed, in seconds since the epoch."""
    apart: tuple[str, ...]
    """The points kept apart because of it, as text for people."""
    before: Mapping[str, str | None]
    """By label: the text of each file before it; None if not stored."""


@dataclass(frozen=True, slots=True)
class CodeHistory:
    """The history of the code in a folder."""

    changes: tuple[Change, ...]
    """In order, the first change first."""
    kept: Mapping[str, str | None]
    """By label: the text of each file when the sweep last ran."""
    folder: str
    """Where the files were."""

    def read_now(self) -> dict[str, str | None]:
        """By label: the current text of the same files; of what has no file, the last one."""
        return {
            label: text if label.endswith(NO_FILE) else read_text(Path(self.folder) / label)
            for label, text in self.kept.items()
        }


def read_code_history(store: Store) -> CodeHistory | None:
    """The history of the code; None: the folder was begun by a release that stored none.

    Raises:
        FolderError: the folder holds what no sweep writes.
    """
    known, earlier = kept_sources(store), earlier_sources(store)
    params = dict(store.encoded_params())
    folder = str(store.meta.get("source_folder", ""))
    with store.understood():
        changes = [
            Change(
                entry["time"],
                tuple(show_params(decode(params[point_id])) for point_id in entry["apart"]),
                _texts(files_of(entry)),
            )
            for entry in earlier
        ]
        return None if known is None else CodeHistory(tuple(changes), _texts(known), folder)


def _texts(files: Iterable[SourceFile]) -> dict[str, str | None]:
    return {file.label: text_of(file) for file in files}


def keep_sources(
    store: Store,
    sources: Iterable[SourceFile],
    *,
    folder: str,
    source_sha256: str,
    earlier: Sequence[Mapping[str, Any]],
) -> None:
    """Store these files as the folder's current ones."""
    store.set_meta(
        {
            "source_sha256": source_sha256,
            "sources": as_meta(sources),
            "source_folder": folder,
            "earlier_sources": list(earlier)[-MOST_EARLIER:],
        }
    )


def text_of(file: SourceFile) -> str | None:
    """The text of a file; None: it was not stored.

    Raises:
        ValueError: the stored bytes are not such a text.
    """
    if not file.text:
        return None
    try:
        text = zlib.decompressobj().decompress(file.text, LARGEST)
    except zlib.error as error:
        raise ValueError(f"{file.label}: {error}") from error
    return text.decode(errors="replace")


def read_text(path: Path) -> str | None:
    """A file's current text; None: it does not exist, or is not a source file."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return None


def changed_files(known: Iterable[SourceFile], now: Iterable[SourceFile]) -> tuple[str, ...]:
    """The labels of the files that differ; a file that has only moved does not."""
    before = {file.label: file.sha256 for file in known}
    after = {file.label: file.sha256 for file in now}
    gone, new = set(before) - set(after), set(after) - set(before)
    moved = {before[label] for label in gone} & {after[label] for label in new}
    changed = {label for label in set(before) & set(after) if before[label] != after[label]}
    changed |= {label for label in gone if before[label] not in moved}
    changed |= {label for label in new if after[label] not in moved}
    return tuple(sorted(changed))
