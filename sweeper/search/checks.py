"""Checks of selectors' arguments, at the call that gives them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from sweeper.errors import UsageError
from sweeper.records import Params
from sweeper.signature import without_numpy

MOST_TRIALS = 10_000_000
"""More trials or points are taken for a typing error: their numbers alone would fill memory."""


def is_count(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number, not below `least`."""
    whole = type(value) is int or (
        isinstance(value, numbers.Integral) and not isinstance(value, bool)
    )
    return whole and bool(value >= least)


def check_count(name: str, value: Any, most: int | None = MOST_TRIALS) -> int:
    """`value` as a whole number from 0 to `most`.

    Raises:
        UsageError: it is something else.
    """
    if not is_count(value):
        raise UsageError(f"{name}={value!r}: it must be a whole number, 0 or more")
    if most is not None and value > most:
        raise UsageError(f"{name}={value!r:.40}: it must be at most {most:,}")
    return int(value)


def check_budget(budget: Any) -> int | None:
    """`budget` as a whole number from 1, or None.

    Raises:
        UsageError: it is something else.
    """
    if budget is not None and check_count("budget", budget) == 0:
        raise UsageError("budget=0: it must be a whole number, 1 or more")
    return None if budget is None else int(budget)


def check_number(name: str, value: Any, *, whole: bool = False) -> float:
    """`value` as a finite number, or with `whole` as a whole one.

    Raises:
        UsageError: it is something else.
    """
    plain = without_numpy(value)
    kind = int if whole else int | float
    if isinstance(plain, bool) or not isinstance(plain, kind) or not abs(plain) < math.inf:
        what = "a whole number" if whole else "a finite number"
        raise UsageError(f"{name} is {value!r}: it must be {what}")
    return plain


def check_params(name: str, value: Any) -> Params:
    """`value` where it has the shape of a point's parameters: a tuple or a mapping.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, tuple | Mapping):
        return value
    raise UsageError(
        f"{name}={value!r} is a {type(value).__name__}: the parameters of a point are a tuple "
        "(passed by position; with one parameter, write (value,)) or a mapping (passed by name)"
    )
