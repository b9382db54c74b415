"""Writes a domain as the expression that makes it."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.search.domain.axes import Axis, Values
from sweeper.search.domain.nodes import Mixture, Node, One, Pairs, Product, Sum, When, Where

_SHOWN = 12
"""Maximum number of values that are written out."""


def write(node: Node) -> str:
    """The node as the expression that makes it; long lists of values are cut."""
    match node:
        case Product(parts=parts):
            return _write_product(parts)
        case Sum(parts=parts):
            return " + ".join(map(write, parts))
        case Mixture(parts=parts, weights=weights):
            pairs = zip(weights, parts, strict=True)
            return " + ".join(f"{weight:g} * {_inside(part)}" for weight, part in pairs)
        case Pairs(left=left, right=right):
            return f"{_inside(left)} @ {_inside(right)}"
        case When(base=base, conditions=conditions, extra=extra):
            met = ", ".join(f"{name}={_write_wanted(values)}" for name, values in conditions)
            new = ", ".join(_write_axes(extra.parts if isinstance(extra, Product) else (extra,)))
            return f"{_inside(base)}.when({met}, {new})"
        case Where(base=base, predicate=predicate):
            return f"{_inside(base)}.where({getattr(predicate, '__qualname__', predicate)})"
        case _:
            return _write_product((node,))


def _write_product(parts: Iterable[Node]) -> str:
    """Parameters beside each other are written as one domain."""
    factors: list[str] = []
    beside: list[Node] = []
    for part in (*parts, None):
        if isinstance(part, One):
            beside.append(part)
            continue
        if beside or (part is None and not factors):
            factors.append(f"Domain({', '.join(_write_axes(beside))})")
            beside = []
        if part is not None:
            factors.append(_inside(part))
    return " * ".join(factors)


def _inside(node: Node) -> str:
    """A node as part of an expression, in brackets where it needs them."""
    simple = isinstance(node, One | When | Where) or (
        isinstance(node, Product) and all(isinstance(part, One) for part in node.parts)
    )
    return write(node) if simple else f"({write(node)})"


def _write_axes(parts: Iterable[Node]) -> list[str]:
    ones = [part for part in parts if isinstance(part, One)]
    if all(one.name.isidentifier() for one in ones):
        return [f"{one.name}={_write_axis(one.axis)}" for one in ones]
    return ["{" + ", ".join(f"{one.name!r}: {_write_axis(one.axis)}" for one in ones) + "}"]


def _write_axis(axis: Axis) -> str:
    if isinstance(axis, Values) and axis.size > _SHOWN:
        first = ", ".join(map(repr, axis.values[: _SHOWN - 1]))
        return f"[{first}, …, {axis.values[-1]!r}]"
    return repr(axis)


def _write_wanted(values: Values) -> str:
    if values.size == 1:
        return repr(values.values[0])
    return "{" + ", ".join(map(repr, values.values)) + "}"
