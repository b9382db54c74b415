"""Rows of texts in columns."""

from __future__ import annotations

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row; the last cell of a row is as long as it likes."""
    columns = range(max(map(len, rows)) - 1)
    widths = [max(len(row[at]) for row in rows if at < len(row) - 1) for at in columns]
    return [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]
        ).rstrip()
        for row in rows
    ]
