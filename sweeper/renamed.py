"""Arguments by the names that they had in older tools: accepted with a warning, or refused."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from sweeper.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def accepts_earlier(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: maps each earlier argument name to the current one.

    The function raises `UsageError` if an argument is given by both names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            given: dict[str, Any] = kwargs
            for earlier in names.keys() & given.keys():
                now = names[earlier]
                if now in given:
                    raise UsageError(f"{earlier} and {now} are the same argument: give {now}")
                warnings.warn(f"{earlier}= is called {now}= here", DeprecationWarning, stacklevel=2)
                given[now] = given.pop(earlier)
            return function(*args, **kwargs)

        return accepting

    return decorate


def refuses_earlier(**instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: refuses arguments of older tools that nothing here stands for.

    The function raises `UsageError` with what to write instead, by argument.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def refusing(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in instead.keys() & kwargs.keys():
                raise UsageError(f"{name}={kwargs[name]!r:.80}: {instead[name]}")
            return function(*args, **kwargs)

        return refusing

    return decorate
