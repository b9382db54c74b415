"""Search spaces as a command line says them (`hidden=16,64`), or else the problem's module."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ProblemError, SelectorError, UsageError
from sweeper.search.fixed import FixedSweep
from sweeper.search.grid import Grid
from sweeper.search.selector import ParamSelector
from sweeper.signature import encode

DEFAULT_TRIALS = 10

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


_INTERVAL = re.compile(r"-?[\d.]+(e-?\d+)?:-?[\d.]+(e-?\d+)?")


def read_grid(written: Sequence[str]) -> dict[str, list[Any]]:
    """The axes of a grid, each written as `name=value,value,…`.

    Raises:
        UsageError: as `read_named`; or a value is empty.
    """
    named = read_named("--grid", written)
    for name, text in named.items():
        if _INTERVAL.fullmatch(text):
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
