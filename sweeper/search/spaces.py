"""Search spaces as they are written on a command line: `hidden=16,64`, `hidden=8:128`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sweeper.errors import UsageError
from sweeper.signature import encode

_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None}
_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?inf")


def read_value(text: str) -> Any:
    """The value of a text: an int, float, bool or None where it reads as one, else a string.

    In quotes it is a string, whatever it reads as.
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read_named(option: str, written: Sequence[str]) -> dict[str, str]:
    """The `name=…` texts of an option that may be given several times, by name.

    Raises:
        UsageError: one is not of that form, or a name is there twice.
    """
    found: dict[str, str] = {}
    for text in written:
        name, sign, rest = (part.strip() for part in text.partition("="))
        if not (name and sign and rest):
            raise UsageError(f"{option} {text!r}: write name=value, without spaces")
        if name in found:
            raise UsageError(f"{option} {text!r}: {name} is given twice")
        found[name] = rest
    return found


def read_grid(written: Sequence[str]) -> dict[str, list[Any]]:
    """The axes of a grid, each written as `name=value,value,…`.

    Raises:
        UsageError: as `read_named`; or a value is empty.
    """
    named = read_named("--grid", written)
    return {name: _read_list(f"--grid {name}={text}", text) for name, text in named.items()}


def read_ranges(written: Sequence[str]) -> dict[str, Any]:
    """Ranges as `FixedSweep.with_random_trials` takes them.

    Each is written as `name=low:high` (both included; integers, or floats when either is one) or
    as `name=value,value,…` (choices).

    Raises:
        UsageError: as `read_named`; an end of a range is no number, or low is above high; a choice
            is empty or there twice.
    """
    named = read_named("--range", written)
    return {name: _read_range(f"--range {name}={text}", text) for name, text in named.items()}


def _read_range(where: str, text: str) -> Any:
    if ":" in text and "," not in text and text[0] not in "'\"":
        ends = tuple(read_value(end) for end in text.split(":"))
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
        if len(ends) != 2 or not numbers or ends[0] > ends[1]:
            raise UsageError(
                f"{where}: write low:high, two numbers of which the first is not the larger, or "
                "choices as a,b,c"
            )
        return ends
    values = _read_list(where, text)
    if len(frozenset(values)) < len(values):
        raise UsageError(f"{where}: a choice is there twice (1, 1.0 and True count as the same)")
    return frozenset(values)


def _read_list(where: str, text: str) -> list[Any]:
    parts = text.split(",")
    if not all(part.strip() for part in parts):
        raise UsageError(f"{where}: a value is empty; for an empty text write ''")
    values = [read_value(part) for part in parts]
    if len({encode(value) for value in values}) < len(values):
        raise UsageError(f"{where}: a value is there twice")
    return values
