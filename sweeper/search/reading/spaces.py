"""Search spaces from the command line (`hidden=16,64`), or from the problem's module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.errors import ProblemError, SelectorError, UsageError, suggestion
from sweeper.search.reading.making import arguments_of, make_selector, needs, takes
from sweeper.search.reading.values import (
    read_domain,
    read_grid,
    read_named,
    read_ranges,
    read_value,
)
from sweeper.search.selector import ParamSelector, as_ask
from sweeper.search.selectors import SHIPPED
from sweeper.search.selectors.explored import ExploredGrid
from sweeper.search.selectors.fixed import FixedSweep
from sweeper.search.selectors.race import DEFAULT_MIN_TRIALS, Race, racing_params

if TYPE_CHECKING:
    from sweeper.search.domain import Domain

__all__ = [
    "DEFAULT_TRIALS",
    "Space",
    "choose_selector",
    "modules_own",
    "race_of",
    "read_domain",
    "read_grid",
    "read_named",
    "read_ranges",
    "read_value",
]

DEFAULT_TRIALS = 10


@dataclass(frozen=True, slots=True)
class Space:
    """The search space of a command line; the module decides what it leaves open."""

    axes: dict[str, list[Any]]
    """Of `--grid`."""
    ranges: tuple[str, ...]
    """Of `--range`, as text."""
    domain: Domain
    """Of both."""
    random: int | None
    points: int | None
    trials: int | None
    seed: int
    name: str | None = None
    """The selector asked for; None: chosen by the other options."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of that selector, as text."""
    program: str | None = None
    """The path of a grid's program."""
    budget: int | None = None
    """How far each trial goes; None: not given."""

    @classmethod
    def read(
        cls,
        grid: Sequence[str],
        random: int | None,
        ranges: Sequence[str],
        trials: int | None,
        seed: int,
        selector: str | None = None,
        options: Sequence[str] = (),
        points: int | None = None,
        program: str | None = None,
        budget: int | None = None,
    ) -> Space:
        """The space of `--grid`, of it and `--range` with `--points`, of `--explore`, or none.

        `--random` with `--range` is what earlier releases had in place of `--points`.

        Raises:
            UsageError: the options exclude each other or cannot be parsed, or no selector has this
                name.
        """
        if options and selector is None:
            raise UsageError(f"--option {options[0]}: it needs --selector NAME")
        counts = selector is None or takes(selector, "selector")
        if program is not None and (grid or ranges or random is not None or points is not None):
            raise UsageError(
                "--explore excludes --grid, --range, --points and --random: give one of them"
            )
        if random is not None:
            _check_random(random, points, grid, ranges)
        if ranges and random is None and points is None and counts:
            raise UsageError("--range: it needs --points N, the number of points")
        if points is not None and not (grid or ranges):
            raise UsageError(
                f"--points {points}: it needs --range name=low:high or --grid name=a,b"
            )
        axes = read_grid(grid)
        if "trials" in axes:
            raise UsageError(
                "--grid trials=…: a parameter of this name cannot be an axis; put `points` into "
                "the module (for the number of trials: --trials)"
            )
        domain = read_domain(grid, ranges)
        named = read_named("--option", options)
        given = (tuple(ranges), domain, random, points, trials, seed, selector, named)
        return cls(axes, *given, program, budget)

    def selector(self, problem: str, known: Sequence[str] | None) -> ParamSelector | None:
        """The selector for this space; None: the command line leaves it to the module.

        `problem` is the problem's name, `known` are the parameters that its points may have by
        name; None: any.

        Raises:
            UsageError: the problem has no such parameter, or the program of a grid is not one.
            SelectorError: the program of a grid raised.
        """
        trials = DEFAULT_TRIALS if self.trials is None else self.trials
        from sweeper.search.selectors.grid import Grid
        from sweeper.search.selectors.random_search import RandomSearch

        self.check_names(problem, known)
        if self.random is not None:
            self._refuse_budget(f"--random {self.random} takes none; --points does")
            ranges = read_ranges(self.ranges)
            return FixedSweep.with_random_trials(ranges, self.random, trials, seed=self.seed)
        if self.points is not None:
            return RandomSearch(
                self.domain, self.points, trials, seed=self.seed, budget=self.budget
            )
        if self.program is not None:
            self._refuse_budget(f"a grid that is a program says it, launcher(budget={self.budget})")
            return ExploredGrid(self.program, trials)
        return Grid(self.domain, trials=trials, budget=self.budget) if self.axes else None

    def _refuse_budget(self, why: str) -> None:
        """Refuse `--budget`, if it is given.

        Raises:
            UsageError: it is.
        """
        if self.budget is not None:
            raise UsageError(f"--budget {self.budget}: {why}")

    def check_names(self, problem: str, known: Sequence[str] | None) -> None:
        """See `selector`."""
        _check_names("--grid", self.axes, problem, known)
        _check_names("--range", read_named("--range", self.ranges), problem, known)


def choose_selector(
    space: Space,
    problem: str,
    module: str,
    known: Sequence[str] | None,
    search: Callable[[], Mapping[str, Any]],
) -> ParamSelector:
    """The selector of the command line, or else of the module.

    A selector chosen by name gets, where it has such parameters, the other options of the command
    line: `domain` from `--grid` and `--range`, or these as `axes` and `ranges`; `points` from
    `--points` or `--random`; `trials` (also as `max_trials`), `budget` and `seed`.  One that takes
    a `selector`, such as a race, gets the one that these options make, or the module's own.  Its
    own options (`--option`) override all of these.

    Args:
        space: The command line's search space.
        problem: The problem's name.
        module: The name of its module.
        known: The parameters that its points may have by name; None: any.
        search: Reads the module's own search (see `modules_own`); called only if needed.

    Raises:
        UsageError: as `Space.selector`, `modules_own` and `make_selector`; or the command line has
            an option that the selector does not take.
        SelectorError: as `modules_own` and `make_selector`.
    """
    if space.name is None:
        found = space.selector(problem, known)
        return found or modules_own(problem, module, search(), space.trials, space.budget)
    given: dict[str, Any] = {"seed": space.seed}
    trials: int | None = DEFAULT_TRIALS if space.trials is None else space.trials
    if takes(space.name, "selector"):
        inner = space.selector(problem, known)
        if inner is None:
            said = search()
            inner = modules_own(problem, module, said, space.trials, space.budget)
            if space.trials is None:  # the module's selector decides for each point
                trials = None if "selector" in said else said.get("trials", DEFAULT_TRIALS)
        given["selector"] = inner
    else:
        space.check_names(problem, known)
        given |= _taken(space.name, space)
    for argument in ("trials", "max_trials"):
        # A selector's own default goes before that of the command line.
        if trials is not None and (space.trials is not None or needs(space.name, argument)):
            given[argument] = trials
    return make_selector(space.name, space.options, given)


def _taken(name: str, space: Space) -> dict[str, Any]:
    """The parts of the space that are given and that the selector of this name takes.

    Raises:
        UsageError: a part is given that it does not take.
    """
    given: dict[str, Any] = {}
    parts: list[tuple[str, str, Any]] = [
        ("--random", "points", space.random),
        ("--points", "points", space.points),
        ("--explore", "program", space.program),
        ("--budget", "budget", space.budget),
    ]
    if takes(name, "domain"):
        is_given = space.axes or space.ranges
        parts.append(("--grid", "domain", space.domain if is_given else None))
    else:
        parts.append(("--grid", "axes", space.axes or None))
        parts.append(("--range", "ranges", read_ranges(space.ranges) or None))
    for option, argument, value in parts:
        if value is None:
            continue
        if not takes(name, argument):
            raise _not_taken(option, name, argument)
        given[argument] = value
    if space.trials is not None and not (takes(name, "trials") or takes(name, "max_trials")):
        raise _not_taken(f"--trials {space.trials}", name, "trials")
    return given


def _not_taken(option: str, name: str, argument: str) -> UsageError:
    """The refusal of an option that the selector of this name does not take."""
    # An axis or a range is a part of a domain, and of the points of a selector within another.
    ways = [argument, *(["domain", "selector"] if argument in ("axes", "ranges") else [])]
    takers = [other for other in SHIPPED if any(takes(other, way) for way in ways)]
    return UsageError(
        f"{option}: selector {name} takes no {argument}, but "
        f"{', '.join(arguments_of(name)) or 'no options'}; {option.partition(' ')[0]} goes with "
        f"--selector {', '.join(takers)}"
    )


def _check_random(
    random: int, points: int | None, grid: Sequence[str], ranges: Sequence[str]
) -> None:
    if points is not None:
        raise UsageError(f"--random {random} and --points {points}: give --points alone")
    if grid:
        raise UsageError(f"--random {random}: with --grid, give --points {random} instead")
    if not ranges:
        raise UsageError(f"--random {random}: it needs --range name=low:high")
    read_ranges(ranges)


def _check_names(
    option: str, names: Iterable[str], problem: str, known: Sequence[str] | None
) -> None:
    if known is None:
        return
    for name in names:
        if name not in known:
            raise UsageError(
                f"{option} {name}: problem {problem} has no such parameter"
                f"{suggestion(name, known)}; it takes {', '.join(known)}"
            )


def modules_own(
    problem: str,
    module: str,
    said: Mapping[str, Any],
    trials: int | None,
    budget: int | None = None,
) -> ParamSelector:
    """The selector from a module's `points` and `trials`, or its `selector`.

    `problem` is the problem's name; `trials`, from the command line, replaces the module's, and
    `budget` is how far they go.

    Raises:
        UsageError: the module has none of these, or something else under these names.
        SelectorError: making the module's selector failed.
    """
    if "selector" in said:
        if trials is not None:
            raise UsageError(
                f"--trials {trials}: the selector of problem {problem} decides how many trials "
                "each point gets; --trials goes with --grid, --points and `points`"
            )
        if budget is not None:
            raise UsageError(
                f"--budget {budget}: the selector of problem {problem} decides how far trials go; "
                "--budget goes with --grid, --points and `points`"
            )
        return _make_selector(said["selector"], problem)
    if "points" in said:
        points = said["points"]
        if not isinstance(points, Iterable):
            raise _fault(problem, "points", points, "a Domain, or a list of params")
        count = said.get("trials", DEFAULT_TRIALS) if trials is None else trials
        from sweeper.search.domain import Domain

        if isinstance(points, Domain):
            from sweeper.search.selectors.grid import Grid

            return Grid(points, trials=count, budget=budget)
        return FixedSweep.with_fixed_trials(points, count, budget=budget)
    raise UsageError(
        "nothing says what to try: give --grid name=a,b, --points N with --range name=low:high, "
        "or --explore FILE, or put `points` (a Domain or a list) or `selector` into "
        f"{module}"
    )


def race_of(selector: ParamSelector, problem: str) -> Race:
    """A race of the selector's points; `max_trials` is the largest number that it asks for.

    Raises:
        UsageError: the selector is adaptive, asks with a budget, or asks for fewer trials than a
            race needs.
    """
    if selector.adaptive:
        raise UsageError(
            f"--race: the selector of problem {problem} is adaptive, and decides itself which "
            "points get more trials; --race goes with --grid, --points and `points`"
        )
    asks = []
    while selector.has_more_trials() and (ask := selector.get_next_trials()) is not None:
        asked = as_ask(ask)
        asks.append((racing_params(asked), asked.trials))
    trials = max((trials for _, trials in asks), default=DEFAULT_MIN_TRIALS)
    if trials < DEFAULT_MIN_TRIALS:
        raise UsageError(
            f"--race: with --trials {trials} there is nothing to save: each point gets "
            f"{DEFAULT_MIN_TRIALS} before the first decision; give more (30, say)"
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
