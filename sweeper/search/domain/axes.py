"""The values of one parameter: listed, or drawn from a distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sweeper.errors import UsageError
from sweeper.search.domain.distributions import Constant, Distribution
from sweeper.signature import encode, in_order, normalise


class Axis(Protocol):
    """The values that a parameter may have."""

    @property
    def size(self) -> int | None:
        """The number of values; None: without an end."""

    def quantile(self, u: float) -> Any:
        """The value at `u`, 0 <= u < 1."""

    def __contains__(self, value: object) -> bool:
        """Whether the parameter may have this value."""


@dataclass(frozen=True, repr=False)
class Values:
    """Listed values, no two alike."""

    values: tuple[Any, ...] = field(compare=False)
    encoded: tuple[str, ...]
    """The values as they are compared: 1, 1.0 and True differ."""

    @property
    def size(self) -> int:
        """The number of values."""
        return len(self.values)

    def quantile(self, u: float) -> Any:
        """The value at `u`: each has an equal part of the unit interval."""
        return self.values[min(math.floor(u * len(self.values)), len(self.values) - 1)]

    def __contains__(self, value: object) -> bool:
        return encode(value) in {encode(one) for one in self.values}

    def __repr__(self) -> str:
        return repr(list(self.values))


@dataclass(frozen=True, repr=False)
class Foreign(Distribution):
    """A distribution of another package, which has `rvs(random_state=…)`."""

    distribution: Any

    def quantile(self, u: float) -> Any:
        """By its own `ppf`; without one, a draw that `u` seeds."""
        ppf = getattr(self.distribution, "ppf", None)
        if ppf is None:
            return _plain(self.distribution.rvs(random_state=math.floor(u * 2**32)))
        # A whole number that a discrete distribution gives as a float is an integer.
        value = _plain(ppf(min(max(u, 2**-53), 1 - 2**-53)))
        return int(value) if hasattr(self.distribution, "pmf") else value

    def __contains__(self, value: object) -> bool:
        support = getattr(self.distribution, "support", None)
        if support is None:
            raise UsageError(
                f"{self.distribution!r} does not say which values it gives: it has no support()"
            )
        low, high = support()
        kind = int if hasattr(self.distribution, "pmf") else float
        return type(value) is kind and bool(low <= value <= high)

    def __repr__(self) -> str:
        named = getattr(getattr(self.distribution, "dist", None), "name", None)
        if named is None:
            return repr(self.distribution)
        values = [repr(value) for value in self.distribution.args]
        values += [f"{name}={value!r}" for name, value in self.distribution.kwds.items()]
        return f"{named}({', '.join(values)})"


def read_axis(name: str, given: Any) -> Axis:
    """The axis of parameter `name`: a distribution, or any finite iterable of values.

    A set is put in the order of its values' encodings, which is the same in every process.

    Raises:
        UsageError: it is neither, it has no values, or a value twice.
        ParamError: a value that cannot be stored.
    """
    if isinstance(given, Constant):
        given = [given.value]
    if isinstance(given, Distribution):
        return given
    if not isinstance(given, type) and callable(getattr(given, "rvs", None)):
        return Foreign(given)
    return read_values(name, given)


def read_values(name: str, given: Any) -> Values:
    """The listed values of parameter `name`.

    Raises:
        UsageError: it is not a list of values, it has none, or one twice.
        ParamError: a value that cannot be stored.
    """
    values = [normalise(value, name) for value in _iterate(name, given)]
    if isinstance(given, set | frozenset):
        values = in_order(values)
    if not values:
        raise UsageError(
            f"{name}={given!r} has no values: give at least one, or leave {name} out so that the "
            "model's own default is used"
        )
    seen = set()
    for value in values:
        if (encoded := encode(value)) in seen:
            raise UsageError(
                f"{name} has {value!r} more than once, which would train the same points again: "
                "leave it out, and set trials for more results"
            )
        seen.add(encoded)
    return Values(tuple(values), tuple(encode(value, as_given=True) for value in values))


def _iterate(name: str, given: Any) -> Iterator[Any]:
    # Strings and mappings are iterable too, but neither is a list of values.
    if not isinstance(given, str | bytes | Mapping):
        try:
            return iter(given)
        except TypeError:
            pass
    raise UsageError(
        f"{name}={given!r} is not a list of values: for one value write {name}=[{given!r}]"
    )


def _plain(drawn: Any) -> Any:
    """What a foreign distribution gave, as a parameter's value."""
    return normalise(drawn.item() if hasattr(drawn, "item") else drawn, "a drawn value")
