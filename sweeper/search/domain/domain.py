"""`Domain`: a set of points, and the algebra of such sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.search.checks import check_count, check_number
from sweeper.search.domain.axes import Values, read_axis, read_values
from sweeper.search.domain.nodes import (
    Mixture,
    Named,
    Node,
    One,
    Pairs,
    Product,
    Sum,
    When,
    Where,
)
from sweeper.search.domain.sampling import random_places, sample, sobol_places
from sweeper.search.domain.updates import Due, Update, UpdatedDomain
from sweeper.search.domain.writing import write
from sweeper.signature import normalise


class Domain:
    """A set of points, by name: `Domain(width=[16, 64], act=["Tanh", "ReLU"])` has four.

    A parameter has a list of values, or a distribution: one of this package, or whatever has
    `rvs(random_state=…)`, such as the frozen distributions of `scipy.stats`.  With a distribution
    the domain is infinite, and points are drawn from it (`RandomSearch`, `SobolSearch`).

    Domains are put together:

    - `a * b`: every combination of their points; the points of `a` vary slowest;
    - `a + b`: the points of `a`, then those of `b`;
    - `a @ b`: the first point of `a` with the first of `b`, and so on;
    - `0.3 * a + 0.7 * b`: points of both, drawn in this proportion;
    - `a.when(…)`, `a.where(…)`: parameters that only some points have, and constraints.

    It has many methods since the algebra is written by operators, each a method of Python's.
    `len(a)`, `for point in a` and `point in a` are as for a list of dicts.  Domains are equal if
    they are built of the same parts in the same order.

    Args:
        axes: For each parameter its values: any finite iterable, or a distribution.  A set is
            sorted by its values' encodings, which gives the same order in every process.  A mapping
            and names by keyword are the same; without any there is one point, the model without
            parameters.

    Raises:
        UsageError: values that are neither, none, or a value twice.
        ParamError: a value that cannot be stored.
    """

    def __init__(self, axes: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        if axes is not None and not isinstance(axes, Mapping):
            raise UsageError(
                f"Domain({axes!r}): give a mapping of names to values, or write name=values"
            )
        named: dict[str, Any] = {}
        for name, values in [*(axes or {}).items(), *more.items()]:
            if not isinstance(name, str):
                raise UsageError(f"Domain({axes!r}): the name {name!r} is not a string")
            if name in named:
                raise UsageError(f"Domain({axes!r}): {name} is given twice")
            named[name] = values
        self.node: Node = Product(
            tuple(One(name, read_axis(name, values)) for name, values in named.items())
        )

    @classmethod
    def _of(cls, node: Node) -> Domain:
        made = Domain.__new__(Domain)
        made.node = node
        return made

    # -- the algebra ------------------------------------------------------------------------------

    def __mul__(self, other: object) -> Domain:
        if not isinstance(other, Domain):
            return NotImplemented
        mine, its = self.node, other.node
        for one, rest, is_left in ((mine, its, True), (its, mine, False)):
            if isinstance(one, Mixture) and len(one.parts) == 1:  # 0.3 * a * b is 0.3 * (a * b)
                pair = (one.parts[0], rest) if is_left else (rest, one.parts[0])
                return Domain._of(Mixture((_product(*pair),), one.weights))
        return Domain._of(_product(mine, its))

    def __rmul__(self, weight: object) -> Domain:
        if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
            return NotImplemented
        if check_number("the weight of a domain", weight) <= 0:
            raise UsageError(f"the weight of a domain is {weight!r}: it must be above 0")
        number, node = float(weight), self.node
        if isinstance(node, Mixture):
            return Domain._of(Mixture(node.parts, tuple(number * one for one in node.weights)))
        return Domain._of(Mixture((node,), (number,)))

    def __add__(self, other: object) -> Domain:
        if not isinstance(other, Domain):
            return NotImplemented
        mine, its = self.node, other.node
        if isinstance(mine, Mixture) and isinstance(its, Mixture):
            return Domain._of(Mixture(mine.parts + its.parts, mine.weights + its.weights))
        if isinstance(mine, Mixture) or isinstance(its, Mixture):
            raise UsageError(
                f"({self}) + ({other}): only one has a weight: give both one, as in "
                "0.3 * a + 0.7 * b, or none"
            )
        if mine.size is None:
            raise UsageError(
                f"({self}) + ({other}): the first has no end, so the second would never be "
                "reached: to draw from both write 0.5 * a + 0.5 * b"
            )
        parts = [part for node in (mine, its) for part in _terms(node)]
        return Domain._of(Sum(tuple(parts)))

    def __matmul__(self, other: object) -> Domain:
        if not isinstance(other, Domain):
            return NotImplemented
        mine, its = self.node, other.node
        _check_apart(f"({self}) @ ({other})", mine.names, its.names)
        if mine.size is None or mine.size != its.size:
            sizes = [_counted(node.size) for node in (mine, its)]
            raise UsageError(
                f"({self}) @ ({other}): the first has {sizes[0]}, the second {sizes[1]}: a pair "
                "takes one of each, so both must have as many"
            )
        return Domain._of(Pairs(mine, its))

    def when(self, **given: Any) -> Domain:
        """Parameters that only some points have.

        `Domain(optimizer=["sgd", "adam"]).when(optimizer="sgd", momentum=Uniform(0, 0.99))`: a
        point has a momentum where its optimizer is `"sgd"`.

        Args:
            given: Names of this domain's parameters with the value that they must have (a set of
                values: one of them); and new names with their values, as for `Domain`.

        Raises:
            UsageError: there is no condition, nothing new, or a value that no point has.
        """
        names = self.node.names
        conditions = {name: value for name, value in given.items() if name in names}
        extra = {name: value for name, value in given.items() if name not in names}
        if not conditions or not extra:
            lacking = "a new parameter with its values" if conditions else "a condition"
            raise UsageError(
                f"({self}).when({', '.join(given)}): it lacks {lacking}; the parameters of this "
                f"domain are {', '.join(names) or 'none'}"
            )
        read = [(name, self._condition(name, value)) for name, value in conditions.items()]
        return Domain._of(When(self.node, tuple(read), Domain(extra).node))

    def _condition(self, name: str, value: Any) -> Values:
        wanted = value if isinstance(value, set | frozenset) else [value]
        values = read_values(name, wanted)
        for one in values.values:
            if not any(one in axis for axis in _axes_of(self.node, name)):
                raise UsageError(f"({self}).when({name}={one!r}): {name} is never {one!r}")
        return values

    def where(self, predicate: Callable[[dict[str, Any]], object]) -> Domain:
        """The points that `predicate` accepts; it gets a point's parameters by name, as a model.

        Raises:
            UsageError: it cannot be called.
        """
        if not callable(predicate):
            raise UsageError(f"where({predicate!r}): give a function of a point's parameters")
        return Domain._of(Where(self.node, predicate))

    def update_domain(
        self, function: Update, when: Due, *, points: int | None = None
    ) -> UpdatedDomain:
        """A search that begins with this domain and goes on with those that `function` gives.

        `sweep(problem, domain.update_domain(narrower, when=8), trials=4)` tries eight points, then
        those of `narrower(results)` instead of what is left of this domain.  A point is tried once,
        also if several domains have it.

        Args:
            function: Gives the next domain, or None to go on with the current one.  It is given a
                sequence of `TrialResults`, one a complete point in the order of asking; a point
                that could not be tuned has none.
            when: n: after every n complete points; a list: after so many; `"last"`: when the
                current domain is used up.  Points beyond are not begun before it has decided.
            points: Number of all points that are tried at most; None: no limit, which all domains
                must have then.

        Raises:
            UsageError: one of them breaks its rule.
        """
        return UpdatedDomain(self, function, when, points)

    # -- its points -------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that a point may have, in order."""
        return self.node.names

    @property
    def is_finite(self) -> bool:
        """Whether it has a number of points: no parameter has a distribution."""
        return self.node.size is not None

    @property
    def dimensions(self) -> int:
        """The dimensions of the unit cube that `at` maps to points."""
        return self.node.dimensions

    def __len__(self) -> int:
        if self.node.size is None:
            raise TypeError(f"{self} has no number of points: {_DRAW}")
        return self.node.size

    def __bool__(self) -> bool:
        return self.node.size != 0

    def __iter__(self) -> Iterator[Named]:
        return self.points()

    def points(self, seed: int = 0) -> Iterator[Named]:
        """The points in order; `seed` decides only how the parts of a mixture are interleaved.

        A point that parts have in common occurs as often as they have it.

        Raises:
            UsageError: the domain is infinite.
        """
        if self.node.size is None:
            raise UsageError(f"{self} has no end: {_DRAW}")
        return self.node.points(np.random.default_rng(seed))

    @property
    def may_repeat(self) -> bool:
        """Whether a point may occur twice."""
        return self.node.may_repeat

    def at(self, u: Iterable[float]) -> Named | None:
        """The point at a place of the unit cube.

        Args:
            u: `dimensions` numbers from 0 to less than 1.  For a parameter the number is a quantile
                of its distribution, or chooses from its list.

        Returns:
            The point, or None if a constraint (`where`) refuses it.

        Raises:
            UsageError: numbers are outside of the cube, or not as many; or the domain has a sum
                with an infinite part.
        """
        place = [float(number) for number in u]
        if len(place) != self.dimensions or not all(0 <= number < 1 for number in place):
            raise UsageError(f"at({place!r}): give {self.dimensions} numbers from 0 to less than 1")
        return self.node.at(place)

    def sample(self, points: int, seed: int = 0, *, sobol: bool = False) -> list[Named]:
        """Points drawn at random, or with `sobol` quasi-randomly; no two are alike.

        Of a sum, one part is drawn after the other; of a mixture, parts by their weights: a part
        that is used up leaves its share to the others.  With the same seed, more points begin with
        the fewer.

        Raises:
            UsageError: there are not as many points, or constraints refuse nearly all.
        """
        check_count("points", points)
        check_count("seed", seed, most=None)
        places = (sobol_places if sobol else random_places)(self.dimensions, seed)
        return sample(self.node, points, places)

    def __contains__(self, point: object) -> bool:
        if not isinstance(point, Mapping):
            return False
        return self.node.holds({name: normalise(point[name], str(name)) for name in point})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self.node == other.node

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return write(self.node)


class Option(Domain):
    """One parameter with its values: `Option("width", [16, 64])` is `Domain(width=[16, 64])`."""

    def __init__(self, name: str, values: Any) -> None:
        super().__init__({name: values})


def check_domain(given: object) -> Domain:
    """`given`, where it is a domain.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(given, Domain):
        raise UsageError(
            f"{given!r} is a {type(given).__name__}: give a Domain, as in Domain(width=[16, 64], "
            "rate=Uniform(0, 0.5))"
        )
    return given


_DRAW = "a parameter has a distribution: use RandomSearch(domain, points=…, trials=…)"


def _product(left: Node, right: Node) -> Node:
    _check_apart(f"({write(left)}) * ({write(right)})", left.names, right.names)
    parts = [
        part
        for node in (left, right)
        for part in (node.parts if isinstance(node, Product) else (node,))
    ]
    return Product(tuple(parts))


def _terms(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, Sum) else (node,)


def _check_apart(what: str, left: Iterable[str], right: Iterable[str]) -> None:
    both = sorted(set(left) & set(right))
    if both:
        raise UsageError(f"{what}: both have {', '.join(both)}; a point has one value for each")


def _counted(size: int | None) -> str:
    return "no end" if size is None else f"{size} points"


def _axes_of(node: Node, name: str) -> Iterator[Any]:
    """The axes of a parameter, wherever they are."""
    match node:
        case One(name=found, axis=axis) if found == name:
            yield axis
        case Product(parts=parts) | Sum(parts=parts) | Mixture(parts=parts):
            for part in parts:
                yield from _axes_of(part, name)
        case Pairs(left=one, right=other) | When(base=one, extra=other):
            yield from _axes_of(one, name)
            yield from _axes_of(other, name)
        case Where(base=base):
            yield from _axes_of(base, name)
