"""Random and quasi-random points of a domain.

A place of the unit cube is a point (`Node.at`), so searches differ only in the places they take:
random ones, or those of a scrambled Sobol sequence, which fill the cube more evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from sweeper.errors import UsageError
from sweeper.search.domain.nodes import Mixture, Named, Node, Sum, share_at
from sweeper.signature import encode

Places: TypeAlias = Iterator[Sequence[float]]
"""Places of the unit cube, without an end."""

_BLOCK = 64
"""Places of a Sobol sequence made at once: a power of two, which keeps it balanced."""


def random_places(dimensions: int, seed: int) -> Places:
    """Independent places, each equally likely."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.random(dimensions).tolist()


def sobol_places(dimensions: int, seed: int) -> Places:
    """A Sobol sequence, scrambled (`scipy.stats.qmc.Sobol`, which names the papers).

    Raises:
        UsageError: it has too many dimensions.
    """
    from scipy.stats import qmc

    if dimensions > qmc.Sobol.MAXDIM:
        raise UsageError(f"a Sobol sequence has at most {qmc.Sobol.MAXDIM} dimensions")
    # A domain of one point has no dimension, and the sequence at least one.
    sequence = qmc.Sobol(max(dimensions, 1), seed=np.random.default_rng(seed))
    while True:
        yield from sequence.random(_BLOCK).tolist()


def sample(node: Node, count: int, places: Places) -> list[Named]:
    """`count` points of the node, no two alike; more points begin with the fewer.

    Raises:
        UsageError: fewer were found.
    """
    found = take(node, count, places)
    if len(found) < count:
        raise UsageError(
            f"points={count}: only {len(found)} were found, and then nothing but points that were "
            "found before or that where() refuses: ask for fewer points, or widen the domain"
        )
    return found


def take(node: Node, count: int, places: Places) -> list[Named]:
    """As `sample`, or fewer points if no more are found."""
    found: dict[str, Named] = {}
    for point in draws(node, places) if count else ():
        found.setdefault(encode(point), point)
        if len(found) == count:
            break
    return list(found.values())


def draws(node: Node, places: Places) -> Iterator[Named]:
    """Points at these places, until the node is used up.

    A sum gives one part after the other.  A mixture keeps to the proportions of its weights: a part
    that is used up leaves its share to the others.
    """
    if isinstance(node, Sum):
        for part in node.parts:
            yield from draws(part, (place[1:] for place in places))
    elif isinstance(node, Mixture):
        yield from _draws_of_mixture(node, places)
    else:
        yield from _new_points(node, places)


def _draws_of_mixture(node: Mixture, places: Places) -> Iterator[Named]:
    first: list[Sequence[float]] = []
    """The rest of the place whose first number has chosen the part."""
    rests = (first.pop() if first else next(places)[1:] for _ in iter(int, 1))
    left = [
        (draws(part, rests), weight) for part, weight in zip(node.parts, node.weights, strict=True)
    ]
    while left:
        place = next(places)
        first[:] = [place[1:]]
        chosen = share_at([weight for _, weight in left], place[0])
        point = next(left[chosen][0], None)
        if point is None:
            del left[chosen]
        else:
            yield point


def _new_points(node: Node, places: Places) -> Iterator[Named]:
    """Points of a node, each once, until none is left or none is found any more."""
    seen: set[str] = set()
    failed = 0
    # The last of n points is missed with probability exp(-20).
    while len(seen) != node.size and failed < 1000 + 20 * len(seen):
        point = node.at(next(places))
        encoded = None if point is None else encode(point)
        if point is None or encoded is None or encoded in seen:
            failed += 1
            continue
        failed = 0
        seen.add(encoded)
        yield point
