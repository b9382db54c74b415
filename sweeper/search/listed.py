"""`Listed`: what selectors share whose asks are known from the start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sweeper.records import Params
from sweeper.search.checks import MOST_TRIALS
from sweeper.search.selector import ParamSelector


class Listed(ParamSelector):
    """Asks for pairs `(params, trials)`, in the given order."""

    most_untold = MOST_TRIALS

    def __init__(self, asks: Iterable[tuple[Params, int]]) -> None:
        self._left = deque(asks)

    def get_next_trials(self) -> tuple[Params, int] | None:
        """The next point in order."""
        return self._left.popleft() if self._left else None

    def has_more_trials(self) -> bool:
        """Whether any point is left."""
        return bool(self._left)
