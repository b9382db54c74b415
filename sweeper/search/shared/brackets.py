"""Brackets of successive halving: which points go on to the next budget.

K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016.  Here a point goes on as soon as it is certain, whatever the points of
its rung come to whose trials still run, that it is among the best: so decisions are those of the
synchronous algorithm, and depend on results alone, but no core waits for the end of a rung.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from sweeper.errors import UsageError
from sweeper.records import TRIAL, Params
from sweeper.search.checks import check_count
from sweeper.search.selector import Ask, ParamSelector, TrialResults
from sweeper.search.shared.goals import Goal
from sweeper.signature import params_key


def budgets_between(low: int, high: int, eta: int) -> tuple[int, ...]:
    """The budgets of a bracket's rungs: from `low`, each `eta` times the one before, to `high`.

    Raises:
        UsageError: a number breaks its rule.
    """
    if check_count("min_budget", low) < 1:
        raise UsageError(f"min_budget={low!r}: it must be 1 or more")
    if check_count("max_budget", high) < low:
        raise UsageError(f"max_budget={high!r}: it must be at least min_budget, which is {low}")
    if check_count("eta", eta) < 2:
        raise UsageError(f"eta={eta!r}: it must be 2 or more")
    budgets = [int(low)]
    while budgets[-1] * eta < high:
        budgets.append(budgets[-1] * int(eta))
    return (*budgets, int(high)) if budgets[-1] < high else tuple(budgets)


@dataclass(slots=True, eq=False)
class _Rung:
    """The points of a bracket that are tried with the same budget."""

    size: int
    """How many points it will have, unless too many fail before."""
    entered: int = 0
    values: dict[int, float | None] = field(default_factory=dict)
    """By place of a point: its result, larger is better; None if it failed or diverged."""
    promoted: set[int] = field(default_factory=set)

    def certain(self, most: int) -> list[int]:
        """The points that are certainly among the best `most`, the best first.

        Among equal ones the point that comes first in the bracket is the better one.
        """
        ranked = sorted(
            (place for place, value in self.values.items() if value is not None),
            key=lambda place: (-(self.values[place] or 0.0), place),
        )
        unknown = self.size - len(self.values)
        return ranked[: max(0, most - unknown)]


class Bracket:
    """One run of successive halving.

    Args:
        points: The points of the first rung.
        budgets: The budget of each rung, rising.
        eta: One in so many points of a rung goes on.
    """

    def __init__(self, points: Sequence[Params], budgets: Sequence[int], eta: int) -> None:
        self.points = tuple(points)
        self.budgets = tuple(budgets)
        sizes = [len(self.points)]
        for _ in self.budgets[1:]:
            sizes.append(max(min(1, sizes[-1]), sizes[-1] // eta))
        self._rungs = [_Rung(size) for size in sizes]
        self._rungs[0].entered = sizes[0]
        self._queue = deque((0, place) for place in range(sizes[0]))
        self._open = 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left to try or to be told."""
        return not self._queue and not self._open

    def next(self) -> tuple[int, int] | None:
        """The rung and the place of the point to try next; None: results must be told first."""
        if not self._queue:
            return None
        self._open += 1
        return self._queue.popleft()

    def tell(self, rung: int, place: int, value: float | None) -> None:
        """Note a point's result; see `_Rung.values`."""
        self._open -= 1
        self._rungs[rung].values[place] = value
        self._promote(rung)

    def _promote(self, number: int) -> None:
        if number + 1 == len(self._rungs):
            return
        rung, above = self._rungs[number], self._rungs[number + 1]
        for place in rung.certain(above.size):
            if place not in rung.promoted:
                rung.promoted.add(place)
                above.entered += 1
                self._queue.appendleft((number + 1, place))  # it unlocks more than the others
        if len(rung.values) == rung.size and above.entered < above.size:
            # Fewer are left than could go on.
            above.size = above.entered
            self._promote(number + 1)


class BracketSearch(ParamSelector):
    """Asks for the points of brackets, and tells the brackets of their results."""

    adaptive = True
    look_ahead = 10_000_000
    """No limit: a bracket says itself when it waits."""

    def __init__(self, brackets: Sequence[Bracket], goal: Goal, trials: int) -> None:
        if check_count("trials", trials) < 1:
            raise UsageError(f"trials={trials!r}: it must be 1 or more")
        self.brackets = tuple(brackets)
        self._goal = goal
        self._trials = int(trials)
        self._place_of = {
            params_key(params): (bracket, place)
            for bracket in self.brackets
            for place, params in enumerate(bracket.points)
        }
        self._rung_of: dict[str, int] = {}
        """The rung of each point that was asked for and whose result is not known."""

    def get_next_trials(self) -> Ask | None:
        """The next point of the first bracket that has one."""
        for bracket in self.brackets:
            found = bracket.next()
            if found is not None:
                rung, place = found
                params = bracket.points[place]
                self._rung_of[params_key(params)] = rung
                return Ask(params, self._trials, bracket.budgets[rung])
        return None

    def has_more_trials(self) -> bool:
        """Until every bracket has ended."""
        return not all(bracket.ended for bracket in self.brackets)

    def on_results(self, result: TrialResults) -> None:
        """Note a point's result."""
        self._tell(result.params, None if result.failures else self._goal.mean(result))

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Go on without a point whose tuning failed; failed trials are told with the results."""
        del error
        if stage != TRIAL:
            self._tell(params, None)

    def _tell(self, params: Params, value: float | None) -> None:
        key = params_key(params)
        bracket, place = self._place_of[key]
        bracket.tell(self._rung_of.pop(key), place, value)
