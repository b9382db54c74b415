"""Makes a selector of what `sweep` is given, or of a name and options as on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import SelectorError, SettingsError, SweeperError, UsageError, suggestion
from sweeper.search.explore import Explorer
from sweeper.search.reading.values import read_option
from sweeper.search.selector import ParamSelector
from sweeper.search.selectors import find_selector


def as_selector(
    given: object, trials: int | None, seed: int, budget: int | None = None
) -> ParamSelector:
    """The selector that `sweep` was given, or one for the points that it was given.

    Args:
        given: A selector; a domain, for a grid of it; one with updates; a list of points; or an
            `Explorer`, or the path of the file that has one.
        trials: Number of trials per point, which a selector decides itself; None: not given.
        seed: Random seed, which decides the order of a mixture of domains.
        budget: How far each trial goes; None: its whole length, or as a selector decides.

    Raises:
        UsageError: `given` is none of these, or the domain is infinite; `trials` is missing, or is
            given with a selector; so is `budget`.
    """
    if isinstance(given, ParamSelector):
        if trials is not None:
            raise SettingsError(
                f"trials={trials!r}: {type(given).__name__} decides how many trials each point "
                "gets; trials= goes with a Domain or a list of points"
            )
        _check_no_budget(budget, f"{type(given).__name__} decides how far trials go")
        return given
    if isinstance(given, Explorer | str | Path):
        _check_no_budget(budget, f"a grid that is a program says it, launcher(budget={budget!r})")
        from sweeper.search.selectors.explored import ExploredGrid

        return ExploredGrid(given, trials)
    from sweeper.search.domain import Domain, UpdatedDomain

    if not isinstance(given, Domain | UpdatedDomain | list):
        raise SettingsError(
            f"selector={given!r} is a {type(given).__name__}: pass a ParamSelector, such as "
            "Grid(trials=10, hidden=[16, 64]), a Domain or a list of points with trials=10, or an "
            "Explorer or the path of its file"
        )
    if trials is None:
        raise SettingsError("trials= is missing: with a Domain or a list of points, give it")
    if isinstance(given, Domain):
        from sweeper.search.selectors.grid import Grid

        return Grid(given, trials=trials, seed=seed, budget=budget)
    if isinstance(given, UpdatedDomain):
        from sweeper.search.selectors.domain_updates import DomainUpdates

        return DomainUpdates(given, trials, seed=seed, budget=budget)
    from sweeper.search.selectors.fixed import FixedSweep

    return FixedSweep.with_fixed_trials(given, trials, budget=budget)


def _check_no_budget(budget: int | None, why: str) -> None:
    if budget is not None:
        raise SettingsError(
            f"budget={budget!r}: {why}; budget= goes with a Domain or a list of points"
        )


def takes(name: str, argument: str) -> bool:
    """Whether the selector `name` has a parameter `argument`, `**argument` included.

    Raises:
        UsageError: as `find_selector`.
    """
    named, rest = _parameters(name)
    return argument in named or argument == rest


def arguments_of(name: str) -> list[str]:
    """The arguments that the selector `name` takes by name.

    Raises:
        UsageError: as `find_selector`.
    """
    return list(_parameters(name)[0])


def needs(name: str, argument: str) -> bool:
    """Whether the selector `name` has a parameter `argument` without a default.

    Raises:
        UsageError: as `find_selector`.
    """
    named, _ = _parameters(name)
    return named.get(argument, False)


def make_selector(
    name: str, options: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> ParamSelector:
    """Make the selector `name`, with options by the names of its parameters.

    Args:
        name: A name that `find_selector` knows.
        options: Arguments by name.  Text is parsed as on the command line: see `read_option`.
        given: Further arguments, used where the selector has a parameter of that name and no
            option sets it; for a parameter like `**axes`, a mapping of more arguments.

    Raises:
        UsageError: no selector has this name; it has no such option, or lacks one; or one breaks
            its rule.
        SelectorError: making it raised another error, or returned something else.
    """
    named, rest = _parameters(name)
    arguments = {
        key: read_option(value, f"option {key}={value}") if isinstance(value, str) else value
        for key, value in options.items()
    }
    for key, value in options.items():
        if key not in named and rest is None:
            raise UsageError(
                f"option {key}={value}: selector {name} has no such option"
                f"{suggestion(key, named)}; it takes {', '.join(named) or 'no options'}"
            )
    for key, value in (given or {}).items():
        if key in named:
            arguments.setdefault(key, value)
        elif key == rest:
            arguments = {**value, **arguments}
    missing = [key for key, needed in named.items() if needed and key not in arguments]
    if missing:
        raise UsageError(
            f"selector {name} needs {' and '.join(missing)}: give --option {missing[0]}=…"
        )
    return _call(name, arguments)


def _parameters(name: str) -> tuple[dict[str, bool], str | None]:
    """The selector's parameters, with whether each is required, and the name of its `**` one."""
    parameters = inspect.signature(find_selector(name)).parameters.values()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {each.name: each.default is each.empty for each in parameters if each.kind in by_name}
    rest = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]
    return named, rest[0] if rest else None


def _call(name: str, arguments: Mapping[str, Any]) -> ParamSelector:
    try:
        made = find_selector(name)(**arguments)
    except SweeperError:
        raise
    except Exception as error:
        raise SelectorError(f"selector {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, ParamSelector):
        raise SelectorError(
            f"selector {name} made {made!r} (a {type(made).__name__}); expected a ParamSelector"
        )
    return made
