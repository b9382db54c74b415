"""Optimisers of stacked parameters: torch's own formulas, for many replicas at once.

Each formula is written once, for steps that run as Python and for those that are compiled.  Only
single roundings (sums, products, quotients, roots) and no fused ones, so that a number's last bits
do not depend on where it stands.  What changes from step to step (rates, corrections of bias) is
worked out in double precision beforehand, and given as one number a replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.train.tape import CannotPackError

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Tensors = list[Tensor]

_WITHOUT_EFFECT = {"foreach", "fused", "capturable", "differentiable"}


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The formula of an optimiser."""

    states: int
    """How many tensors it keeps for each parameter, of its shape; zero at first."""
    numbers: Callable[[Doubles, Doubles], list[Doubles]]
    """From the numbers of some steps (1, 2, …), shape (steps, 1), and the rates of each replica in
    them, shape (steps, replicas): what the formula needs beside tensors, each of that shape."""
    apply: Callable[[Tensors, list[Tensors], Tensors, list[Tensors]], None]
    """From parameters, states, gradients and numbers: changes parameters and states in place.
    Each is a list with an entry a parameter; there is a list for each state and each number, the
    numbers shaped to be broadcast."""

    def start(self, parameters: Sequence[Tensor]) -> list[Tensors]:
        """The states before the first step."""
        return [[torch.zeros_like(p) for p in parameters] for _ in range(self.states)]

    def numbers_of(self, first: int, rates: Doubles) -> Tensor:
        """What `apply` needs in the steps from `first` on, shape (steps, numbers, replicas)."""
        steps = np.arange(first, first + len(rates), dtype=np.float64)[:, None]
        found = [np.broadcast_to(number, rates.shape) for number in self.numbers(steps, rates)]
        return torch.from_numpy(np.stack(found, axis=1))

    def update(
        self, parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: Tensor
    ) -> None:
        """One step, with what it needs of shape (numbers, replicas)."""
        self.apply(parameters, states, gradients, _spread(numbers, parameters))


def _spread(numbers: Tensor, parameters: Sequence[Tensor]) -> list[Tensors]:
    """Each number as often as there are parameters, shaped (replicas, 1, …)."""
    ranks = [parameter.ndim for parameter in parameters]
    found = []
    for number in numbers.unbind():
        shaped = {rank: number.view(-1, *[1] * (rank - 1)) for rank in set(ranks)}
        found.append([shaped[rank] for rank in ranks])
    return found


def find_optimizer(name: str, options: Mapping[str, Any]) -> Optimizer:
    """The formula of the optimiser `name`.

    Raises:
        CannotPackError: it has an option that is not known here.
    """
    kept = {key: value for key, value in options.items() if key not in _WITHOUT_EFFECT}
    makers: Mapping[str, Callable[..., Optimizer]] = {
        "sgd": _sgd,
        "adam": _adam,
        "adamw": lambda **rest: _adam(**{"weight_decay": 0.01, **rest}, decoupled=True),
    }
    try:
        return makers[name](**kept)
    except TypeError:
        raise CannotPackError(f"its optimiser is {name} with {options}") from None


Update = Callable[[Sequence[Tensor], "float | Sequence[float]"], None]
"""Takes the gradients and the learning rate of one step, or one of each replica."""


def make_stacked(name: str, options: Mapping[str, Any], parameters: Sequence[Tensor]) -> Update:
    """The optimiser `name` of these stacked parameters, which it changes in place.

    Raises:
        CannotPackError: it has an option that is not known here.
    """
    optimizer = find_optimizer(name, options)
    own = list(parameters)
    states = optimizer.start(own)
    steps = 0

    def update(gradients: Sequence[Tensor], rate: float | Sequence[float]) -> None:
        nonlocal steps
        steps += 1
        rates = np.broadcast_to(np.asarray(rate, dtype=np.float64), (1, len(own[0])))
        numbers = optimizer.numbers_of(steps, rates)[0].to(own[0].dtype)
        optimizer.update(own, states, list(gradients), numbers)

    return update


def _sgd(
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    damped = bool(momentum and dampening)

    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        # The first velocity is the gradient itself.
        return [rates, np.where(steps == 1, 1.0, 1 - dampening)] if damped else [rates]

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        change = gradients
        if weight_decay:
            change = _sum(change, _scaled(parameters, weight_decay))
        if momentum:
            (velocities,) = states
            torch._foreach_mul_(velocities, momentum)
            torch._foreach_add_(velocities, _times(change, numbers[1]) if damped else change)
            change = _sum(change, _scaled(velocities, momentum)) if nesterov else velocities
        torch._foreach_sub_(parameters, _times(change, numbers[0]))

    return Optimizer(1 if momentum else 0, numbers, apply)


def _adam(
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> Optimizer:
    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        found = [rates / (1 - betas[0] ** steps), np.sqrt(1 - betas[1] ** steps)]
        return [*found, 1 - rates * weight_decay] if decoupled else found

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        first, second = states
        change = gradients
        if weight_decay and decoupled:
            torch._foreach_mul_(parameters, numbers[2])
        elif weight_decay:
            change = _sum(change, _scaled(parameters, weight_decay))
        torch._foreach_mul_(first, betas[0])
        torch._foreach_add_(first, _scaled(change, 1 - betas[0]))
        torch._foreach_mul_(second, betas[1])
        torch._foreach_add_(second, _scaled(_times(change, change), 1 - betas[1]))
        below = list(torch._foreach_sqrt(second))  # noqa: SLF001
        torch._foreach_div_(below, numbers[1])
        torch._foreach_add_(below, eps)
        above = _times(first, numbers[0])
        torch._foreach_div_(above, below)
        torch._foreach_sub_(parameters, above)

    return Optimizer(2, numbers, apply)


def _scaled(tensors: Sequence[Tensor], factor: float) -> Tensors:
    return list(torch._foreach_mul(list(tensors), factor))  # noqa: SLF001


def _times(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensors:
    return list(torch._foreach_mul(list(one), list(other)))  # noqa: SLF001


def _sum(one: Tensors, other: Tensors) -> Tensors:
    return list(torch._foreach_add(one, other))  # noqa: SLF001
