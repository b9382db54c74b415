"""A domain that a function of the results so far replaces by the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sweeper.errors import UsageError
from sweeper.search.checks import check_count
from sweeper.search.selector import TrialResults

if TYPE_CHECKING:
    from sweeper.search.domain.domain import Domain

Update: TypeAlias = "Callable[[Sequence[TrialResults]], Domain | None]"
"""Gives the next domain, from the results of all points so far; None: no other one."""

Due: TypeAlias = int | Sequence[int] | Literal["last"]
"""After how many complete points it is called."""


@dataclass(frozen=True)
class UpdatedDomain:
    """A domain with a function that gives the next one: see `Domain.update_domain`.

    Raises:
        UsageError: a part breaks its rule.
    """

    domain: Domain
    function: Update
    when: Due
    points: int | None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UsageError(
                f"update_domain({self.function!r}): give a function of the results so far, which "
                "gives a Domain or None"
            )
        _check_due(self.when)
        if self.points is not None and check_count("points", self.points) == 0:
            raise UsageError("points=0: it must be 1 or more, or None")
        self._check_end(self.domain)

    def next_due(self, asked: int) -> int | None:
        """The first number of points above `asked` after which the function is called.

        None: it is called when the domain is used up, or not any more.
        """
        if self.when == "last":
            return None
        if isinstance(self.when, int):
            return asked - asked % self.when + self.when
        return min((count for count in self.when if count > asked), default=None)

    def is_due(self, complete: int) -> bool:
        """Whether it is called after so many points, all that were asked for."""
        return self.when == "last" or self.next_due(complete - 1) == complete

    def next_domain(self, results: Sequence[TrialResults]) -> Domain | None:
        """What the function gives.

        Raises:
            UsageError: something else than a domain or None, or an infinite domain without a limit.
        """
        from sweeper.search.domain.domain import Domain

        given: Any = self.function(results)
        if given is None:
            return None
        if not isinstance(given, Domain):
            raise UsageError(
                f"the function of update_domain gave {given!r} (a {type(given).__name__}): it must "
                "give a Domain or None"
            )
        return self._check_end(given)

    def _check_end(self, domain: Domain) -> Domain:
        if self.points is None and not domain.is_finite:
            raise UsageError(
                f"{domain} has no end: give update_domain(…, points=…), the number of all points"
            )
        return domain


def _check_due(when: Any) -> None:
    if when == "last":
        return
    counts = [when] if isinstance(when, int) else when
    if not isinstance(counts, list | tuple) or not all(map(_is_count, counts)) or not counts:
        raise UsageError(
            f"when={when!r}: give a number of complete points, 1 or more, a list of such numbers, "
            "or 'last'"
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
