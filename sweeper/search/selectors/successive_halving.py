"""`SuccessiveHalving`: many points for a short time, the best of them for longer."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.records import Params
from sweeper.search.domain import Domain
from sweeper.search.selector import ParamSelector
from sweeper.search.shared.brackets import Bracket, BracketSearch, budgets_between
from sweeper.search.shared.goals import read_goal
from sweeper.search.shared.points import take_points


class SuccessiveHalving(BracketSearch):
    """All points with a small budget, the best third of them with three times as much, and so on.

    The first rung tries all points with `min_budget`; of each rung the best one in `eta` goes on to
    a budget `eta` times as large, up to `max_budget`.  Trials that go on continue from their
    checkpoint.  A point goes on as soon as it is certainly among the best of its rung, so that no
    core waits for a rung to end; decisions depend on results alone.  See
    `sweeper.search.shared.brackets` for the source.

    Halving saves training, not tuning: each point is tuned first, unless rate and batch size are
    given.  It may drop a point that learns slowly and ends best.

    Args:
        domain: A `Domain`, a list of points, or a selector that is not adaptive, whose points are
            taken.
        points: How many points are drawn from a domain; None: all of a finite one.
        min_budget: Learning-rate cycles of the first rung; of a program, iterations.
        max_budget: As `min_budget`, of the last rung.
        eta: One in so many points goes on.
        trials: Number of trials of each point in each rung; their mean decides.
        metric: The metric that decides; a point of which a trial failed or diverged does not go on.
        direction: `"maximize"` or `"minimize"`, for a metric that the workload declares.
        seed: Random seed of the points that are drawn.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "halving"

    def __init__(
        self,
        domain: Domain | Iterable[Params] | ParamSelector,
        points: int | None = None,
        min_budget: int = 1,
        max_budget: int = 27,
        eta: int = 3,
        *,
        trials: int = 1,
        metric: str = "perf_val",
        direction: str | None = None,
        seed: int = 0,
    ) -> None:
        budgets = budgets_between(min_budget, max_budget, eta)
        bracket = Bracket(take_points(domain, points, seed), budgets, eta)
        super().__init__([bracket], read_goal(metric, direction), trials)
