"""Optimisers by name; the learning rate is the plan's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sweeper.errors import ProblemError

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def check_optimizer(optimizer: Any) -> None:
    """Whether it is a known optimiser, with settings that it takes.

    Raises:
        ProblemError: not one; the message says what is expected.
    """
    try:
        name, options = optimizer_parts(optimizer)
        # One that takes no parameters: taking them imports torch's compiler, which takes seconds.
        kind: Any = OPTIMIZERS[name]
        without = type("Checked", (kind,), {"add_param_group": lambda *_: None})
        without([nn.Parameter(torch.zeros(1))], lr=0.1, **options)
    except ProblemError:
        raise
    except Exception as error:
        raise ProblemError(f"settings that torch accepts: {error}") from error


def trained_parameters(model: nn.Module, loss: Any) -> list[nn.Parameter]:
    """What an optimiser is given: the parameters of the model, and those of the loss."""
    of_loss = loss.parameters() if isinstance(loss, nn.Module) else ()
    return [*model.parameters(), *of_loss]


def make_optimizer(
    optimizer: Any, parameters: Iterable[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """The optimiser of a problem's `optimizer` attribute, at learning rate `rate`."""
    name, options = optimizer_parts(optimizer)
    return OPTIMIZERS[name](parameters, lr=rate, **options)


def optimizer_parts(optimizer: Any) -> tuple[str, dict[str, Any]]:
    """An optimiser's name and options, from a problem's `optimizer` attribute."""
    names = ", ".join(repr(name) for name in OPTIMIZERS)
    expected = f"one of {names}, or a dict such as {{'name': 'sgd', 'momentum': 0.9}}"
    options = dict(optimizer) if isinstance(optimizer, Mapping) else {"name": optimizer}
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise ProblemError(f"{expected}: {name!r} is not known")
    if "lr" in options:
        raise ProblemError(f"{expected}, without 'lr': finding the learning rate is sweeper's part")
    known = set(inspect.signature(OPTIMIZERS[name]).parameters) - {"params", "lr"}
    for option in options:
        if option not in known:
            raise ProblemError(
                f"{expected}: {name!r} has no option {option!r}; it has {', '.join(sorted(known))}"
            )
    return name, options
