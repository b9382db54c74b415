"""The notes of results: how they came about, where tables do not show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sweeper.errors import plural
from sweeper.records import COMPILED, EAGER, FINAL, Metric, Step
from sweeper.results import PointTrials
from sweeper.signature import decode
from sweeper.store.database.rows import is_apart
from sweeper.store.database.store import Store
from sweeper.store.results.asked import AskedTrials
from sweeper.store.results.tuned import TrialSettings
from sweeper.summary import show_params

_SHOWN = 5
"""Maximum number of points that a note names."""


def unmeasured_notes(points: Sequence[PointTrials], metrics: Sequence[Metric]) -> list[str]:
    """How many trials of a program lack a metric, as notes."""
    found = []
    for metric in metrics:
        values = np.concatenate([np.zeros(0), *(point.values(metric.name) for point in points)])
        lacking = int(np.isnan(values).sum())
        if lacking:
            trials = plural(len(values), "trial")
            found.append(f"{metric.name} is missing or not a number in {lacking} of {trials}")
    return found


def apart_note(store: Store, steps: Mapping[int, Step]) -> list[str]:
    """Which points were trained by earlier code, as a note."""
    names = store.signatures()
    found = [
        show_params(decode(encoded))
        for point_id, encoded in store.encoded_params()
        if is_apart(names[point_id]) and steps.get(point_id, Step("")).is_tuned
    ]
    if not found:
        return []
    shown = "; ".join(found[:_SHOWN]) + ("; …" if len(found) > _SHOWN else "")
    points = "1 point was" if len(found) == 1 else f"{len(found)} points were"
    is_kept = _are(len(found))
    how = "`sweeper show FOLDER --code` shows what changed"
    return [f"{points} trained by earlier code and {is_kept} kept apart: {shown} ({how})"]


def spare_note(asked: Sequence[AskedTrials]) -> list[str]:
    """How many spare trials count, as a note."""
    found = [(len(one.spares), one) for one in asked if one.spares]
    if not found:
        return []
    counts = [
        f"{plural(count, 'spare trial')} of {show_params(decode(one.encoded))}"
        for count, one in found[:_SHOWN]
    ]
    more = sum(count for count, _ in found[_SHOWN:])
    shown = "; ".join([*counts, *([f"{more} of other points"] if more else [])])
    return [f"{shown}: nobody asked for these; how many there are depends on time and cores"]


def chosen_notes(asked: Sequence[AskedTrials], compare_by: Sequence[str]) -> list[str]:
    """With which other parameters the points are compared that count as one, as notes."""
    found: dict[str, list[str]] = {}
    for one in asked:
        params = decode(one.encoded)
        if one.group == FINAL and compare_by and isinstance(params, Mapping):
            own = {name: value for name, value in params.items() if name in compare_by}
            others = {name: value for name, value in params.items() if name not in compare_by}
            found.setdefault(show_params(own), []).append(show_params(others))
    shown = list(found.items())[:_SHOWN]
    more = [f"and of {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"chosen for {name}: {' | '.join(others)}" for name, others in shown] + more


def unasked_notes(trials: Sequence[AskedTrials], asked: Sequence[AskedTrials]) -> list[str]:
    """How many points only earlier runs asked for, at all or otherwise, as notes."""
    known = {one.id for one in asked}
    found = {one.id for one in trials}
    hidden = "not asked for now and not shown (`sweeper show FOLDER --all` shows every point)"
    notes = []
    if count := len(found - known):
        notes.append(f"{plural(count, 'point')} of the folder {_are(count)} {hidden}")
    if count := len(found & known):
        notes.append(f"trials of other budgets or parents of {plural(count, 'point')} are {hidden}")
    return notes


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def modes_note(settings: Sequence[TrialSettings]) -> list[str]:
    """How many of these tuned points train in packs, and why others do not."""
    told = [one for one in settings if one.mode is not None]
    if not told:
        return []
    why = Counter(one.because for one in told if one.mode == EAGER)
    eager = "".join(f"; {count} one by one: {reason}" for reason, count in why.most_common())
    compiled = sum(one.mode == COMPILED for one in told)
    native = f", {compiled} of them compiled" if compiled else ""
    return [f"training: {len(told) - why.total()} of {len(told)} points in packs{native}{eager}"]
