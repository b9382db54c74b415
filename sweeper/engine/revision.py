"""Decides which results of a folder still hold after an edit of the problem's code.

Three checks, cheapest first: whether the files have the same bytes; whether they have the same
syntax tree; and for each point with results, whether its fingerprint is the same.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeper.errors import ChangedCodeError
from sweeper.signature import decode
from sweeper.store.database.store import Store
from sweeper.store.identity import ELSEWHERE
from sweeper.store.paths import Paths
from sweeper.store.revisions import StoredPoint, asked_by, keep_apart, stored_points
from sweeper.store.sources import (
    Kept,
    as_meta,
    changed_files,
    earlier_sources,
    keep_sources,
    kept_sources,
    text_of,
)
from sweeper.summary import show_params
from sweeper.workload import Code, OpenWorkload, Source

Take = Callable[[Sequence[tuple[str, str]]], Sequence[str | None]]
"""Given signatures and encoded parameters, takes the points' current fingerprints as text; None
for a point that raises."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The result of `follow_code`."""

    files: tuple[str, ...] = ()
    """What changed, if it matters."""
    mixed: bool = False
    """Whether the sweep may mix results of several versions of the code: that was allowed."""


@dataclass(slots=True)
class _Verdict:
    """Points by what happens to them."""

    same: list[StoredPoint] = field(default_factory=list)
    other: list[StoredPoint] = field(default_factory=list)
    back: list[StoredPoint] = field(default_factory=list)
    """Points kept apart that behave as before again."""
    unknown: list[StoredPoint] = field(default_factory=list)


def follow_code(
    workload: OpenWorkload,
    store: Store,
    paths: Paths,
    take: Take,
    *,
    replayed: str | None,
    allow: bool,
) -> Revision:
    """Find which points of the folder the problem's code still trains; keep the others apart.

    `replayed` is the selector whose log will be replayed, if any.

    Raises:
        ChangedCodeError: it cannot be determined, or the selector was told of results that no
            longer exist; and `allow` is False.
    """
    code = workload.code
    files = _changed(workload, store)
    if not files:
        if kept_sources(store) is None:  # of an earlier release
            _keep(code, store)
        return Revision()
    known = kept_sources(store)
    if known is not None and _reads_the_same(known, code.sources):
        _keep(code, store)
        return Revision()
    verdict = _judge(workload, stored_points(store), take)
    why = _cannot_tell(code, verdict)
    old = verdict.other
    if replayed is not None and {point.id for point in old} & asked_by(store, replayed):
        why = why or "the selector was told of results that this code does not reproduce"
        old = []  # its log refers to them
    if why and not allow:
        shown = f"{why}: {ELSEWHERE}"
        raise ChangedCodeError(
            f"{paths.folder} holds results of other code: {_say(files)} since it was begun, and "
            f"{shown}, or allow_changed_code=True (--allow-changed-code) to mix both"
        )
    keep_apart(store, paths, old, verdict.back)
    _keep(code, store, known or (), [point.id for point in old])
    return Revision(files, mixed=bool(why))


# -- the files ------------------------------------------------------------------------------------


def _changed(workload: OpenWorkload, store: Store) -> tuple[str, ...]:
    """The files of the workload that differ from those in the folder."""
    code, known = workload.code, kept_sources(store)
    if known is not None:
        return changed_files(known, _with_others(workload, known))
    if store.meta.get("source_sha256", code.own_sha256) == code.own_sha256:
        return ()
    # A folder of an earlier release has only the problem's own file.
    return (code.own.label,)


def _with_others(workload: OpenWorkload, known: Sequence[Kept]) -> list[Source]:
    """The workload's files, and those that the folder has and that still exist.

    An import by a computed name is seen only when the problem is imported anew.
    """
    code = workload.code
    found = list(code.sources)
    labels = {source.label for source in found}
    folder = Path(code.own.path).parent
    for file in known:
        path = Path(os.path.normpath(folder / file.label))
        if file.label not in labels and path.is_file():
            found.append(workload.read_source(path, folder))
    return found


def _reads_the_same(known: Sequence[Kept], now: Sequence[Source]) -> bool:
    """Whether all files have the same syntax tree: comments and line breaks do not count."""
    before = {file.label: file for file in known}
    after = {file.label: file for file in now}
    if before.keys() != after.keys():
        return False
    return all(
        before[label].sha256 == after[label].sha256
        or _syntax(before[label]) == _syntax(after[label]) != ""
        for label in before
    )


def _syntax(file: Kept | Source) -> str:
    """The syntax tree of a file, as text; empty if not known."""
    try:
        text = text_of(file)
        return "" if text is None else ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return ""


def _keep(code: Code, store: Store, before: Sequence[Kept] = (), apart: Sequence[int] = ()) -> None:
    """Store the files as the folder's current ones; those of `before` stay readable."""
    earlier: list[Mapping[str, Any]] = list(earlier_sources(store))
    if before:
        earlier.append({"time": time.time(), "apart": list(apart), "files": as_meta(before)})
    keep_sources(
        store,
        code.sources,
        folder=str(Path(code.own.path).parent),
        source_sha256=code.own_sha256,
        earlier=earlier,
    )


def _say(labels: Sequence[str]) -> str:
    """Which files changed, as a clause."""
    shown = ", ".join(f"{label!r}" for label in labels[:5])
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"{shown}{more} {'has' if len(labels) == 1 else 'have'} changed"


# -- the points -----------------------------------------------------------------------------------


def _judge(workload: OpenWorkload, points: Sequence[StoredPoint], take: Take) -> _Verdict:
    """Judge each point with results by the current code."""
    verdict = _Verdict()
    live = {point.signature: point for point in points if not point.is_apart}
    apart: dict[str, list[StoredPoint]] = {}
    for point in points:
        if point.is_apart:
            apart.setdefault(point.signature, []).append(point)
    wanted = {
        point.signature: point.encoded
        for point in points
        if _can_tell(workload, point) and (point.has_results or point.is_apart)
    }
    taken = take(list(wanted.items())) if wanted else ()
    now = dict(zip(wanted, taken, strict=True))
    for signature in {**live, **apart}:
        current = live.get(signature)
        state = None if current is None else _state(workload, current, now.get(signature))
        if current is not None and state is not None:
            getattr(verdict, state).append(current)
        if state in ("same", "unknown"):
            continue
        found = now.get(signature)
        again = [
            each for each in apart.get(signature, ()) if workload.is_same(each.fingerprint, found)
        ]
        if again:
            verdict.back.append(again[-1])
            if current is not None and state is None:  # only registered, nothing trained
                verdict.other.append(current)
    return verdict


def _state(workload: OpenWorkload, point: StoredPoint, now: str | None) -> str | None:
    """What happens to a point; None: it has no results to keep apart."""
    if not point.has_results:
        return None
    if not _can_tell(workload, point):
        # A point still in its first stage has little to lose: train it anew.
        return "unknown" if point.is_tuned or workload.code.stale else "other"
    return "same" if workload.is_same(point.fingerprint, now) else "other"


def _can_tell(workload: OpenWorkload, point: StoredPoint) -> bool:
    """Whether its stored fingerprint is complete and can be compared with the current code's."""
    code = workload.code
    return not (code.incomparable or code.stale) and workload.is_comparable(point.fingerprint)


def _cannot_tell(code: Code, verdict: _Verdict) -> str:
    """Why it is not known whether the edit affects some points; empty if it is known."""
    if not verdict.unknown:
        return ""
    if code.stale:
        return f"this process has imported an earlier {code.stale[0]!r}: start a new process"
    if code.incomparable:
        return code.incomparable
    first = show_params(decode(verdict.unknown[0].encoded))
    more = len(verdict.unknown) - 1
    which = f"{first} and {more} more" if more else first
    return f"there is no record of how {which} behaved before"
