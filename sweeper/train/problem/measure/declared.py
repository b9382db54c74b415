"""Metrics that a problem declares beside loss and performance: `metrics = {"f1": …}`."""

from __future__ import annotations

import copy
import keyword
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.records import DIRECTIONS, Metric
from sweeper.results import TAKEN_NAMES

MEASURED = ("train", "val")
"""The sets that declared metrics are measured on; a metric `f1` gives `f1_train` and `f1_val`."""

EXPECTED = "a mapping of names to functions of (outputs, targets) or metrics of ignite"


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric that the problem declares."""

    name: str
    compute: Callable[[Any, Any], Any]
    """A number from the outputs and the targets of a whole set."""
    direction: str

    def value(self, outputs: Any, targets: Any) -> float:
        """The metric's value on a set.

        Raises:
            ValueError: it is no number; the message says what it is.
        """
        found = self.compute(outputs, targets)
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"metrics[{self.name!r}] gives {type(found).__name__} {found!r:.60}; expected one "
                "number for a whole set"
            ) from None

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics that are stored, one per set."""
        return tuple(
            Metric(f"{self.name}_{name}", self.direction, shown=name == "val") for name in MEASURED
        )


def read_metrics(given: Any) -> tuple[Declared, ...]:
    """Read a problem's `metrics`.

    A mapping of names to functions of (outputs, targets), or ignite metrics (a class or an
    object); each by itself, to be maximized, or in a pair with one of `DIRECTIONS`.

    Raises:
        TypeError, ValueError: it is something else; the message says what is expected.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise TypeError(EXPECTED)
    return tuple(_read(name, value) for name, value in given.items())


def _read(name: Any, value: Any) -> Declared:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"names that are Python names, and {name!r} is none")
    if name in TAKEN_NAMES:
        raise ValueError(f"other names than {', '.join(sorted(TAKEN_NAMES))}, which are taken")
    function, direction = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if direction not in (None, *DIRECTIONS):
        raise ValueError(
            f"a direction of {', '.join(map(repr, DIRECTIONS))} for {name!r}, not {direction!r}"
        )
    return Declared(name, _function(name, function), direction or DIRECTIONS[0])


def _function(name: str, given: Any) -> Callable[[Any, Any], Any]:
    """A function of (outputs, targets), also for a metric of ignite."""
    if hasattr(given, "update") and hasattr(given, "compute") and hasattr(given, "reset"):
        return lambda outputs, targets: _by_ignite(given, outputs, targets)
    if not callable(given):
        what = f"{name!r} is a {type(given).__name__}, {given!r:.60}"
        raise TypeError(f"{EXPECTED}; {what}")
    return given  # type: ignore[no-any-return]


def _by_ignite(metric: Any, outputs: Any, targets: Any) -> Any:
    # A fresh metric for each set, since it accumulates state.
    fresh = metric() if isinstance(metric, type) else copy.deepcopy(metric)
    fresh.reset()
    fresh.update((outputs, targets))
    return fresh.compute()
