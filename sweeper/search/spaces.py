"""Search spaces as a command line says them (`hidden=16,64`), or else the problem's module."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ProblemError, SelectorError, UsageError
from sweeper.search.selector import ParamSelector
from sweeper.search.selectors.fixed import FixedSweep
from sweeper.search.selectors.grid import Grid
from sweeper.search.selectors.race import DEFAULT_MIN_TRIALS, Race
from sweeper.signature import DEEPEST, encode

DEFAULT_TRIALS = 10

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
    """The value of a text: an int, float, bool or None where it reads as one, else a string.

    In quotes it is a string, whatever it reads as; in brackets a list, a tuple or a dict of
    values, written as in Python.

    Raises:
        UsageError: it is NaN or too large, or quotes or brackets are not as they must be; the
            message begins with `where`.
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
            f"{where}: NaN cannot be a parameter, since it equals nothing, itself included; as a "
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
            raise UsageError(f"{where}: a number has more than {_MOST_DIGITS} digits")
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


_AS_TEXT = "a text with quotes, commas or brackets is written in quotes of the other kind"


def _read_bracketed(text: str, where: str) -> list[Any] | tuple[Any, ...] | dict[Any, Any]:
    """A list, tuple or dict, from its opening bracket on."""
    end = next(place for place, _, depth in _outside_quotes(text, where) if not depth)
    if end < len(text) - 1:
        raise UsageError(f"{where}: something stands after a closing bracket; {_AS_TEXT}")
    parts = _split(text[1:-1], ",", where)
    closed = len(parts) > 1 and not parts[-1].strip()
    if closed or not text[1:-1].strip():
        del parts[-1]  # after a comma at the end, or of nothing
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
            f"{where}: {part.strip()} is no key: value of a dict (there are no sets here: write a "
            "list or a tuple)"
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
    """The letters outside of quotes: place, letter, and how many brackets are open after it.

    A quote begins where a value does: that in `it's` is a letter like others.
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
    """Keep the closing brackets that are expected, the next one last."""
    if letter in _CLOSING:
        expected.append(_CLOSING[letter])
        if len(expected) > DEEPEST:
            raise UsageError(f"{where:.80}…: brackets are nested more than {DEEPEST} deep")
    elif letter in _CLOSING.values() and (not expected or expected.pop() != letter):
        raise UsageError(f"{where}: {letter} closes no bracket; {_AS_TEXT}")


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
    for name, text in named.items():
        if _read_ends(f"--grid {name}={text}", text) is not None:
            raise UsageError(
                f"--grid {name}={text}: a grid takes values, as in {name}=1,2,3; low:high is for "
                f"--random N --range {name}={text}"
            )
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
    if len(_split(text, ",", where)) == 1 and len(_split(text, ":", where)) > 1:
        ends = _read_ends(where, text)
        if ends is None or ends[0] > ends[1]:
            raise UsageError(
                f"{where}: write low:high, two numbers of which the first is not the larger, or "
                "choices as a,b,c"
            )
        return ends
    values = _read_list(where, text)
    for value in values:
        if not _is_hashable(value):
            raise UsageError(
                f"{where}: {value!r} cannot be a choice: write a tuple, (a,b), or use --grid"
            )
    if len(frozenset(values)) < len(values):
        raise UsageError(f"{where}: a choice is there twice (1, 1.0 and True count as the same)")
    return frozenset(values)


def _read_ends(where: str, text: str) -> tuple[float, float] | None:
    """The numbers of `low:high`; None where it is something else."""
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
        raise UsageError(f"{where}: a value is there twice")
    return values


def suggestion(name: str, known: Iterable[str]) -> str:
    """A remark that names the nearest of the known names, where one is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


@dataclass(frozen=True, slots=True)
class Space:
    """What to try, as a command line says it; the module decides where that says nothing."""

    axes: dict[str, list[Any]]
    ranges: dict[str, Any]
    points: int | None
    trials: int | None
    seed: int

    @classmethod
    def read(
        cls,
        grid: Sequence[str],
        random: int | None,
        ranges: Sequence[str],
        trials: int | None,
        seed: int,
    ) -> Space:
        """The space of `--grid`, or of `--random` and `--range`, or none.

        Raises:
            UsageError: they do not go together, or are not written as they must be.
        """
        if grid and (ranges or random is not None):
            raise UsageError("--grid and --random are two ways to search: give one of them")
        if ranges and random is None:
            raise UsageError("--range: say with --random N how many points to draw")
        if random is not None and not ranges:
            raise UsageError(f"--random {random}: say with --range name=low:high what to draw from")
        axes = read_grid(grid)
        if "trials" in axes:
            raise UsageError(
                "--grid trials=…: a parameter of this name cannot be an axis; put `points` into "
                "the module (for the number of trials: --trials)"
            )
        return cls(axes, read_ranges(ranges), random, trials, seed)

    def selector(self, problem: str, known: Sequence[str] | None) -> ParamSelector | None:
        """The selector for this space; None: the command line leaves it to the module.

        `problem` is the problem's name, and `known` are the parameters that its model takes by
        name; None: any.

        Raises:
            UsageError: `model` has no such parameter.
        """
        trials = DEFAULT_TRIALS if self.trials is None else self.trials
        if self.axes:
            _check_names("--grid", self.axes, problem, known)
            return Grid(trials=trials, **self.axes)
        if self.points is not None:
            _check_names("--range", self.ranges, problem, known)
            return FixedSweep.with_random_trials(self.ranges, self.points, trials, seed=self.seed)
        return None


def _check_names(
    option: str, names: Iterable[str], problem: str, known: Sequence[str] | None
) -> None:
    if known is None:
        return
    for name in names:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none by name"
            raise UsageError(
                f"{option} {name}: model() of problem {problem} has no such parameter"
                f"{suggestion(name, known)}; {takes}"
            )


def modules_own(
    problem: str, module: str, said: Mapping[str, Any], trials: int | None
) -> ParamSelector:
    """The selector that a module says: what it has of `points`, `trials` and `selector`.

    `problem` is the problem's name, and `trials` what the command line says instead.

    Raises:
        UsageError: the module says nothing, or has something else under these names.
        SelectorError: making the module's selector failed.
    """
    if "selector" in said:
        if trials is not None:
            raise UsageError(
                f"--trials {trials}: the selector of problem {problem} decides how many trials "
                "each point gets; --trials goes with --grid, --random and `points`"
            )
        return _make_selector(said["selector"], problem)
    if "points" in said:
        points = said["points"]
        if not isinstance(points, Iterable):
            raise _fault(problem, "points", points, "a list of params")
        default = said.get("trials", DEFAULT_TRIALS)
        return FixedSweep.with_fixed_trials(points, default if trials is None else trials)
    raise UsageError(
        "nothing says what to try: give --grid name=a,b, or --random N with --range "
        f"name=low:high, or put `points` (a list of params) or `selector` into {module}"
    )


def race_of(selector: ParamSelector, problem: str) -> Race:
    """A race of the selector's points, each up to the most trials that it asks for any.

    Raises:
        UsageError: the selector is adaptive, or asks for fewer trials than a race begins with.
    """
    if selector.adaptive:
        raise UsageError(
            f"--race: the selector of problem {problem} decides by results which points get more "
            "trials; --race goes with --grid, --random and `points`"
        )
    asks = []
    while selector.has_more_trials() and (ask := selector.get_next_trials()) is not None:
        asks.append(ask)
    trials = max((trials for _, trials in asks), default=DEFAULT_MIN_TRIALS)
    if trials < DEFAULT_MIN_TRIALS:
        raise UsageError(
            f"--race: with --trials {trials} there is nothing to save: each point gets "
            f"{DEFAULT_MIN_TRIALS} before anything is decided; give more (30, say)"
        )
    return Race(FixedSweep(asks), trials)


def _make_selector(given: Any, problem: str) -> ParamSelector:
    made = given
    if callable(given) and not isinstance(given, ParamSelector):
        try:
            made = given()
        except Exception as error:
            raise SelectorError(
                f"selector() of problem {problem} raised {type(error).__name__}: {error}"
            ) from error
    if isinstance(made, ParamSelector):
        return made
    raise _fault(problem, "selector", made, "a ParamSelector, or a callable that makes one")


def _fault(problem: str, attribute: str, found: object, expected: str) -> ProblemError:
    return ProblemError(
        f"problem {problem}: {attribute} is {found!r} (a {type(found).__name__}); "
        f"expected {expected}"
    )
