"""`FixedSweep`: a fixed list of points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.renamed import accepts_earlier
from sweeper.search.checks import check_count, check_params
from sweeper.search.selectors.random_points import draw_points
from sweeper.search.shared.listed import Listed

_RESULT_FIELDS = 8
"""The fields of a point's result: params, lr_min, lr_max, batch_size, perf_train, …"""


class FixedSweep(Listed):
    """Asks for given points, in the given order.

    Args:
        results: What to train, in one of two forms, which may be mixed:

            - pairs `(params, trials)`;
            - the results of an earlier sweep (a `SweepResult`, what `funcres.pt` holds, or some of
              their rows): its points are repeated, each with as many trials as it has results.
              Only points and counts are used: every point is tuned again.  So the best ten of a
              quick sweep can be repeated with better settings.
        budget: How far each trial goes, in iterations of a program or learning-rate cycles of a
            problem; None: its whole length.

    Raises:
        UsageError: an item has neither form, or its trials are not a whole number, 0 or more.
    """

    name = "fixed"

    @accepts_earlier(gnt_results="results")
    def __init__(self, results: Iterable[Any], *, budget: int | None = None) -> None:
        asks = (_read(f"results[{place}]", item) for place, item in enumerate(results))
        super().__init__(asks, budget)

    @classmethod
    @accepts_earlier(pts="points")
    def with_fixed_trials(
        cls, points: Iterable[Params], trials: int, *, budget: int | None = None
    ) -> FixedSweep:
        """These points, each with the same number of trials, all of one budget.

        Raises:
            UsageError: a point is neither a tuple nor a mapping, `points` is not a list of points,
                or `trials` is not a whole number, 0 or more.
        """
        check_count("trials", trials)
        if not isinstance(points, Iterable):
            raise UsageError(f"points={points!r} is not a list of points")
        asks = (
            (check_params(f"points[{place}]", params), trials)
            for place, params in enumerate(points)
        )
        return cls(asks, budget=budget)

    @classmethod
    def with_random_trials(
        cls,
        ranges: Sequence[Any] | Mapping[str, Any],
        points: int,
        trials: int,
        r_eps: float = 0.01,
        seed: int = 0,
    ) -> FixedSweep:
        """Random points as earlier releases drew them: `RandomSearch` draws from any domain.

        It stays for the folders that were begun with it.  With the same ranges and seed, asking for
        more points only adds points, so that a sweep can be extended.

        Args:
            ranges: A sequence of ranges, for points that are tuples, or a mapping of parameter
                names to ranges, for points that are dicts.  Both ends of a range are included.  A
                range is

                - an int n: the integers 0 to n;
                - a set or frozenset: one of its values;
                - a tuple or list `(low, high)`: integers, or floats when either is a float.
            points: Number of points.
            trials: Number of trials per point.
            r_eps: A point is rejected and redrawn if in *every* parameter it is closer to an
                earlier point than `r_eps` times the width of the range.  Equal values are always
                close, different choices of a set never.
            seed: Random seed.

        Raises:
            UsageError: a range or number breaks its rule, or the ranges are too small for so many
                points; the message says how many were found.
        """
        return cls.with_fixed_trials(draw_points(ranges, points, r_eps, seed), trials)


def _read(name: str, item: Any) -> tuple[Params, int]:
    fields = tuple(item) if isinstance(item, tuple | list) else ()
    if len(fields) == 2:
        return check_params(f"{name}: params", fields[0]), check_count(f"{name}: trials", fields[1])
    # A parameter tuple may have eight values too, but its fifth is not an array.
    if len(fields) == _RESULT_FIELDS and hasattr(fields[4], "__len__"):
        return check_params(f"{name}: params", fields[0]), len(fields[4])
    raise UsageError(
        f"{name}={item!r} is neither a pair (params, trials) nor a point's result of an earlier "
        "sweep: for points without counts use FixedSweep.with_fixed_trials(points, trials)"
    )
