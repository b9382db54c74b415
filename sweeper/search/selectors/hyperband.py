"""`Hyperband`: successive halving from several smallest budgets."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sweeper.records import Params
from sweeper.search.domain import Domain
from sweeper.search.selector import ParamSelector
from sweeper.search.shared.brackets import Bracket, BracketSearch, budgets_between
from sweeper.search.shared.goals import read_goal
from sweeper.search.shared.points import take_points


class Hyperband(BracketSearch):
    """Brackets of successive halving, each with fewer points and a larger smallest budget.

    Which smallest budget ranks points well enough is not known in advance, so each gets a bracket
    of about the same cost (L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh and A. Talwalkar,
    "Hyperband: a novel bandit-based approach to hyperparameter optimization", JMLR 18, 2018,
    algorithm 1).

    Args:
        domain: As in `SuccessiveHalving`; it must have as many points as all brackets together.
        min_budget: Learning-rate cycles of the first rung of the first bracket.
        max_budget: Learning-rate cycles of every bracket's last rung.
        eta: One in so many points goes on.
        trials: As in `SuccessiveHalving`, and so are the others.
        metric: See there.
        direction: See there.
        seed: See there.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "hyperband"

    def __init__(
        self,
        domain: Domain | Iterable[Params] | ParamSelector,
        min_budget: int = 1,
        max_budget: int = 27,
        eta: int = 3,
        *,
        trials: int = 1,
        metric: str = "perf_val",
        direction: str | None = None,
        seed: int = 0,
    ) -> None:
        plans = plan_brackets(min_budget, max_budget, eta)
        left = take_points(domain, sum(size for size, _ in plans), seed)
        brackets = []
        for size, budgets in plans:
            brackets.append(Bracket(left[:size], budgets, eta))
            left = left[size:]
        super().__init__(brackets, read_goal(metric, direction), trials)


def plan_brackets(low: int, high: int, eta: int) -> list[tuple[int, tuple[int, ...]]]:
    """The number of points and the budgets of each bracket, the one with the most points first.

    Raises:
        UsageError: a number breaks its rule.
    """
    budgets = budgets_between(low, high, eta)
    most = len(budgets) - 1
    return [
        (math.ceil(len(budgets) / (rungs + 1) * eta**rungs), budgets[most - rungs :])
        for rungs in range(most, -1, -1)
    ]
