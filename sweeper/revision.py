"""What an edit of the problem's code means for a folder that holds results of the code before.

Three looks, the cheap ones first: whether the files say the same; whether Python reads the same in
them; and for each point that has results, whether its fingerprint is the same.
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
from sweeper.results import show_params
from sweeper.signature import decode
from sweeper.store.database import Store
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
from sweeper.workload import Code, OpenWorkload, Source

Take = Callable[[Sequence[tuple[str, str]]], Sequence[str | None]]
"""The fingerprints, as text, that points have now, given their signatures and encoded parameters;
None where it raises."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What came of it."""

    files: tuple[str, ...] = ()
    """What changed, where it matters."""
    mixed: bool = False
    """Whether results of several codes may be among those of the sweep: that was allowed."""


@dataclass(slots=True)
class _Verdict:
    """Points by what became of them."""

    same: list[StoredPoint] = field(default_factory=list)
    other: list[StoredPoint] = field(default_factory=list)
    back: list[StoredPoint] = field(default_factory=list)
    """Those kept apart that are again what they were."""
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
    """See which points of the folder the problem's code still trains; keep the others apart.

    `replayed` is the selector whose log will be replayed, if it is one that has any.

    Raises:
        ChangedCodeError: nobody can tell, or the selector was told of what is no longer; and it is
            not allowed to `allow` for that.
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
        why = why or "the selector was told of results that this code does not give"
        old = []  # its log speaks of them
    if why and not allow:
        shown = f"{why}: {ELSEWHERE}"
        raise ChangedCodeError(
            f"{paths.folder} holds results of other code: {_say(files)} since it was begun, and "
            f"{shown}, or allow_changed_code=True (--allow-changed-code) to mix them"
        )
    keep_apart(store, paths, old, verdict.back)
    _keep(code, store, known or (), [point.id for point in old])
    return Revision(files, mixed=bool(why))


# -- the files ------------------------------------------------------------------------------------


def _changed(workload: OpenWorkload, store: Store) -> tuple[str, ...]:
    """The files of the workload that are not as the folder knows them."""
    code, known = workload.code, kept_sources(store)
    if known is not None:
        return changed_files(known, _with_others(workload, known))
    if store.meta.get("source_sha256", code.own_sha256) == code.own_sha256:
        return ()
    # A folder of an earlier release, which knows the problem's own file alone.
    return (code.own.label,)


def _with_others(workload: OpenWorkload, known: Sequence[Kept]) -> list[Source]:
    """The files, with those that the folder knows and that lie where they did.

    What is imported by a computed name is seen only where the problem is imported anew.
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
    """Whether Python reads the same in all files: comments and line breaks aside."""
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
    """What Python reads in a file; empty where that is not known."""
    try:
        text = text_of(file)
        return "" if text is None else ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return ""


def _keep(code: Code, store: Store, before: Sequence[Kept] = (), apart: Sequence[int] = ()) -> None:
    """The files are the folder's from now on; what was `before` stays to be looked at."""
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
    """What the code of now makes of each point that there are results of."""
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
            if current is not None and state is None:  # it has the name, and nothing else
                verdict.other.append(current)
    return verdict


def _state(workload: OpenWorkload, point: StoredPoint, now: str | None) -> str | None:
    """What became of a point; None: there is nothing of it to be kept apart."""
    if not point.has_results:
        return None
    if not _can_tell(workload, point):
        # Of one that is only in its first stage little is lost.
        return "unknown" if point.is_tuned or workload.code.stale else "other"
    return "same" if workload.is_same(point.fingerprint, now) else "other"


def _can_tell(workload: OpenWorkload, point: StoredPoint) -> bool:
    """Whether its fingerprint is known and says all, and can be taken of the code of now."""
    code = workload.code
    return not (code.incomparable or code.stale) and workload.is_comparable(point.fingerprint)


def _cannot_tell(code: Code, verdict: _Verdict) -> str:
    """Why nobody knows whether the edit concerns some points; empty where that is known."""
    if not verdict.unknown:
        return ""
    if code.stale:
        return f"this process has imported {code.stale[0]!r} before: begin a new one"
    if code.incomparable:
        return code.incomparable
    first = show_params(decode(verdict.unknown[0].encoded))
    more = len(verdict.unknown) - 1
    which = f"{first} and {more} more" if more else first
    return f"there is no record of how {which} behaved before"
