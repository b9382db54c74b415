"""`Grid`: every point of a domain."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.search.checks import check_count
from sweeper.search.domain import Domain, check_domain
from sweeper.search.shared.listed import Listed
from sweeper.signature import encode


class Grid(Listed):
    """Every point of a domain, or of the product of axes given by name.

    `Grid(trials=10, hidden=[16, 64], depth=[1, 2, 3])` is `Grid(Domain(hidden=[16, 64],
    depth=[1, 2, 3]), trials=10)`: the first axis varies slowest, and with no axes there is one
    point, the model without parameters.  A point that a domain has twice is asked for once.

    Args:
        domain: A finite domain; all other keywords are then the options below.
        trials: Number of trials per point.
        axes: Without a domain: for each parameter its values, as in `Domain`.  A parameter that is
            named `trials` needs a domain.
        repeat_each: Ask for one trial of each of so many points, then for another one, until each
            has all; then for the next points.  The selector is then adaptive: it is asked again as
            trials end.  None: all trials of a point at once, which is faster, since they can train
            together.
        shuffle: Put the points in a random order.
        seed: Random seed of that order, and of the order of a mixture of domains.
        budget: How far each trial goes, in iterations of a program or learning-rate cycles of a
            problem; None: its whole length.

    Raises:
        UsageError: the domain is infinite; an axis is not an iterable of values, has none, or has a
            value twice; or an option breaks its rule.
        ParamError: a value that cannot be stored.
    """

    name = "grid"

    @overload
    def __init__(
        self,
        domain: Domain,
        /,
        *,
        trials: int,
        repeat_each: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        budget: int | None = None,
    ) -> None: ...

    @overload
    def __init__(self, /, *, trials: int, **axes: Iterable[Any]) -> None: ...

    def __init__(self, domain: Domain | None = None, /, *, trials: int, **axes: Any) -> None:
        check_count("trials", trials)
        if domain is None:
            points: list[Params] = list(Domain(axes))
            repeat_each = budget = None
        else:
            options = _read_options(axes)
            budget = options.pop("budget")
            points, repeat_each = _points_in_order(domain, **options)
        if repeat_each is not None:
            self.adaptive = True
            self.look_ahead = max(Listed.look_ahead, repeat_each)
        super().__init__(_asks(points, trials, repeat_each), budget)

    @classmethod
    def from_options(
        cls, domain: Domain | None = None, *, trials: int, budget: int | None = None, **others: Any
    ) -> Grid:
        """A grid as options of a command line make it, all of them given by name.

        Args:
            domain: The domain; None: `others` are its axes.
            trials: Number of trials per point.
            budget: How far each trial goes.
            others: The other options, if there is a domain.

        Raises:
            UsageError: as `Grid`.
            ParamError: as `Grid`.
        """
        if domain is None:
            domain, others = Domain(others), {}
        return cls(domain, trials=trials, budget=budget, **others)


_OPTIONS = {"repeat_each": None, "shuffle": False, "seed": 0, "budget": None}


def _read_options(given: dict[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name not in _OPTIONS:
            raise UsageError(
                f"{name}={value!r}: with a domain, Grid takes trials, {', '.join(_OPTIONS)}; "
                "axes belong into the domain"
            )
    return {**_OPTIONS, **given}


def _points_in_order(
    domain: Domain, repeat_each: int | None, shuffle: bool, seed: int
) -> tuple[list[Params], int | None]:
    check_domain(domain)
    check_count("seed", seed, most=None)
    if not isinstance(shuffle, bool):
        raise UsageError(f"shuffle={shuffle!r}: it must be True or False")
    if repeat_each is not None and check_count("repeat_each", repeat_each) == 0:
        raise UsageError("repeat_each=0: it must be 1 or more, or None")
    points: list[Params] = list(domain.points(seed))
    if not points:
        raise UsageError(f"{domain} has no points")
    if domain.may_repeat:
        points = list({encode(point): point for point in reversed(points)}.values())[::-1]
    if shuffle:
        points = [points[place] for place in np.random.default_rng(seed).permutation(len(points))]
    return points, repeat_each


def _asks(
    points: Sequence[Params], trials: int, repeat_each: int | None
) -> Iterator[tuple[Params, int]]:
    if repeat_each is None or trials == 0:
        yield from ((point, trials) for point in points)
        return
    for begin in range(0, len(points), repeat_each):
        some = points[begin : begin + repeat_each]
        yield from ((point, 1) for point in itertools.chain(*[some] * trials))
