"""Random points from ranges, none too close to another (pure: the seed decides)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.search.checks import check_count
from sweeper.signature import in_order, normalise, without_numpy

if TYPE_CHECKING:
    import numpy as np

_RULE = (
    "a range is an int n, 0 or more (the integers 0 to n), a set of choices, or (low, high) with "
    "low <= high, both included (integers, or floats when either is a float)"
)


@dataclass(frozen=True, slots=True)
class _Choices:
    """Choices of a set, drawn by index; without a width, so that only equal ones are close."""

    values: list[Any]
    width: int = 0

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.values)))

    def value(self, drawn: int) -> Any:
        return self.values[drawn]


@dataclass(frozen=True, slots=True)
class _Integers:
    low: int
    high: int

    @property
    def width(self) -> int:
        return self.high - self.low

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.low, self.high, endpoint=True))

    def value(self, drawn: int) -> int:
        return drawn


@dataclass(frozen=True, slots=True)
class _Floats:
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def draw(self, rng: np.random.Generator) -> float:
        # numpy's `uniform` excludes the upper end.
        part = int(rng.integers(2**53, endpoint=True)) / 2**53
        return min(max(self.low + part * self.width, self.low), self.high)

    def value(self, drawn: float) -> float:
        return drawn


_Range: TypeAlias = _Choices | _Integers | _Floats


def draw_points(
    ranges: Sequence[Any] | Mapping[str, Any], points: int, r_eps: float = 0.01, seed: int = 0
) -> list[Params]:
    """Draw points from ranges: tuples from a sequence of ranges, dicts from a mapping.

    A point is rejected if it is close to an earlier one in every parameter: equal, or closer than
    `r_eps` times the width of the range.  The same arguments give the same points in every process,
    the order of a mapping's names does not matter, and more points begin with the fewer.

    Args:
        ranges: See `FixedSweep.with_random_trials`.
        points: Number of points, 0 or more.
        r_eps: From 0 (only equal points are rejected) to less than 1.
        seed: A whole number, 0 or more.

    Raises:
        UsageError: a range or number breaks its rule, or too many points were rejected; the
            message says how many were found.
        ParamError: a choice that cannot be stored.
    """
    check_count("points", points)
    check_count("seed", seed, most=None)
    if isinstance(r_eps, bool) or not isinstance(r_eps, int | float) or not 0 <= r_eps < 1:
        raise UsageError(f"r_eps={r_eps!r}: it must be a number from 0 to less than 1")
    if isinstance(ranges, Mapping):
        _check_any(ranges)
        for name in ranges:
            if not isinstance(name, str):
                raise UsageError(f"ranges={ranges!r}: the name {name!r} is not a string")
        names = sorted(ranges)
        rows = _draw([_read_range(name, ranges[name]) for name in names], points, r_eps, seed)
        named = [dict(zip(names, row, strict=True)) for row in rows]
        return [{name: row[name] for name in ranges} for row in named]
    if isinstance(ranges, str | bytes) or not isinstance(ranges, Sequence):
        raise UsageError(
            f"ranges={ranges!r} is a {type(ranges).__name__}: give a sequence of ranges (for "
            "parameters passed by position) or a mapping of names to ranges"
        )
    _check_any(ranges)
    read = [_read_range(f"ranges[{place}]", given) for place, given in enumerate(ranges)]
    return list(_draw(read, points, r_eps, seed))


def _check_any(ranges: Sequence[Any] | Mapping[str, Any]) -> None:
    if not ranges:
        raise UsageError(f"ranges={ranges!r}: give at least one range, since points differ by them")


def _draw(ranges: list[_Range], points: int, r_eps: float, seed: int) -> list[tuple[Any, ...]]:
    import numpy as np  # not above: a script makes its selector before the fork server starts

    rng = np.random.default_rng(seed)
    # Rejections in a row.  Large enough to exhaust a small space: the last of n points is missed
    # with probability exp(-20).
    limit = 1000 + 20 * points
    accepted: list[tuple[Any, ...]] = []
    rejected = 0
    while len(accepted) < points:
        drawn = tuple(each.draw(rng) for each in ranges)
        if any(_is_close(ranges, drawn, earlier, r_eps) for earlier in accepted):
            rejected += 1
            if rejected == limit:
                raise UsageError(
                    f"points={points}: only {len(accepted)} were found, then {limit} random points "
                    f"in a row were rejected as too close to them: ask for fewer points, widen the "
                    f"ranges, or lower r_eps, which is {r_eps!r}"
                )
        else:
            rejected = 0
            accepted.append(drawn)
    return [
        tuple(each.value(drawn) for each, drawn in zip(ranges, row, strict=True))
        for row in accepted
    ]


def _is_close(
    ranges: list[_Range], one: tuple[Any, ...], other: tuple[Any, ...], r_eps: float
) -> bool:
    # Equal is close whatever r_eps is: the same point again would only add trials to it.
    return all(
        a == b or abs(a - b) < r_eps * each.width
        for each, a, b in zip(ranges, one, other, strict=True)
    )


def _read_range(name: str, given: Any) -> _Range:
    plain = without_numpy(given)
    if isinstance(plain, set | frozenset) and plain:
        return _Choices(in_order({normalise(value, name) for value in plain}))
    if isinstance(plain, int) and not isinstance(plain, bool):
        plain = (0, plain)
    if isinstance(plain, tuple | list) and len(plain) == 2:
        ends = [without_numpy(end) for end in plain]
        if all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            return _read_ends(name, given, *ends)
    hint = ""
    if isinstance(plain, tuple | list | str):
        hint = "; to choose among values write a set: {…}"
    raise UsageError(f"{name}={given!r} is not a range: {_RULE}{hint}")


def _read_ends(name: str, given: Any, low: float, high: float) -> _Range:
    if not low <= high:
        raise UsageError(f"{name}={given!r}: low must not exceed high; {_RULE}")
    if isinstance(low, int) and isinstance(high, int):
        if low < -(2**63) or high >= 2**63:
            raise UsageError(f"{name}={given!r}: the integers of a range must fit in 64 bits")
        return _Integers(low, high)
    try:
        floats = _Floats(float(low), float(high))
    except OverflowError:
        floats = _Floats(-math.inf, math.inf)
    if not math.isfinite(floats.width):
        raise UsageError(f"{name}={given!r}: the ends and the width of a range must be finite")
    return floats
