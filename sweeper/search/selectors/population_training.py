"""`PopulationBasedTraining`: settings that change while their trials train."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import TRIAL, Params, Parent
from sweeper.search.checks import check_count, check_number
from sweeper.search.domain import Domain
from sweeper.search.selector import Ask, ParamSelector, TrialResults
from sweeper.search.shared.goals import read_goal
from sweeper.search.shared.points import take_points
from sweeper.signature import params_key


@dataclass(frozen=True, slots=True)
class Truncate:
    """Exploit: the worst of a generation are replaced by copies of its best."""

    proportion: float = 0.2
    """The share that is replaced, and that is copied from: at most one half."""

    def __post_init__(self) -> None:
        if not 0 <= check_number("proportion", self.proportion) <= 0.5:
            raise UsageError(f"Truncate({self.proportion!r}): the proportion must be from 0 to 0.5")

    def count(self, population: int) -> int:
        """How many of so many members are replaced."""
        return min(population // 2, math.ceil(self.proportion * population))


@dataclass(frozen=True, slots=True)
class Perturb:
    """Explore: every number of a copied member is multiplied by a factor, drawn for each.

    Whole numbers stay whole; truth values, texts and all else stay as they are.
    """

    min_factor: float = 0.8
    max_factor: float = 1.2

    def __post_init__(self) -> None:
        low = check_number("min_factor", self.min_factor)
        if not 0 < low <= check_number("max_factor", self.max_factor):
            raise UsageError(f"{self!r}: expected 0 < min_factor <= max_factor")

    def __call__(self, value: Any, generator: np.random.Generator) -> Any:
        """A parameter's new value."""
        factor = generator.uniform(self.min_factor, self.max_factor)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return round(value * factor) if isinstance(value, int) else value * factor


@dataclass(slots=True)
class _Member:
    params: Params
    parent: Parent | None = None
    value: float | None = None
    """What it came to, larger is better; None: it failed or diverged."""
    ended: bool = False


class PopulationBasedTraining(ParamSelector):
    """A population whose worst members begin anew from its best, with changed settings.

    Each generation trains all members for `budget` further cycles.  Then the worst are replaced:
    each begins from the checkpoint of one of the best, whose settings it takes, changed by
    `explore`; all others go on with their own.  The result is a schedule of settings: the
    last member's, its parent's, and so on (M. Jaderberg et al., "Population based training of
    neural networks", arXiv:1711.09846, 2017).

    A generation is decided once all of it has ended, so that members of the same length are
    compared: at its end cores may idle, fewer if the population is a multiple of them.

    Args:
        domain: The settings of the first generation: a `Domain`, or a list of points.  What changes
            must leave the model's shapes as they are.
        metric: The metric that decides.
        population_size: Number of members, 2 or more.
        max_generations: Number of generations, 1 or more; more of them go on from the last.
        exploit: Which are replaced by which.
        explore: How settings change.
        budget: Learning-rate cycles of each generation; of a program, iterations.
        direction: `"maximize"` or `"minimize"`, for a metric that the workload declares.
        seed: Random seed of the first points, of whom is copied, and of changes.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "population"
    adaptive = True
    uses_parents = True

    def __init__(
        self,
        domain: Domain | Iterable[Params],
        metric: str = "perf_val",
        population_size: int = 10,
        max_generations: int = 10,
        exploit: Truncate = Truncate(),
        explore: Perturb = Perturb(),
        *,
        budget: int = 1,
        direction: str | None = None,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("population_size", population_size, 2),
            ("max_generations", max_generations, 1),
            ("budget", budget, 1),
        ):
            if check_count(name, value) < least:
                raise UsageError(f"{name}={value!r}: it must be {least} or more")
        self._goal = read_goal(metric, direction)
        points = take_points(domain, population_size, seed)
        self._members = [_Member(params) for params in points]
        self._most, self._budget, self._seed = int(max_generations), int(budget), seed
        self._exploit, self._explore = exploit, explore
        self.look_ahead = len(points)
        self._generation = 0
        self._asked = 0
        """How many members of this generation were asked for."""

    def get_next_trials(self) -> Ask | None:
        """The next member of the generation; None until it is decided."""
        if self._asked == len(self._members):
            return None
        member = self._members[self._asked]
        self._asked += 1
        return Ask(member.params, 1, self._budget, member.parent)

    def has_more_trials(self) -> bool:
        """Until the last generation has ended, or no member of one can go on."""
        return not all(member.ended for member in self._members)

    def on_results(self, result: TrialResults) -> None:
        """Note what a member came to."""
        member = next(one for one in self._members if not one.ended)  # told in order of asking
        value = None if result.failures else self._goal.mean(result)
        if value is not None:
            member.value, member.parent = value, result.as_parent(int(result.numbers[0]))
        self._end([member])

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Go on without a member whose tuning failed; failed trials are told with the results."""
        del error
        if stage == TRIAL:
            return
        # Tuning fails once for all members with these settings that were asked for.
        key, asked = params_key(params), self._members[: self._asked]
        self._end([one for one in asked if not one.ended and params_key(one.params) == key])

    def _end(self, members: Iterable[_Member]) -> None:
        for member in members:
            member.ended = True
        if not self.has_more_trials() and self._generation + 1 < self._most:
            self._breed()

    def _breed(self) -> None:
        """The next generation."""
        members = self._members
        ranked = sorted(
            (place for place, member in enumerate(members) if member.value is not None),
            key=lambda place: (-(members[place].value or 0.0), place),
        )
        if not ranked:
            return
        count = self._exploit.count(len(members))
        best = ranked[: max(1, count)]
        kept = set(ranked[: max(len(best), len(members) - count)])
        generator = np.random.default_rng([self._seed, self._generation])
        self._members = [
            _Member(member.params, member.parent)
            if place in kept
            else self._copy(members[int(generator.choice(best))], generator)
            for place, member in enumerate(members)
        ]
        self._generation += 1
        self._asked = 0

    def _copy(self, member: _Member, generator: np.random.Generator) -> _Member:
        """A member that begins from this one, with changed settings."""

        def changed(value: Any) -> Any:
            return self._explore(value, generator)

        params = member.params
        if isinstance(params, Mapping):
            return _Member({k: changed(v) for k, v in params.items()}, member.parent)
        return _Member(tuple(map(changed, params)), member.parent)
