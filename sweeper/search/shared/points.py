"""The points of whatever gives points: a domain, a list, another selector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.search.checks import check_count, check_params
from sweeper.search.selector import ParamSelector, as_ask
from sweeper.signature import params_key

if TYPE_CHECKING:
    from sweeper.search.domain import Domain


def take_points(source: Any, points: int | None, seed: int) -> list[Params]:
    """Points of `source`, no two alike.

    Args:
        source: A `Domain`; a list of points; or a selector that is not adaptive, of which only the
            points are used.
        points: How many: from a domain they are drawn, otherwise they are the first.  None: all.
        seed: Random seed of the drawing.

    Raises:
        UsageError: there are not as many, or no number is given for an infinite domain.
    """
    if points is not None and check_count("points", points) < 1:
        raise UsageError(f"points={points!r}: it must be 1 or more")
    from sweeper.search.domain import Domain

    if isinstance(source, Domain):
        return _of_domain(source, points, seed)
    unique = {params_key(params): params for params in _listed(source)}
    found = list(unique.values())[:points]
    if points is not None and len(found) < points:
        raise UsageError(f"points={points}: only {len(found)} were given")
    if not found:
        raise UsageError(f"{source!r} has no points")
    return found


def as_points_selector(given: Any, trials: int) -> ParamSelector:
    """`given` if it is a selector, or one that asks for `trials` trials of each point given.

    Raises:
        UsageError: it is neither a selector nor points.
    """
    if isinstance(given, ParamSelector):
        return given
    from sweeper.search.selectors.fixed import FixedSweep

    return FixedSweep.with_fixed_trials(take_points(given, None, 0), trials)


def _of_domain(domain: Domain, points: int | None, seed: int) -> list[Params]:
    if points is not None:
        return list(domain.sample(points, seed))
    if not domain.is_finite:
        raise UsageError(f"{domain} has no end: give points=, the number of points to draw from it")
    unique = {params_key(params): params for params in domain.points(seed)}
    return list(unique.values())


def _listed(source: Any) -> list[Params]:
    if isinstance(source, ParamSelector):
        if source.adaptive:
            raise UsageError(
                f"{source!r}: points are taken from a Domain, a list, or a selector that is not "
                "adaptive, such as sweeper.Grid or sweeper.RandomSearch"
            )
        return list(_asked(source))
    if not isinstance(source, Iterable) or isinstance(source, str | bytes):
        raise UsageError(
            f"{source!r} is a {type(source).__name__}: give a Domain, a list of points, or a "
            "selector that is not adaptive"
        )
    return [check_params(f"points[{place}]", params) for place, params in enumerate(source)]


def _asked(selector: ParamSelector) -> Iterable[Params]:
    while selector.has_more_trials():
        answer = selector.get_next_trials()
        if answer is None:
            return
        yield as_ask(answer).params
