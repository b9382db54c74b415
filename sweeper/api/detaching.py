"""What `sweep` returns, as type checkers see it: with `detach=True` a `SweepFolder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, cast, overload

if TYPE_CHECKING:
    from sweeper.api.folder import SweepFolder
    from sweeper.results import SweepResult

P = ParamSpec("P")


class Detaching(Protocol[P]):
    """A function that returns a `SweepFolder` if it is called with `detach=True`."""

    # The function's own parameters have `detach`, too: the first that fits counts.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, *args: Any, detach: Literal[True], **kwargs: Any
    ) -> SweepFolder: ...

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> SweepResult: ...


def detaching(function: Callable[P, SweepResult | SweepFolder]) -> Detaching[P]:
    """The function itself, with its two results told apart by `detach`."""
    return cast("Detaching[P]", function)
