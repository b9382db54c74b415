"""Commands on the command line of `run`: what stands after `--`, and their metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand

from sweeper.errors import UsageError
from sweeper.program.command.command import pattern_fault
from sweeper.program.metrics import VALUE
from sweeper.records import DIRECTIONS, SHARES


class WithCommand(TyperCommand):
    """`run` as typer parses it: a command after `--` is kept apart, as the context's object."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command off the end of the arguments."""
        if "--" in args:
            place = args.index("--")
            args, ctx.obj = args[:place], tuple(args[place + 1 :])
        else:
            ctx.obj = None
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class Metrics:
    """What `--metric` says."""

    directions: dict[str, str] | None
    """By metric, which values are better; None: none is named."""
    patterns: dict[str, str] | None
    """By metric, the regular expression that finds it; None: there is none."""
    guessed: tuple[str, ...]
    """The metrics that have a direction by their names."""


_SHORT = {"max": "maximize", "min": "minimize"}

_BETTER = {
    **dict.fromkeys(SHARES, "maximize"),
    **dict.fromkeys(("loss", "error"), "minimize"),
}
"""Which values are better, by a word of a metric's name."""


def read_metrics(written: Sequence[str]) -> Metrics:
    """The metrics of `--metric`.

    Each is `NAME`, `NAME:max`, or a regular expression with one group in parentheses, which
    `NAME=` or `NAME:max=` may name.  Otherwise it has the name of its group, `(?P<acc>…)`, or of
    the word before the group, or `value`.

    Raises:
        UsageError: a direction or a regular expression breaks its rule, or a name is given twice.
    """
    directions: dict[str, str] = {}
    patterns: dict[str, str] = {}
    for text in written:
        name, direction, pattern = _read(text)
        if pattern is not None:
            if name in patterns:
                raise UsageError(
                    f"--metric {text}: {name!r} has another regular expression already: give "
                    "NAME=… before one of them"
                )
            patterns[name] = pattern
        if direction is not None or name not in directions:
            directions[name] = direction or ""
    guessed = {
        name: better
        for name, direction in directions.items()
        if not direction and name in patterns and (better := _better(name))
    }
    read = {name: direction or "none" for name, direction in directions.items()} | guessed
    return Metrics(read or None, patterns or None, tuple(guessed))


_NAMED = re.compile(r"(?P<name>[^\W\d][\w.-]*)(:(?P<direction>\w+))?=(?P<pattern>.*)", re.DOTALL)

_GROUP = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<group>\((?!\?)|\(\?P<)", re.DOTALL)
"""What may stand before a group in a regular expression, or the group's beginning."""


def _read(text: str) -> tuple[str, str | None, str | None]:
    """The name, the direction and the regular expression of one `--metric`."""
    if _before_group(text) is None:
        name, colon, short = text.rpartition(":")
        return (name, _direction(text, name, short), None) if colon else (text, None, None)
    named = _NAMED.fullmatch(text)
    # In 'acc=([\d.]+)', acc= is what is printed.
    if named and (named["direction"] or _words(_before_group(named["pattern"]) or "")):
        name, pattern = named["name"], named["pattern"]
        short = named["direction"]
        direction = None if short is None else _direction(text, name, short)
    else:
        name, direction, pattern = _name_of(text), None, text
    if pattern.endswith((":max", ":min")):
        raise UsageError(f"--metric {text}: a direction goes before: {name}{pattern[-4:]}=…")
    if fault := pattern_fault(pattern):
        raise UsageError(f"--metric {text}: {fault}")
    return name, direction, pattern


def _direction(text: str, name: str, short: str) -> str:
    if short not in (*_SHORT, *DIRECTIONS):
        raise UsageError(
            f"--metric {text}: {short!r} is no direction: give {name}:max or {name}:min"
        )
    return _SHORT.get(short, short)


def _name_of(pattern: str) -> str:
    """The name of a metric by its regular expression."""
    named = re.search(r"\(\?P<(\w+)>", pattern)
    words = _words(_before_group(pattern) or "")
    return named[1] if named else (words or [VALUE])[-1]


def _before_group(pattern: str) -> str | None:
    """What a regular expression has before its first group, without escapes and sets; or None."""
    text, end = "", 0
    for match in _GROUP.finditer(pattern):
        text += pattern[end : match.start()]
        end = match.end()
        if match["group"]:
            return text
        text += " "
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d]\w*", text)


def _better(name: str) -> str | None:
    """The direction that a metric's name says; None: it says none, or two."""
    found = {_BETTER[word] for word in re.split(r"[\W_]+", name.lower()) if word in _BETTER}
    return found.pop() if len(found) == 1 else None
