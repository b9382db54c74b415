"""Differences of a problem's code, as text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

CONTEXT = 3
"""Lines shown around each change."""


def code_difference(
    before: Mapping[str, str | None], after: Mapping[str, str | None], names: tuple[str, str]
) -> list[str]:
    """The lines of a unified diff of files by label; None stands for a file of unknown text."""
    lines: list[str] = []
    for label in sorted({**before, **after}):
        old, new = before.get(label, ""), after.get(label, "")
        if old is None or new is None:
            lines.append(f"{label}: its text was not stored")
            continue
        found = difflib.unified_diff(
            old.splitlines(),
            new.splitlines(),
            f"{label} ({names[0]})",
            f"{label} ({names[1]})",
            n=CONTEXT,
            lineterm="",
        )
        lines += found
    return lines
