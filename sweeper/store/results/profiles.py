"""The profiles of all trials as one table."""

from __future__ import annotations

import contextlib
import csv
from collections import defaultdict
from pathlib import Path

from sweeper.disk.files import write_swapped
from sweeper.records import PROFILE, PROFILE_COLUMNS
from sweeper.store.paths import Paths

_MOST_SHOWN = 200
"""Functions in the table: those that took longest."""

Costs = tuple[int, float, float]
"""Calls, own seconds, and seconds with all that was called."""


def write_profile(paths: Paths) -> None:
    """Write what all trials have profiled, added up; nothing without a profile.

    Raises:
        DiskError: it cannot be written.
    """
    found = sorted(paths.points.glob(f"*/trials/*/{PROFILE}"))
    if not found:
        return
    total: dict[str, Costs] = defaultdict(lambda: (0, 0.0, 0.0))
    for path in found:
        for function, costs in _read(path).items():
            calls, own, all_told = total[function]
            total[function] = (calls + costs[0], own + costs[1], all_told + costs[2])
    write_swapped(paths.profile, _table(total, len(found)).encode())


def _read(path: Path) -> dict[str, Costs]:
    """One trial's profile; what cannot be read is left out."""
    found: dict[str, Costs] = {}
    with contextlib.suppress(OSError, ValueError), path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if tuple(next(rows, ())) != PROFILE_COLUMNS:
            return {}
        for function, calls, own, all_told in rows:
            found[function] = (int(calls), float(own), float(all_told))
    return found


def _table(total: dict[str, Costs], trials: int) -> str:
    ordered = sorted(total.items(), key=lambda item: (-item[1][1], item[0]))
    shown = ordered[:_MOST_SHOWN]
    own_seconds = sum(own for _, (_, own, _) in ordered)
    lines = [
        f"{trials} trials, {own_seconds:.3f} s in {len(ordered)} functions; by their own seconds",
        f"{'calls':>12}  {'own seconds':>12}  {'with callees':>12}  function",
        *(
            f"{calls:>12,}  {own:>12.3f}  {all_told:>12.3f}  {function}"
            for function, (calls, own, all_told) in shown
        ),
    ]
    return "\n".join(lines) + "\n"
