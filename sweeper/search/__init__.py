"""What to try: selectors and search spaces.

A new selector is a file in `selectors/`, a line of its registry, and a row in the contract test.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sweeper.search.selector import Answer, Ask, ParamSelector, SweepListener, TrialResults

if TYPE_CHECKING:
    from sweeper.search.selectors.confirm import Confirm
    from sweeper.search.selectors.domain_updates import DomainUpdates
    from sweeper.search.selectors.explored import ExploredGrid
    from sweeper.search.selectors.fixed import FixedSweep
    from sweeper.search.selectors.grid import Grid
    from sweeper.search.selectors.hyperband import Hyperband
    from sweeper.search.selectors.manual import ManualSearch
    from sweeper.search.selectors.optuna_search import OptunaSearch
    from sweeper.search.selectors.population_training import (
        Perturb,
        PopulationBasedTraining,
        Truncate,
    )
    from sweeper.search.selectors.race import Race
    from sweeper.search.selectors.random_search import RandomSearch
    from sweeper.search.selectors.sobol_search import SobolSearch
    from sweeper.search.selectors.successive_halving import SuccessiveHalving
    from sweeper.search.selectors.tuned_comparison import TunedComparison

__all__ = [
    "Answer",
    "Ask",
    "Confirm",
    "DomainUpdates",
    "ExploredGrid",
    "FixedSweep",
    "Grid",
    "Hyperband",
    "ManualSearch",
    "OptunaSearch",
    "ParamSelector",
    "Perturb",
    "PopulationBasedTraining",
    "Race",
    "RandomSearch",
    "SobolSearch",
    "SuccessiveHalving",
    "SweepListener",
    "TrialResults",
    "Truncate",
    "TunedComparison",
]

_LAZY = {
    "Confirm": "sweeper.search.selectors.confirm",
    "DomainUpdates": "sweeper.search.selectors.domain_updates",
    "ExploredGrid": "sweeper.search.selectors.explored",
    "FixedSweep": "sweeper.search.selectors.fixed",
    "Grid": "sweeper.search.selectors.grid",
    "Hyperband": "sweeper.search.selectors.hyperband",
    "ManualSearch": "sweeper.search.selectors.manual",
    "OptunaSearch": "sweeper.search.selectors.optuna_search",
    "Perturb": "sweeper.search.selectors.population_training",
    "PopulationBasedTraining": "sweeper.search.selectors.population_training",
    "Race": "sweeper.search.selectors.race",
    "RandomSearch": "sweeper.search.selectors.random_search",
    "SobolSearch": "sweeper.search.selectors.sobol_search",
    "SuccessiveHalving": "sweeper.search.selectors.successive_halving",
    "Truncate": "sweeper.search.selectors.population_training",
    "TunedComparison": "sweeper.search.selectors.tuned_comparison",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
