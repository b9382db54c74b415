"""`TunedComparison`: variants compared, each at its own best nuisance parameters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import FINAL, TRIAL, Params
from sweeper.search.checks import check_count
from sweeper.search.domain import Domain, check_domain
from sweeper.search.selector import Ask, ParamSelector, TrialResults, as_ask
from sweeper.search.selectors import find_selector
from sweeper.search.shared.goals import Goal, read_goal
from sweeper.search.shared.points import take_points
from sweeper.signature import params_key

SEARCH = "search"
"""The group of the trials that choose the nuisance parameters."""

SAMPLERS = {"sobol": "sobol", "random": "random_search"}
"""The selectors of samplers that need no other package; other samplers are `OptunaSearch`'s."""

Samples = Callable[[Domain, int, int], ParamSelector]
"""Makes the selector that searches a domain, given the number of points and a seed."""


@dataclass(slots=True, eq=False)
class _Search:
    """One search of a variant's nuisance parameters."""

    variant: Mapping[str, Any]
    selector: ParamSelector
    trials: int
    """Fresh trials that the best point gets."""
    open: int = 0
    best: float | None = None
    chosen: Params | None = None
    told: dict[str, Params] = field(default_factory=dict)
    """The nuisance parameters of points that were asked for, by the key of the whole point; a
    selector may ask for one again."""
    judged: bool = False
    """Whether the trials of the best point were asked for."""

    def ask(self) -> Params | None:
        """The next point; None if it waits for results, or has ended."""
        selector = self.selector
        if selector.adaptive and self.open >= selector.look_ahead:
            return None
        answer = selector.get_next_trials() if selector.has_more_trials() else None
        if answer is None:
            return None
        nuisance = as_ask(answer).params
        params = {**self.variant, **dict(nuisance)}
        self.told[params_key(params)] = nuisance
        self.open += 1
        return params

    def tell(self, result: TrialResults, goal: Goal) -> None:
        """Note the result of a point."""
        self.open -= 1
        value = None if result.failures else goal.mean(result)
        if value is not None and (self.best is None or value > self.best):
            self.best, self.chosen = value, result.params
        nuisance = self.told[params_key(result.params)]
        own = (result.numbers, result.metrics, result.failures, result.budget)
        self.selector.on_results(TrialResults(nuisance, *own))

    def fail(self, params: Params, stage: str, error: str) -> None:
        """Note that a point's tuning failed."""
        self.open -= 1
        self.selector.on_failed(self.told[params_key(params)], stage, error)

    @property
    def ended(self) -> bool:
        """Whether the best point is known."""
        return not self.open and not self.selector.has_more_trials()


class TunedComparison(ParamSelector):
    """Which variant is better, each at the nuisance parameters that suit it best.

    For each point of `scientific` (what is compared) the parameters of `nuisance` (what has to be
    tuned for a fair comparison) are searched with the same budget and the same draws.  The point
    that is best by `metric` then gets fresh trials, and only these are compared (group `"final"`):
    the data that chose is not the data that judges.  The words are those of the *Deep Learning
    Tuning Playbook* (V. Godbole, G. E. Dahl, J. Gilmer, C. J. Shallue and Z. Nado, 2023).

    Another search would end at other parameters, and that luck belongs to the comparison.  So each
    variant is searched `tunings` times independently, its fresh trials are spread over the results,
    and intervals count the variance between searches (`sweeper.stats.components`).  With
    `tunings=1` a statement is about the variants as they were tuned this time.

    `results.compare()`, `summary()` and `show` compare the variants;
    `results.where(group="search")` has the searches.

    Args:
        scientific: The variants: a finite `Domain`, or a list of points by name.
        nuisance: The `Domain` that is searched for each of them.
        searches: Points that a search tries.
        trials: Fresh trials of each variant, over all its searches.
        tunings: Independent searches per variant.
        sampler: How nuisance points are chosen: `"sobol"`, `"random"`, or what `OptunaSearch` takes
            as its sampler; only the first two give every variant the same draws.
        search_trials: Trials of each point that a search tries; their mean chooses.
        metric: The metric by which points are chosen, such as `"perf_val"`.
        direction: `"maximize"` or `"minimize"`, for a metric that the workload declares.
        seed: Random seed of the searches.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "tuned"
    adaptive = True
    look_ahead = 10_000_000
    """No limit: searches that do not adapt are asked for at once."""

    def __init__(
        self,
        scientific: Domain | list[Params],
        nuisance: Domain,
        searches: int = 20,
        trials: int = 10,
        *,
        tunings: int = 3,
        sampler: Any = "sobol",
        search_trials: int = 1,
        metric: str = "perf_val",
        direction: str | None = None,
        seed: int = 0,
    ) -> None:
        for what, count, least in (
            ("searches", searches, 1),
            ("tunings", tunings, 1),
            ("trials", trials, tunings),
            ("search_trials", search_trials, 1),
        ):
            if check_count(what, count) < least:
                why = ", one for each tuning" if what == "trials" else ""
                raise UsageError(f"{what}={count!r}: it must be {least} or more{why}")
        variants = take_points(scientific, None, seed)
        names = _names_of(variants, check_domain(nuisance))
        self.compare_by = names
        self._goal = read_goal(metric, direction)
        self._search_trials = int(search_trials)
        make = _sampler(sampler, metric, direction)
        self._searches = [
            _Search(
                dict(variant),
                make(nuisance, int(searches), _seed_of(seed, tuning)),
                trials // tunings + (tuning < trials % tunings),
            )
            for tuning in range(tunings)
            for variant in variants
        ]
        self._asked: dict[str, deque[_Search | None]] = {}
        """By the key of a point: for each open ask, in order, the search that it belongs to; None:
        to none, its trials judge."""
        self._open = 0

    def get_next_trials(self) -> Ask | None:
        """The best point of a search that has ended, or the next one of another search."""
        for search in self._searches:
            if search.ended and not search.judged:
                search.judged = True
                if search.chosen is not None:
                    return self._ask(search.chosen, search.trials, None)
        for search in self._searches:
            params = search.ask()
            if params is not None:
                return self._ask(params, self._search_trials, search)
        return None

    def _ask(self, params: Params, trials: int, search: _Search | None) -> Ask:
        self._asked.setdefault(params_key(params), deque()).append(search)
        self._open += 1
        return Ask(params, trials, group=FINAL if search is None else SEARCH)

    def has_more_trials(self) -> bool:
        """Until the best points of all searches were tried."""
        return bool(self._open) or not all(search.judged for search in self._searches)

    def on_results(self, result: TrialResults) -> None:
        """Note the result of a point."""
        asks = self._asked.get(params_key(result.params))
        if not asks:  # the point was told as failed
            return
        self._open -= 1
        search = asks.popleft()
        if search is not None:
            search.tell(result, self._goal)

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Go on without a point whose tuning failed; failed trials are told with the results.

        It is told once for all that was asked of the point.
        """
        if stage == TRIAL:
            return
        for search in self._asked.pop(params_key(params), ()):
            self._open -= 1
            if search is not None:
                search.fail(params, stage, error)


def _seed_of(seed: int, tuning: int) -> int:
    """The random seed of a tuning's searches, the same for every variant."""
    return int(np.random.SeedSequence([seed, tuning]).generate_state(1)[0])


def _names_of(variants: list[Params], nuisance: Domain) -> tuple[str, ...]:
    """The names of the scientific parameters.

    Raises:
        UsageError: a variant is not given by name, or a name is a nuisance parameter, too.
    """
    names: dict[str, None] = {}
    for variant in variants:
        if not isinstance(variant, Mapping):
            raise UsageError(f"scientific: {variant!r}: give the variants' parameters by name")
        names |= dict.fromkeys(variant)
    both = [name for name in nuisance.names if name in names]
    if both:
        raise UsageError(f"{', '.join(both)}: a parameter is either scientific or a nuisance")
    return tuple(names)


def _sampler(sampler: Any, metric: str, direction: str | None) -> Samples:
    """How the nuisance parameters are searched."""
    if isinstance(sampler, str) and sampler in SAMPLERS:
        kind = find_selector(SAMPLERS[sampler])
        return lambda domain, points, seed: kind(domain, points=points, trials=1, seed=seed)
    kind = find_selector("optuna")

    def make(domain: Domain, points: int, seed: int) -> ParamSelector:
        chosen = {"metric": metric, "sampler": sampler, "points": points, "trials": 1}
        if direction is not None:
            chosen["direction"] = direction
        return kind(domain, seed=seed, **chosen)

    return make
