"""Optimisers of stacked parameters: torch's own formulas, for many replicas at once.

Only single roundings (sums, products, quotients, roots) and no fused ones, so that a number's last
bits do not depend on where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.tape import CannotPackError

Update = Callable[[Sequence[Tensor], float], None]
"""Takes the gradients and the learning rate of one step."""

_WITHOUT_EFFECT = {"foreach", "fused", "capturable", "differentiable"}


def make_stacked(name: str, options: Mapping[str, Any], parameters: Sequence[Tensor]) -> Update:
    """The optimiser `name` of these stacked parameters, which it changes in place.

    Raises:
        CannotPackError: it has an option that is not known here.
    """
    kept = {key: value for key, value in options.items() if key not in _WITHOUT_EFFECT}
    makers: Mapping[str, Callable[..., Update]] = {
        "sgd": _sgd,
        "adam": _adam,
        "adamw": lambda parameters, **rest: _adam(
            parameters, **{"weight_decay": 0.01, **rest}, decoupled=True
        ),
    }
    try:
        return makers[name](list(parameters), **kept)
    except TypeError:
        raise CannotPackError(f"its optimiser is {name} with {options}") from None


def _sgd(
    parameters: list[Tensor],
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Update:
    velocities: list[Tensor] = []

    def update(gradients: Sequence[Tensor], rate: float) -> None:
        nonlocal velocities
        change = list(gradients)
        if weight_decay:
            change = _sum(change, _scaled(parameters, weight_decay))
        if momentum:
            if velocities:
                torch._foreach_mul_(velocities, momentum)
                torch._foreach_add_(velocities, _scaled(change, 1 - dampening))
            else:
                velocities = [gradient.clone() for gradient in change]
            change = _sum(change, _scaled(velocities, momentum)) if nesterov else velocities
        torch._foreach_sub_(parameters, _scaled(change, rate))

    return update


def _adam(
    parameters: list[Tensor],
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> Update:
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    steps = 0

    def update(gradients: Sequence[Tensor], rate: float) -> None:
        nonlocal steps
        steps += 1
        change = list(gradients)
        if weight_decay and decoupled:
            torch._foreach_mul_(parameters, 1 - rate * weight_decay)
        elif weight_decay:
            change = _sum(change, _scaled(parameters, weight_decay))
        torch._foreach_mul_(first, betas[0])
        torch._foreach_add_(first, _scaled(change, 1 - betas[0]))
        torch._foreach_mul_(second, betas[1])
        squares = torch._foreach_mul(change, change)  # noqa: SLF001
        torch._foreach_add_(second, _scaled(squares, 1 - betas[1]))
        below = list(torch._foreach_sqrt(second))  # noqa: SLF001
        torch._foreach_div_(below, math.sqrt(1 - betas[1] ** steps))
        torch._foreach_add_(below, eps)
        above = _scaled(first, rate / (1 - betas[0] ** steps))
        torch._foreach_div_(above, below)
        torch._foreach_sub_(parameters, above)

    return update


def _scaled(tensors: Sequence[Tensor], factor: float) -> list[Tensor]:
    return list(torch._foreach_mul(list(tensors), factor))  # noqa: SLF001


def _sum(one: list[Tensor], other: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_add(one, other))  # noqa: SLF001
