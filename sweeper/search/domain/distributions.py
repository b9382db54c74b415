"""Distributions of a parameter's value, each given by its quantile function.

The quantile function is all that random and quasi-random search need: it turns a number of the unit
interval into a value.  The formulas are those of `scipy.stats`, written out: importing it takes
seconds, and its frozen distributions are accepted wherever these are.
"""

from __future__ import annotations

import abc
import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from sweeper.errors import UsageError
from sweeper.search.checks import check_number
from sweeper.signature import encode, normalise

_LARGEST = 2**52
"""Quantiles are floats, and beyond this not every integer is one, nor every half between them."""


class Distribution(abc.ABC):
    """A distribution of a parameter's values; a domain with one has no number of points."""

    size: ClassVar[None] = None

    @abc.abstractmethod
    def quantile(self, u: float) -> Any:
        """The value below which a part `u` of the distribution lies, 0 <= u < 1."""

    @abc.abstractmethod
    def __contains__(self, value: object) -> bool:
        """Whether the distribution may give this value."""


@dataclasses.dataclass(frozen=True, repr=False)
class _Between(Distribution):
    """From `low` to `high`, both included."""

    low: float
    high: float

    whole: ClassVar[bool] = False
    above_zero: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = check_number(f"{self}: {name}", getattr(self, name), whole=self.whole)
            object.__setattr__(self, name, value)
        if self.above_zero and self.low <= 0:
            raise UsageError(f"{self}: low must be above 0 on a logarithmic scale")
        if not self.low < self.high:
            raise UsageError(f"{self}: low must be below high; for one value write a list of it")
        if self.whole and max(abs(self.low), abs(self.high)) > _LARGEST:
            raise UsageError(f"{self}: low and high must be at most 2**52 in size")
        if not math.isfinite(self.high - self.low):
            raise UsageError(f"{self}: the width of a range must be finite")

    def __contains__(self, value: object) -> bool:
        kind = int if self.whole else float
        return type(value) is kind and self.low <= value <= self.high

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.low!r}, {self.high!r})"


class Uniform(_Between):
    """Floats from `low` to `high`, each equally likely.

    Raises:
        UsageError: an end is not a finite number, or low is not below high.
    """

    def quantile(self, u: float) -> float:
        """As `scipy.stats.uniform`."""
        return _within(self.low + u * (self.high - self.low), self.low, self.high)


class LogUniform(_Between):
    """Floats from `low` to `high`, both above 0, each order of magnitude equally likely.

    Raises:
        UsageError: an end is not a finite number above 0, or low is not below high.
    """

    above_zero = True

    def quantile(self, u: float) -> float:
        """As `scipy.stats.loguniform`."""
        return _within(_between_logs(self.low, self.high, u), self.low, self.high)


class IntUniform(_Between):
    """Integers from `low` to `high`, both included, each equally likely.

    Raises:
        UsageError: an end is not a whole number, or low is not below high.
    """

    whole = True

    def quantile(self, u: float) -> int:
        """As `scipy.stats.randint`."""
        drawn = self.low + math.floor(u * (self.high - self.low + 1))
        return int(_within(drawn, self.low, self.high))


class LogIntUniform(_Between):
    """Integers from `low` to `high`, both included and above 0, on a logarithmic scale.

    A number n is as likely as the floats from n - 1/2 to n + 1/2 on that scale.

    Raises:
        UsageError: an end is not a whole number above 0, or low is not below high.
    """

    whole = True
    above_zero = True

    def quantile(self, u: float) -> int:
        """That of the floats, rounded."""
        drawn = _between_logs(self.low - 0.5, self.high + 0.5, u)
        return int(_within(math.floor(drawn + 0.5), self.low, self.high))


def _between_logs(low: float, high: float, u: float) -> float:
    return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))


def _within(value: float, low: float, high: float) -> float:
    """`value` where rounding has not put it outside of the range."""
    return float(min(max(value, low), high))


@dataclasses.dataclass(frozen=True, repr=False)
class Normal(Distribution):
    """Floats of the normal distribution with this mean and standard deviation.

    Raises:
        UsageError: one is not a finite number, or the standard deviation is not above 0.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        check_number(f"{self}: mean", self.mean)
        if check_number(f"{self}: std", self.std) <= 0:
            raise UsageError(f"{self}: std must be above 0")

    def quantile(self, u: float) -> float:
        """As `scipy.stats.norm`."""
        from statistics import NormalDist

        inside = _within(u, 2**-53, 1 - 2**-53)  # at 0 it would be minus infinity
        return NormalDist(self.mean, self.std).inv_cdf(inside)

    def __contains__(self, value: object) -> bool:
        return type(value) is float and math.isfinite(value)

    def __repr__(self) -> str:
        return f"Normal({self.mean!r}, {self.std!r})"


@dataclasses.dataclass(frozen=True, repr=False)
class Choice(Distribution):
    """One of some values, with probabilities in proportion to `weights`; None: all alike.

    Raises:
        UsageError: there are no values, not one weight for each, or a weight is not above 0.
        ParamError: a value cannot be stored.
    """

    values: Sequence[Any] = dataclasses.field(compare=False)
    weights: Sequence[float] | None = None
    encoded: tuple[str, ...] = dataclasses.field(init=False)
    """The values as they are compared: 1, 1.0 and True differ."""

    def __post_init__(self) -> None:
        given = self.values
        if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
            raise UsageError(f"Choice({given!r}): give a list of values, at least one")
        values = tuple(normalise(value, "a choice") for value in given)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "encoded", tuple(encode(one, as_given=True) for one in values))
        if self.weights is not None:
            object.__setattr__(self, "weights", self._read_weights(self.weights))

    def _read_weights(self, weights: Sequence[float]) -> tuple[float, ...]:
        read = tuple(check_number(f"{self}: a weight", weight) for weight in weights)
        if len(read) != len(self.values):
            raise UsageError(
                f"{self}: there are {len(self.values)} values and {len(read)} weights: give one "
                "weight a value"
            )
        if min(read) <= 0:
            raise UsageError(f"{self}: a weight must be above 0: leave the value out instead")
        return read

    def quantile(self, u: float) -> Any:
        """The value in whose part of the unit interval `u` lies, in the given order."""
        totals = list(itertools.accumulate(self.weights or [1] * len(self.values)))
        place = bisect.bisect_right(totals, u * totals[-1])
        return self.values[min(place, len(self.values) - 1)]

    def __contains__(self, value: object) -> bool:
        return encode(value) in {encode(one) for one in self.values}

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={list(self.weights)!r}"
        return f"Choice({list(self.values)!r}{weights})"


@dataclasses.dataclass(frozen=True, repr=False)
class Constant(Distribution):
    """Always this value: a parameter that is set, not searched.

    Raises:
        ParamError: the value cannot be stored.
    """

    value: Any = dataclasses.field(compare=False)
    encoded: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", normalise(self.value, "a constant"))
        object.__setattr__(self, "encoded", encode(self.value, as_given=True))

    def quantile(self, u: float) -> Any:  # noqa: ARG002 - every part of it is the same
        """The value."""
        return self.value

    def __contains__(self, value: object) -> bool:
        return encode(value) == encode(self.value)

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"
