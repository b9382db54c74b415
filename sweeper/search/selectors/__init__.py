"""The registry of selectors: finds a selector's class or factory by name.

A shipped selector is one line in `SHIPPED`.  Another package offers one by an entry point:

    [options.entry_points]
    sweeper.selectors =
        climb = climbing.selector:Climber

A selector is imported only when it is asked for.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sweeper.errors import UsageError, suggestion
from sweeper.search.selector import ParamSelector

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

GROUP = "sweeper.selectors"
"""The group of entry points under which packages offer their selectors."""

SHIPPED = {
    "confirm": "sweeper.search.selectors.confirm:Confirm",
    "explore": "sweeper.search.selectors.explored:ExploredGrid",
    "fixed": "sweeper.search.selectors.fixed:FixedSweep.with_fixed_trials",
    "grid": "sweeper.search.selectors.grid:Grid.from_options",
    "halving": "sweeper.search.selectors.successive_halving:SuccessiveHalving",
    "hyperband": "sweeper.search.selectors.hyperband:Hyperband",
    "manual": "sweeper.search.selectors.manual:ManualSearch",
    "optuna": "sweeper.search.selectors.optuna_search:OptunaSearch",
    "population": "sweeper.search.selectors.population_training:PopulationBasedTraining",
    "race": "sweeper.search.selectors.race:Race",
    "random": "sweeper.search.selectors.fixed:FixedSweep.with_random_trials",
    "random_search": "sweeper.search.selectors.random_search:RandomSearch",
    "sobol": "sweeper.search.selectors.sobol_search:SobolSearch",
    "tuned": "sweeper.search.selectors.tuned_comparison:TunedComparison",
    "updates": "sweeper.search.selectors.domain_updates:DomainUpdates",
}
"""By name: the location of the class, or of the class method, that makes the selector."""

EARLIER_NAMES = {
    "fixed": ("sweeper.search.fixed:FixedSweep",),
    "grid": ("sweeper.search.grid:Grid",),
    "race": ("sweeper.search.race:Race",),
}
"""By a selector's `name`: the names under which earlier releases stored its log.

Names of releases are added here and never removed, so that their folders can be resumed.
"""

Maker: TypeAlias = Callable[..., ParamSelector]
"""A subclass of `ParamSelector`, or a function that makes one; called with keyword arguments."""


def selector_names() -> list[str]:
    """The names that `find_selector` knows, in order: shipped ones, then installed packages'."""
    return sorted({*SHIPPED, *(point.name for point in _offered())})


def find_selector(name: str) -> Maker:
    """The class or factory of the selector `name`; shipped selectors go before packages'.

    Raises:
        UsageError: none has this name, several packages offer it, or the one offered cannot be
            imported or is not a selector.
    """
    if name in SHIPPED:
        made: Maker = pkgutil.resolve_name(SHIPPED[name])
        return made
    # A package may be on the path twice.
    found = {point.value: point for point in _offered() if point.name == name}
    if not found:
        known = selector_names()
        raise UsageError(
            f"selector {name!r:.60}: there is no such selector{suggestion(name, known)}: "
            f"choose one of {', '.join(known)}"
        )
    if len(found) > 1:
        raise UsageError(
            f"selector {name!r}: several installed packages offer one: {', '.join(sorted(found))}"
        )
    (point,) = found.values()
    return _load(point)


def _offered() -> EntryPoints:
    """What installed packages offer."""
    # Every sweep would wait for this import, and few look for a package's selector.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _load(point: EntryPoint) -> Maker:
    who = f"selector {point.name!r} of package {point.dist.name if point.dist else '?'}"
    try:
        found = point.load()
    except Exception as error:
        raise UsageError(
            f"{who}: {point.value} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    is_other_class = inspect.isclass(found) and not issubclass(found, ParamSelector)
    if is_other_class or not callable(found):
        raise UsageError(
            f"{who}: {point.value} is {found!r}: it must be a subclass of ParamSelector, or a "
            "function that makes one"
        )
    maker: Maker = found
    return maker
