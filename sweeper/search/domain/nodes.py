"""The expression behind a domain: its parts, and how they are put together.

Each kind of node says how many points it has, which they are and in which order, and which point
lies at a place of the unit cube.  A point is a mapping of parameter names to values.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sweeper.errors import UsageError
from sweeper.search.domain.axes import Axis, Values
from sweeper.signature import encode, without_aliases

Named: TypeAlias = dict[str, Any]
"""The parameters of a point by name."""


class Node(ABC):
    """A set of points."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The parameters that a point of it may have."""

    @property
    @abstractmethod
    def size(self) -> int | None:
        """The number of points, repeated ones included; None: without an end."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """The dimensions of the unit cube that `at` maps."""

    @abstractmethod
    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        """Its points in order, where it has an end; `rng` decides the order of mixtures alone."""

    @abstractmethod
    def at(self, u: Sequence[float]) -> Named | None:
        """The point at `u`, numbers from 0 to less than 1; None: a constraint refuses it."""

    @abstractmethod
    def holds(self, point: Mapping[str, Any]) -> bool:
        """Whether it has this point."""

    @property
    def may_repeat(self) -> bool:
        """Whether a point may occur twice."""
        return False


@dataclass(frozen=True)
class One(Node):
    """One parameter with its values."""

    name: str
    axis: Axis

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def size(self) -> int | None:
        return self.axis.size

    @property
    def dimensions(self) -> int:
        return 1

    def points(self, rng: np.random.Generator) -> Iterator[Named]:  # noqa: ARG002 - see Mixture
        if not isinstance(self.axis, Values):
            raise TypeError(f"{self.axis!r} has no list of values")
        return ({self.name: value} for value in self.axis.values)

    def at(self, u: Sequence[float]) -> Named:
        return {self.name: self.axis.quantile(u[0])}

    def holds(self, point: Mapping[str, Any]) -> bool:
        return point.keys() == {self.name} and point[self.name] in self.axis


@dataclass(frozen=True)
class Product(Node):
    """Every combination of its parts' points; the first part varies slowest."""

    parts: tuple[Node, ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.names)

    @functools.cached_property
    def size(self) -> int | None:
        sizes = [part.size for part in self.parts]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @functools.cached_property
    def dimensions(self) -> int:
        return sum(part.dimensions for part in self.parts)

    @property
    def may_repeat(self) -> bool:
        return any(part.may_repeat for part in self.parts)

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        for parts in itertools.product(*(part.points(rng) for part in self.parts)):
            yield _joined(parts)

    def at(self, u: Sequence[float]) -> Named | None:
        found, start = [], 0
        for part in self.parts:
            point = part.at(u[start : start + part.dimensions])
            if point is None:
                return None
            found.append(point)
            start += part.dimensions
        return _joined(found)

    def holds(self, point: Mapping[str, Any]) -> bool:
        known = point.keys() <= set(self.names)
        return known and all(part.holds(_only(point, part.names)) for part in self.parts)


@dataclass(frozen=True)
class _OneOfParts(Node):
    """Each point is one of a part; the first number of a place chooses which."""

    parts: tuple[Node, ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return _union(self.parts)

    @functools.cached_property
    def size(self) -> int | None:
        sizes = [part.size for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @functools.cached_property
    def dimensions(self) -> int:
        return 1 + max(part.dimensions for part in self.parts)

    @property
    def may_repeat(self) -> bool:
        return True


@dataclass(frozen=True)
class Sum(_OneOfParts):
    """Its parts' points, one part after the other."""

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        for part in self.parts:
            yield from part.points(rng)

    def at(self, u: Sequence[float]) -> Named | None:
        """The first number chooses the part: each point of the sum is equally likely."""
        sizes = [part.size for part in self.parts]
        if None in sizes:
            raise UsageError(
                f"{self.parts[-1]} has no end, so nothing says how often a + b is to draw from "
                "it: give both a weight, as in 0.5 * a + 0.5 * b"
            )
        part = self.parts[share_at([size or 0 for size in sizes], u[0])]
        return part.at(u[1 : 1 + part.dimensions])

    def holds(self, point: Mapping[str, Any]) -> bool:
        return any(part.holds(point) for part in self.parts)


@dataclass(frozen=True)
class Mixture(_OneOfParts):
    """Its parts' points, drawn from the parts in proportion to their weights."""

    weights: tuple[float, ...]

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        """In each part its own order; one that is used up leaves its share to the others."""
        left = [
            (part.points(rng), weight)
            for part, weight in zip(self.parts, self.weights, strict=True)
        ]
        while left:
            place = share_at([weight for _, weight in left], float(rng.random()))
            point = next(left[place][0], None)
            if point is None:
                del left[place]
            else:
                yield point

    def at(self, u: Sequence[float]) -> Named | None:
        """The first number chooses the part."""
        part = self.parts[share_at(self.weights, u[0])]
        return part.at(u[1 : 1 + part.dimensions])

    def holds(self, point: Mapping[str, Any]) -> bool:
        return any(part.holds(point) for part in self.parts)


@dataclass(frozen=True)
class Pairs(Node):
    """The first point of its left part with the first of its right one, and so on."""

    left: Node
    right: Node

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return (*self.left.names, *self.right.names)

    @property
    def size(self) -> int | None:
        return self.left.size

    @property
    def dimensions(self) -> int:
        return 1

    @property
    def may_repeat(self) -> bool:
        return self.left.may_repeat and self.right.may_repeat

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        pairs = zip(self.left.points(rng), self.right.points(rng), strict=True)
        return (_joined(pair) for pair in pairs)

    @functools.cached_property
    def _listed(self) -> list[Named]:
        return list(self.points(np.random.default_rng(0)))

    def at(self, u: Sequence[float]) -> Named | None:
        listed = self._listed
        if not listed:
            return None
        return dict(listed[min(math.floor(u[0] * len(listed)), len(listed) - 1)])

    def holds(self, point: Mapping[str, Any]) -> bool:
        return encode(point) in {encode(one) for one in self._listed}


@dataclass(frozen=True)
class When(Node):
    """The points of `base`, those that meet the conditions combined with the points of `extra`."""

    base: Node
    conditions: tuple[tuple[str, Values], ...]
    """Names of parameters, with the values that they must have."""
    extra: Node

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return (*self.base.names, *self.extra.names)

    @functools.cached_property
    def size(self) -> int | None:
        if self.base.size is None or self.extra.size is None:
            return None
        met = sum(map(self._meets, self.base.points(np.random.default_rng(0))))
        return self.base.size - met + met * self.extra.size

    @functools.cached_property
    def dimensions(self) -> int:
        return self.base.dimensions + self.extra.dimensions

    @property
    def may_repeat(self) -> bool:
        return self.base.may_repeat or self.extra.may_repeat

    def _meets(self, point: Mapping[str, Any]) -> bool:
        return all(name in point and point[name] in values for name, values in self.conditions)

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        for point in self.base.points(rng):
            if self._meets(point):
                yield from (point | extra for extra in self.extra.points(rng))
            else:
                yield point

    def at(self, u: Sequence[float]) -> Named | None:
        point = self.base.at(u[: self.base.dimensions])
        if point is None or not self._meets(point):
            return point
        extra = self.extra.at(u[self.base.dimensions : self.dimensions])
        return None if extra is None else point | extra

    def holds(self, point: Mapping[str, Any]) -> bool:
        base, extra = _only(point, self.base.names), _only(point, self.extra.names)
        if len(base) + len(extra) < len(point) or not self.base.holds(base):
            return False
        return self.extra.holds(extra) if self._meets(base) else not extra


@dataclass(frozen=True)
class Where(Node):
    """The points of `base` that a predicate accepts."""

    base: Node
    predicate: Callable[[Any], object]

    @property
    def names(self) -> tuple[str, ...]:
        return self.base.names

    @functools.cached_property
    def size(self) -> int | None:
        if self.base.size is None:
            return None
        return sum(map(self._accepts, self.base.points(np.random.default_rng(0))))

    @property
    def dimensions(self) -> int:
        return self.base.dimensions

    @property
    def may_repeat(self) -> bool:
        return self.base.may_repeat

    def _accepts(self, point: Mapping[str, Any]) -> bool:
        values = without_aliases(point)
        try:
            return bool(self.predicate(values))
        except Exception as error:
            raise UsageError(
                f"the predicate of where() raised {type(error).__name__} at {values!r}: {error}"
            ) from error

    def points(self, rng: np.random.Generator) -> Iterator[Named]:
        return filter(self._accepts, self.base.points(rng))

    def at(self, u: Sequence[float]) -> Named | None:
        point = self.base.at(u)
        return point if point is not None and self._accepts(point) else None

    def holds(self, point: Mapping[str, Any]) -> bool:
        return self.base.holds(point) and self._accepts(point)


def _joined(points: Sequence[Named]) -> Named:
    return {name: value for point in points for name, value in point.items()}


def _only(point: Mapping[str, Any], names: Sequence[str]) -> Named:
    return {name: point[name] for name in names if name in point}


def _union(parts: Sequence[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part.names))


def share_at(weights: Sequence[float], u: float) -> int:
    """The place in whose share of the unit interval `u` lies; shares are as the weights."""
    totals = list(itertools.accumulate(weights))
    place = bisect.bisect_right(totals, u * totals[-1])
    return min(place, len(weights) - 1)
