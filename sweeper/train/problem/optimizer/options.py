"""Options of a problem's optimiser that may be tuned: its own values, and others in their place."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.errors import ProblemError
from sweeper.settings import OPTIONS
from sweeper.train.problem.optimizer.optimizers import check_optimizer, read_optimizer
from sweeper.train.tuning.options import no_option, values


def own_value(optimizer: Any, option: str) -> float | None:
    """An optimiser's own value of an option; None: it has no such option, or it is no number."""
    choice = read_optimizer(optimizer)
    known = inspect.signature(choice.kind).parameters.get(option)
    default = None if known is None else known.default
    value = choice.options.get(option, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def with_options(optimizer: Any, options: Mapping[str, Any]) -> Any:
    """The optimiser with these options; one that it has already is left as it is written.

    So the optimiser's own values give the same step, compiled ones included.
    """
    changed = {
        name: value for name, value in options.items() if value != own_value(optimizer, name)
    }
    if not changed:
        return optimizer
    given = optimizer if isinstance(optimizer, Mapping) else {"name": optimizer}
    return {**given, **changed}


def values_to_try(optimizer: Any) -> dict[str, tuple[float, ...]]:
    """The values to try of each option that the optimiser has, its own first.

    Those that it does not accept are left out, as no momentum where it is Nesterov's.
    """
    own = {name: own_value(optimizer, name) for name in OPTIONS}
    return {
        name: tuple(one for one in values(name, value) if _accepts(optimizer, {name: one}))
        for name, value in own.items()
        if value is not None
    }


def tuned_values(optimizer: Any, tuned: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Those of the options that are tuned.

    Raises:
        ProblemError: the optimiser lacks one.
    """
    known = values_to_try(optimizer)
    for name in tuned:
        if name not in known:
            raise ProblemError(no_option(read_optimizer(optimizer).name, name, known))
    return {name: known[name] for name in tuned}


def _accepts(optimizer: Any, options: Mapping[str, float]) -> bool:
    try:
        check_optimizer(with_options(optimizer, options))
    except ProblemError:
        return False
    return True
