"""The metrics in what a command has printed.  Pure: text in, numbers out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.program.metrics import as_number, name_fault


def metrics_in_lines(text: str, declared: Sequence[str]) -> dict[str, float]:
    """The numbers of the last line that is a JSON object with a number; empty if there is none."""
    for line in reversed(re.split(r"[\r\n]+", text)):
        if line.lstrip().startswith("{"):
            found = metrics_in_json(line, declared)
            if found:
                return found
    return {}


def metrics_in_json(text: str, declared: Sequence[str]) -> dict[str, float]:
    """The numbers of a JSON object, and NaN for what is declared and no number.

    All other entries are left out, as are names that no metric can have.  Empty: it is no object,
    or has no number.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(given, dict):
        return {}
    numbers = {name: _number(value) for name, value in given.items() if not name_fault(name)}
    if all(value is None for value in numbers.values()):
        return {}
    return {
        name: math.nan if value is None else value
        for name, value in numbers.items()
        if value is not None or name in declared
    }


def metrics_by_patterns(patterns: Mapping[str, str], texts: Sequence[str]) -> dict[str, float]:
    """The number in each pattern's last match, in the first of the texts that has one.

    A metric whose pattern matches nowhere, or something that is no number, is NaN.  Empty: none
    matches.
    """
    matches = {name: _last_match(pattern, texts) for name, pattern in patterns.items()}
    if all(match is None for match in matches.values()):
        return {}
    return {name: _read_number(match or "") for name, match in matches.items()}


def _last_match(pattern: str, texts: Sequence[str]) -> str | None:
    for text in texts:
        found = None
        for found in re.finditer(pattern, text, re.MULTILINE):  # noqa: B007 - the last is wanted
            pass
        if found is not None:
            return found[1]
    return None


def _read_number(text: str) -> float:
    """The number of a match, which may have taken in the full stop after a sentence."""
    try:
        return float(text.strip().removesuffix("."))
    except ValueError:
        return math.nan


def _number(value: Any) -> float | None:
    try:
        return as_number(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
