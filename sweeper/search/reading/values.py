"""Parses values, axes and ranges of a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.errors import UsageError
from sweeper.signature import DEEPEST, encode

if TYPE_CHECKING:
    from sweeper.search.domain import Distribution, Domain

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_INT = re.compile(rf"[+-]?{_DIGITS}")
_BITS = re.compile(r"[+-]?0(?:x[0-9a-f]+|o[0-7]+|b[01]+)", re.IGNORECASE)
_FLOAT = re.compile(
    rf"[+-]?(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:e[+-]?{_DIGITS})?", re.IGNORECASE
)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_NAN = re.compile(r"[+-]?nan", re.IGNORECASE)
_QUOTES = "'\""
_CLOSING = {"[": "]", "(": ")", "{": "}"}


def read_value(text: str, where: str = "a value") -> Any:
    """Parse a text as an int, float, bool or None if it looks like one, else as a string.

    Quoted text is always a string; brackets make a list, a tuple or a dict of values, written as in
    Python.

    Raises:
        UsageError: it is NaN or too large, or its quotes or brackets do not match; the message
            begins with `where`.
    """
    text = text.strip()
    if text[:1] in _CLOSING:
        return _read_bracketed(text, where)
    if text and text[0] in _QUOTES:
        return _read_quoted(text, where)
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NAN.fullmatch(text):
        raise UsageError(
            f"{where}: NaN cannot be a parameter, since it equals nothing, not even itself; for a "
            f"text write it in quotes, '{text}'"
        )
    return _read_number(text, where)


def _read_number(text: str, where: str) -> int | float | str:
    if _BITS.fullmatch(text):
        return int(text, 0)
    if _INFINITE.fullmatch(text):
        return float(text)
    if _INT.fullmatch(text):
        if len(text) > _MOST_DIGITS:
            raise UsageError(f"{where}: a number must not have more than {_MOST_DIGITS} digits")
        return int(text)
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        raise UsageError(f"{where}: {text} is too large for a float; for infinity write inf")
    return number


_MOST_DIGITS = 1000


def _read_quoted(text: str, where: str) -> str:
    end = text.find(text[0], 1)
    if end == -1:
        raise UsageError(f"{where}: a quote is not closed; {_AS_TEXT}")
    if end < len(text) - 1:
        raise UsageError(f"{where}: {text[end + 1 :]} stands after a closing quote; {_AS_TEXT}")
    return text[1:-1]


_AS_TEXT = "put a text with quotes, commas or brackets in quotes of the other kind"


def _read_bracketed(text: str, where: str) -> list[Any] | tuple[Any, ...] | dict[Any, Any]:
    """Parse a list, tuple or dict, from its opening bracket on."""
    end = next(place for place, _, depth in _outside_quotes(text, where) if not depth)
    if end < len(text) - 1:
        raise UsageError(f"{where}: there is text after a closing bracket; {_AS_TEXT}")
    parts = _split(text[1:-1], ",", where)
    closed = len(parts) > 1 and not parts[-1].strip()
    if closed or not text[1:-1].strip():
        del parts[-1]  # after a trailing comma, or of an empty list
    if not all(part.strip() for part in parts):
        raise UsageError(f"{where}: a value is empty; for an empty text write ''")
    if text[0] == "{":
        return dict(_read_pair(part, where) for part in parts)
    if text[0] == "[":
        return [read_value(part, where) for part in parts]
    if len(parts) == 1 and not closed:
        raise UsageError(f"{where}: for a tuple of one write ({parts[0].strip()},)")
    return tuple(read_value(part, where) for part in parts)


def _read_pair(part: str, where: str) -> tuple[Any, Any]:
    pair = _split(part, ":", where)
    if len(pair) != 2 or not all(end.strip() for end in pair):
        raise UsageError(
            f"{where}: {part.strip()} is not a key: value pair of a dict (sets are not supported: "
            "write a list or a tuple)"
        )
    key, value = (read_value(end, where) for end in pair)
    if not _is_hashable(key):
        raise UsageError(f"{where}: {pair[0].strip()} cannot be the key of a dict")
    return key, value


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _split(text: str, separator: str, where: str) -> list[str]:
    """The parts between separators that are neither in quotes nor in brackets."""
    parts, start = [], 0
    for place, letter, depth in _outside_quotes(text, where):
        if letter == separator and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _outside_quotes(text: str, where: str) -> Iterator[tuple[int, str, int]]:
    """The characters outside quotes: position, character, and number of open brackets after it.

    A quote counts only at the beginning of a value: in `it's` it is an ordinary character.
    """
    quote, begins = "", True
    expected: list[str] = []
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES and begins:
            quote = letter
        else:
            _note_bracket(letter, expected, where)
            yield place, letter, len(expected)
        begins = letter in ",:[({" or (begins and letter.isspace())
    if quote or expected:
        what = "a quote" if quote else "a bracket"
        raise UsageError(f"{where}: {what} is not closed; {_AS_TEXT}")


def _note_bracket(letter: str, expected: list[str], where: str) -> None:
    """Update the expected closing brackets, the next one last."""
    if letter in _CLOSING:
        expected.append(_CLOSING[letter])
        if len(expected) > DEEPEST:
            raise UsageError(f"{where:.80}…: brackets are nested more than {DEEPEST} deep")
    elif letter in _CLOSING.values() and (not expected or expected.pop() != letter):
        raise UsageError(f"{where}: {letter} closes no bracket; {_AS_TEXT}")


def read_named(option: str, written: Sequence[str]) -> dict[str, str]:
    """The `name=value` texts of a repeatable option, by name.

    Raises:
        UsageError: one is not of that form, or a name is given twice.
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


def read_params(written: Sequence[str]) -> dict[str, Any]:
    """The parameters of one point, each written as `name=value`.

    Raises:
        UsageError: as `read_named` and `read_value`; or there are several values.
    """
    found = {}
    for name, text in read_named("parameter", written).items():
        where = f"parameter {name}={text}"
        if len(_split(text, ",", where)) > 1:
            raise UsageError(
                f"{where}: a point has one value for each parameter: add a point for each; "
                "for a list write [a,b], for a text with a comma put it in quotes"
            )
        found[name] = read_value(text, where)
    return found


def read_option(text: str, where: str) -> Any:
    """The value of an option: a list for `a,b,c`, else as `read_value`.

    Raises:
        UsageError: as `read_value`; or a value of a list is empty or repeated.
    """
    several = len(_split(text, ",", where)) > 1
    return _read_list(where, text) if several else read_value(text, where)


def read_grid(written: Sequence[str]) -> dict[str, list[Any]]:
    """The axes of a grid, each written as `name=value,value,…`.

    Raises:
        UsageError: as `read_named`; or a value is empty.
    """
    named = read_named("--grid", written)
    for name, text in named.items():
        if _read_ends(f"--grid {name}={text}", text) is not None:
            raise UsageError(
                f"--grid {name}={text}: a grid takes values, as in {name}=1,2,3; low:high is for "
                f"--points N --range {name}={text}"
            )
    return {name: _read_list(f"--grid {name}={text}", text) for name, text in named.items()}


def read_domain(grid: Sequence[str], ranges: Sequence[str]) -> Domain:
    """The domain of the axes of a grid and of ranges, axes first.

    A range is written as `name=low:high` (both included; integers where both ends are),
    `name=low:high:log` for a logarithmic scale, or `name=value,value,…` (choices).

    Raises:
        UsageError: as `read_grid`; an end of a range is not a number, low exceeds high, or a name
            is given by both.
    """
    from sweeper.search.domain import Domain

    axes: dict[str, Any] = dict(read_grid(grid))
    for name, text in read_named("--range", ranges).items():
        if name in axes:
            raise UsageError(f"--range {name}={text}: {name} has values by --grid: give one")
        axes[name] = _read_distribution(f"--range {name}={text}", text)
    return Domain(axes)


def _read_distribution(where: str, text: str) -> Distribution | list[Any]:
    from sweeper.search.domain import IntUniform, LogIntUniform, LogUniform, Uniform

    span, log, scale = text.rpartition(":")
    is_log = bool(log) and scale.strip() == "log"
    if not is_log and (len(_split(text, ",", where)) > 1 or len(_split(text, ":", where)) == 1):
        return _read_list(where, text)
    ends = _read_ends(where, span if is_log else text)
    if ends is None or ends[0] > ends[1] or (is_log and ends[0] <= 0):
        raise UsageError(
            f"{where}: write low:high, two numbers with low not exceeding high, low:high:log, both "
            "above 0, or choices as a,b,c"
        )
    if ends[0] == ends[1]:
        return [ends[0]]
    low, high = ends
    if isinstance(low, int) and isinstance(high, int):
        return (LogIntUniform if is_log else IntUniform)(low, high)
    return (LogUniform if is_log else Uniform)(low, high)


def read_ranges(written: Sequence[str]) -> dict[str, Any]:
    """Ranges as `FixedSweep.with_random_trials` takes them.

    Each is written as `name=low:high` (both included; integers, or floats when either is one) or
    as `name=value,value,…` (choices).

    Raises:
        UsageError: as `read_named`; an end of a range is not a number, low exceeds high, or a
            choice is empty or repeated.
    """
    named = read_named("--range", written)
    return {name: _read_range(f"--range {name}={text}", text) for name, text in named.items()}


def _read_range(where: str, text: str) -> Any:
    if len(_split(text, ",", where)) == 1 and len(_split(text, ":", where)) > 1:
        if text.rpartition(":")[2].strip() == "log":
            raise UsageError(f"{where}: a logarithmic scale goes with --points N, not --random N")
        ends = _read_ends(where, text)
        if ends is None or ends[0] > ends[1]:
            raise UsageError(
                f"{where}: write low:high, two numbers with low not exceeding high, or choices "
                "as a,b,c"
            )
        return ends
    values = _read_list(where, text)
    for value in values:
        if not _is_hashable(value):
            raise UsageError(
                f"{where}: {value!r} cannot be a choice: write a tuple, (a,b), or use --grid"
            )
    if len(frozenset(values)) < len(values):
        raise UsageError(f"{where}: a choice is given twice (1, 1.0 and True count as the same)")
    return frozenset(values)


def _read_ends(where: str, text: str) -> tuple[float, float] | None:
    """The numbers of `low:high`; None if the text is something else."""
    parts = _split(text, ":", where)
    if len(parts) != 2:
        return None
    low, high = (read_value(part, where) for part in parts)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    return (low, high) if numbers else None


def _read_list(where: str, text: str) -> list[Any]:
    parts = _split(text, ",", where)
    if not all(part.strip() for part in parts):
        raise UsageError(f"{where}: a value is empty; for an empty text write ''")
    values = [read_value(part, where) for part in parts]
    if len({encode(value) for value in values}) < len(values):
        raise UsageError(f"{where}: a value is given twice")
    return values
