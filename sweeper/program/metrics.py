"""The metrics of a program: those that are declared, and numbers in what an objective gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.errors import SettingsError
from sweeper.records import DIRECTIONS, LABELS, Metric

VALUE = "value"
"""The name of the metric of an objective that gives one number."""

OWN = "sweeper."
"""What names begin with that are stored beside those of metrics."""

TAKEN = ("trial", "params", *LABELS, "n", "diverged", "failed", "std")
"""Columns of tables: no metric has such a name."""


def read_metrics(given: object) -> tuple[Metric, ...]:
    """The declared metrics: a mapping from names to directions, or a list of `Metric`.

    Raises:
        SettingsError: a name or a direction breaks its rule.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        given = [Metric(name, direction) for name, direction in given.items()]
    if not isinstance(given, list | tuple) or not all(isinstance(one, Metric) for one in given):
        raise SettingsError(
            f"metrics={given!r}: give names with directions, such as {{'acc': 'maximize'}}, or a "
            "list of Metric"
        )
    names: set[str] = set()
    for one in given:
        fault = name_fault(one.name) or ("is given twice" if one.name in names else "")
        if fault:
            raise SettingsError(f"metrics: {one.name!r} {fault}")
        if one.direction not in DIRECTIONS:
            choices = ", ".join(map(repr, DIRECTIONS))
            raise SettingsError(f"metrics {one.name}={one.direction!r}: choose one of {choices}")
        names.add(one.name)
    return tuple(given)


def name_fault(name: object) -> str:
    """Why a metric cannot have this name; empty if it can."""
    if not isinstance(name, str) or not name or not name.isprintable():
        return "is no name of a metric: it must be a text of printable characters"
    if name.startswith(OWN):
        return f"is no name of a metric: those that begin with {OWN!r} are sweeper's own"
    if name in TAKEN:
        return f"is no name of a metric: tables have a column {name!r}; choose another"
    return ""


def read_values(given: Any, declared: Sequence[str]) -> dict[str, float]:
    """The metrics that an objective returned or yielded: a number, or a dict of named numbers.

    A value that is not a number is NaN.

    Raises:
        TypeError: it is neither.
        ValueError: it names no metric, or one by a name that none can have.
    """
    value = as_number(given)
    if value is None and isinstance(given, Mapping):
        return _read_named(given)
    if value is None:
        raise TypeError(
            f"the objective gave {given!r:.80} (a {type(given).__name__}){_why(given)}: expected a "
            "number, a dict of named numbers, or a pair of these and a dict of arrays"
        )
    if declared and VALUE not in declared:
        raise ValueError(
            f"the objective gave a number, which is the metric {VALUE!r}, and metrics= declares "
            f"{', '.join(declared)}: give {{{declared[0]!r}: …}} instead"
        )
    return {VALUE: value}


def _read_named(given: Mapping[Any, Any]) -> dict[str, float]:
    if not given:
        raise ValueError("the objective gave an empty dict: name at least one number")
    for name in given:
        if fault := name_fault(name):
            raise ValueError(f"the objective gave {name!r}, which {fault}")
    return {name: _number(value) for name, value in given.items()}


def _why(given: Any) -> str:
    """What is wrong with what an objective gave, where a person may wonder."""
    if given is None:
        return ", so nothing that could be compared"
    count = getattr(given, "size", None)  # of an array; of a tensor it is a method
    count = given.numel() if callable(getattr(given, "numel", None)) else count
    return f", which holds {count} numbers, not one" if isinstance(count, int) else ""


def _number(value: Any) -> float:
    found = as_number(value)
    return math.nan if found is None else found


def as_number(value: Any) -> float | None:
    """A number, or an array or tensor that holds just one, as a float; None for anything else."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str | bytes) or not hasattr(value, "item"):
        return None
    try:
        found = value.item()
    except (TypeError, ValueError, RuntimeError):  # it holds several
        return None
    return float(found) if isinstance(found, int | float) else None
