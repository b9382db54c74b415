"""`Confirm`: fresh trials of the best points that another selector has found."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from sweeper.errors import UsageError
from sweeper.records import FINAL, TRIAL, Params
from sweeper.search.checks import check_count
from sweeper.search.selector import Ask, ParamSelector, TrialResults, as_ask
from sweeper.search.shared.goals import read_goal
from sweeper.search.shared.points import as_points_selector
from sweeper.signature import params_key

LEADERS = 3


class Confirm(ParamSelector):
    """What another selector asks for, and then fresh trials of the best points.

    What the best of many points reached is too high, since it was chosen for that; and the more
    points, the higher.  So the best `leaders` get `trials` more, used for nothing else (group
    `"final"`), and only these are compared.

    Args:
        selector: Decides what to try; or the points themselves, a finite `Domain` or a list.  Its
            asks may have budgets; the fresh trials have the largest one.
        trials: Fresh trials of each leader.
        leaders: How many of the best points get them.
        metric: The metric that decides, by its mean over the trials of the largest budget; a point
            of which a trial failed or diverged is no leader.
        direction: `"maximize"` or `"minimize"`, for a metric that the workload declares.
        first_trials: Trials of each point, if points are given.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "confirm"
    adaptive = True
    look_ahead = 10_000_000
    """No limit of its own: an adaptive inner selector keeps its limit."""

    def __init__(
        self,
        selector: Any,
        trials: int = 10,
        leaders: int = LEADERS,
        *,
        metric: str = "perf_val",
        direction: str | None = None,
        first_trials: int = 3,
    ) -> None:
        for what, count in (("trials", trials), ("leaders", leaders)):
            if check_count(what, count) < 1:
                raise UsageError(f"{what}={count!r}: it must be 1 or more")
        self._selector = as_points_selector(selector, first_trials)
        self._goal = read_goal(metric, direction)
        self._trials, self._leaders = int(trials), int(leaders)
        self._open: Counter[str] = Counter()
        """By key of a point: its asks with trials that are not complete."""
        self._sums: dict[int | None, dict[str, tuple[float, int]]] = {}
        """By budget and key: the sum of the metric, and the number of trials."""
        self._params: dict[str, Params] = {}
        self._lost: set[str] = set()
        """Points of which a trial failed or diverged."""
        self._final: deque[Ask] | None = None
        """What is left to ask for, once the leaders are known."""

    # -- asking -----------------------------------------------------------------------------------

    def get_next_trials(self) -> Ask | None:
        """What the inner selector asks for; after it, fresh trials of the leaders."""
        inner = self._selector
        if inner.has_more_trials():
            if inner.adaptive and self._open.total() >= inner.look_ahead:
                return None
            answer = inner.get_next_trials()
            return None if answer is None else self._ask(as_ask(answer))
        if self._open.total():
            return None
        if self._final is None:
            self._final = deque(self._choose())
        return self._ask(self._final.popleft()) if self._final else None

    def _ask(self, ask: Ask) -> Ask:
        if ask.trials:  # else nothing may be told of it
            self._open[params_key(ask.params)] += 1
        return ask

    def has_more_trials(self) -> bool:
        """Until the leaders have their fresh trials."""
        if self._open.total() or self._selector.has_more_trials():
            return True
        return bool(self._choose() if self._final is None else self._final)

    def _choose(self) -> list[Ask]:
        """Fresh trials of the leaders, the best first."""
        known = [budget for budget in self._sums if budget is not None]
        budget = None if None in self._sums else max(known, default=None)
        means = {
            key: total / count
            for key, (total, count) in self._sums.get(budget, {}).items()
            if key not in self._lost
        }
        ranked = sorted(means, key=lambda key: -means[key])  # stable: the first asked goes before
        return [
            Ask(self._params[key], self._trials, budget, group=FINAL)
            for key in ranked[: self._leaders]
        ]

    # -- telling ----------------------------------------------------------------------------------

    def on_begin(self, tunings: int) -> None:
        """Forward to the inner selector, and so do the next one and failures."""
        self._selector.on_begin(tunings)

    def on_hparams_found(
        self, params: Params, lr_min: float, lr_max: float, batch_size: int
    ) -> None:
        """See `on_begin`."""
        self._selector.on_hparams_found(params, lr_min, lr_max, batch_size)

    def on_results(self, result: TrialResults) -> None:
        """Note the results; the inner selector is not told of fresh trials."""
        key = params_key(result.params)
        if not self._open[key]:  # the point was told as failed
            return
        self._open[key] -= 1
        if self._final is not None:
            return
        self._params[key] = result.params
        mean, count = self._goal.mean(result), len(result.numbers)
        if result.failures or (count and mean is None):
            self._lost.add(key)
        elif mean is not None:
            sums = self._sums.setdefault(result.budget, {})
            total, before = sums.get(key, (0.0, 0))
            sums[key] = total + mean * count, before + count
        self._selector.on_results(result)

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Go on without a point whose tuning failed; failed trials are told with the results."""
        if stage != TRIAL:
            # This is told once for all asks of the point.
            del self._open[params_key(params)]
            self._lost.add(params_key(params))
        if self._final is None:
            self._selector.on_failed(params, stage, error)
