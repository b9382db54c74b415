"""`Listed`: what selectors share whose asks are known from the start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sweeper.records import Params
from sweeper.search.checks import MOST_TRIALS, check_budget
from sweeper.search.selector import Answer, Ask, ParamSelector


class Listed(ParamSelector):
    """Asks for pairs `(params, trials)`, in the given order.

    Args:
        asks: The pairs.
        budget: How far all trials go; None: their whole length.

    Raises:
        UsageError: the budget is not a whole number, 1 or more.
    """

    most_untold = MOST_TRIALS

    def __init__(self, asks: Iterable[tuple[Params, int]], budget: int | None = None) -> None:
        self._left = deque(asks)
        self._budget = check_budget(budget)

    def get_next_trials(self) -> Answer | None:
        """The next point in order."""
        if not self._left:
            return None
        return with_budget(*self._left.popleft(), self._budget)

    def has_more_trials(self) -> bool:
        """Whether any point is left."""
        return bool(self._left)


def with_budget(params: Params, trials: int, budget: int | None) -> Answer:
    """The answer that asks for trials of a point; without a budget, as it always was."""
    return (params, trials) if budget is None else Ask(params, trials, budget)
