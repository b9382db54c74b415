"""`FixedSweep`: a list of points that is known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.renamed import accepts_earlier
from sweeper.search.checks import MOST_TRIALS, check_count, check_params
from sweeper.search.selector import ParamSelector
from sweeper.search.selectors.random_points import draw_points

_RESULT_FIELDS = 8
"""The fields of a point's result: params, lr_min, lr_max, batch_size, perf_train, …"""


class FixedSweep(ParamSelector):
    """The points that it is given, in their order.

    Args:
        results: What to train, in one of two forms, which may be mixed:

            - pairs `(params, trials)`;
            - the results of an earlier sweep (a `SweepResult`, what `funcres.pt` holds, or some of
              their rows): its points are repeated, each with as many trials as it has results.
              Only points and counts are taken over: every point is tuned again for the problem at
              hand.  So the best ten of a quick sweep can be repeated with better settings.

    Raises:
        UsageError: an item has neither form, or its trials are not a whole number, 0 or more.
    """

    name = "fixed"
    most_untold = MOST_TRIALS

    @accepts_earlier(gnt_results="results")
    def __init__(self, results: Iterable[Any]) -> None:
        self._left = deque(_read(f"results[{place}]", item) for place, item in enumerate(results))

    @classmethod
    @accepts_earlier(pts="points")
    def with_fixed_trials(cls, points: Iterable[Params], trials: int) -> FixedSweep:
        """These points, each with the same number of trials.

        Raises:
            UsageError: a point is neither a tuple nor a mapping, or `points` are no list of them,
                or `trials` is not a whole number, 0 or more.
        """
        check_count("trials", trials)
        if not isinstance(points, Iterable):
            raise UsageError(f"points={points!r} is no list of points")
        return cls(
            (check_params(f"points[{place}]", params), trials)
            for place, params in enumerate(points)
        )

    @classmethod
    def with_random_trials(
        cls,
        ranges: Sequence[Any] | Mapping[str, Any],
        points: int,
        trials: int,
        r_eps: float = 0.01,
        seed: int = 0,
    ) -> FixedSweep:
        """Points drawn at random, each with the same number of trials.

        With the same ranges and seed, asking for more points only adds to those there were, so
        that a sweep can be extended.

        Args:
            ranges: A sequence of ranges, which makes points that are tuples, or a mapping of
                parameter names to ranges, which makes points that are dicts.  Both ends of a range
                belong to it.  A range is

                - an int n: the integers 0 to n;
                - a set or frozenset: one of its values;
                - a tuple or list `(low, high)`: integers, or floats when either is a float.
            points: How many points.
            trials: How many trials of each.
            r_eps: A point that in *every* parameter is closer to an earlier one than `r_eps` times
                the width of the range is rejected, and another is drawn.  Equal values are always
                close, different choices of a set never.
            seed: Of the draws.

        Raises:
            UsageError: a range or number breaks its rule, or the ranges are too small for so many
                points; the message says how many were found.
        """
        return cls.with_fixed_trials(draw_points(ranges, points, r_eps, seed), trials)

    def get_next_trials(self) -> tuple[Params, int] | None:
        """The next point in order."""
        return self._left.popleft() if self._left else None

    def has_more_trials(self) -> bool:
        """Whether any point is left."""
        return bool(self._left)


def _read(name: str, item: Any) -> tuple[Params, int]:
    fields = tuple(item) if isinstance(item, tuple | list) else ()
    if len(fields) == 2:
        return check_params(f"{name}: params", fields[0]), check_count(f"{name}: trials", fields[1])
    # A parameter tuple may have eight values too; its fifth is no array.
    if len(fields) == _RESULT_FIELDS and hasattr(fields[4], "__len__"):
        return check_params(f"{name}: params", fields[0]), len(fields[4])
    raise UsageError(
        f"{name}={item!r} is neither a pair (params, trials) nor a point's result of an earlier "
        "sweep: for points alone use FixedSweep.with_fixed_trials(points, trials)"
    )
