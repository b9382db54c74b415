"""torch's optimisers as formulas of stacked parameters, by name.

Packed and compiled steps share each formula.  Formulas use singly rounded operations (sums,
products, quotients, roots) and no fused ones, so that a number's last bits do not depend on its
place.  What changes from step to step (rates, bias corrections) is computed beforehand in double
precision, one number per replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Tensors = list[Tensor]
Betas = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Formula:
    """How parameters change in a step."""

    kept: tuple[str, ...]
    """torch's names of the state tensors of a parameter, each of its shape."""
    numbers: Callable[[Doubles, Doubles], list[Doubles]]
    """From step numbers (1, 2, …), shape (steps, 1), and rates, shape (steps, replicas): the other
    numbers that the formula needs, each of shape (steps, replicas)."""
    apply: Callable[[Tensors, list[Tensors], Tensors, list[Tensors]], None]
    """From parameters, states, gradients and numbers: changes parameters and states in place.
    Every list has one entry per parameter; there is one list per state and per number, with the
    numbers shaped for broadcasting."""
    start: float = 0.0
    """Initial value of the states."""
    scalars: Callable[[int], dict[str, float]] = lambda steps: {"step": float(steps)}
    """The numbers that torch keeps beside these tensors after so many steps, by its names."""

    @property
    def states(self) -> int:
        """Number of state tensors per parameter."""
        return len(self.kept)


_MOMENTS = ("exp_avg", "exp_avg_sq")


def _sgd(
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Formula:
    damped = bool(momentum and dampening)

    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        # The first velocity is the gradient itself.
        return [rates, np.where(steps == 1, 1.0, 1 - dampening)] if damped else [rates]

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        change = _decayed(parameters, gradients, weight_decay, maximize=maximize)
        if momentum:
            (velocities,) = states
            torch._foreach_mul_(velocities, momentum)
            torch._foreach_add_(velocities, _times(change, numbers[1]) if damped else change)
            change = _sum(change, _scaled(velocities, momentum)) if nesterov else velocities
        torch._foreach_sub_(parameters, _times(change, numbers[0]))

    kept = ("momentum_buffer",) if momentum else ()
    return Formula(kept, numbers, apply, scalars=lambda _: {})


def _adam(
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> Formula:
    decoupled = decoupled_weight_decay

    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        found = [rates / (1 - betas[0] ** steps), np.sqrt(1 - betas[1] ** steps)]
        return [*found, 1 - rates * weight_decay] if decoupled else found

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        first, second, *largest = states
        change = _decayed(
            parameters, gradients, 0.0 if decoupled else weight_decay, maximize=maximize
        )
        if weight_decay and decoupled:
            torch._foreach_mul_(parameters, numbers[2])
        _follow(first, second, change, betas)
        if amsgrad:
            torch._foreach_maximum_(largest[0], second)
            second = largest[0]
        below = _roots(second)
        torch._foreach_div_(below, numbers[1])
        torch._foreach_add_(below, eps)
        above = _times(first, numbers[0])
        torch._foreach_div_(above, below)
        torch._foreach_sub_(parameters, above)

    largest = ("max_exp_avg_sq",) if amsgrad else ()
    return Formula((*_MOMENTS, *largest), numbers, apply)


def _nadam(
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> Formula:
    decoupled = decoupled_weight_decay

    def mu(steps: Doubles) -> Doubles:
        return betas[0] * (1 - 0.5 * 0.96 ** (steps * momentum_decay))

    def products_until(step: float) -> Doubles:
        # torch keeps their product in single precision.
        past = mu(np.arange(1, step + 1)).astype(np.float32)
        return np.multiply.accumulate(past).astype(np.float64)

    def scalars(steps: int) -> dict[str, float]:
        return {"step": float(steps), "mu_product": float(products_until(steps)[-1])}

    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        products = products_until(steps[-1, 0])[-len(steps) :, None]
        following = mu(steps + 1)
        found = [
            rates * (1 - mu(steps)) / (1 - products),
            rates * following / (1 - products * following),
            1 - betas[1] ** steps,
        ]
        return [*found, 1 - rates * weight_decay] if decoupled else found

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        first, second = states
        change = _decayed(
            parameters, gradients, 0.0 if decoupled else weight_decay, maximize=maximize
        )
        if weight_decay and decoupled:
            torch._foreach_mul_(parameters, numbers[3])
        _follow(first, second, change, betas)
        below = _roots(_over(second, numbers[2]))
        torch._foreach_add_(below, eps)
        torch._foreach_sub_(parameters, _over(_times(change, numbers[0]), below))
        torch._foreach_sub_(parameters, _over(_times(first, numbers[1]), below))

    return Formula(_MOMENTS, numbers, apply, scalars=scalars)


def _radam(
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> Formula:
    decoupled = decoupled_weight_decay

    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        above, below = 1 - betas[0] ** steps, 1 - betas[1] ** steps
        most = 2 / (1 - betas[1]) - 1
        length = most - 2 * steps * betas[1] ** steps / below
        adapts = length > 5.0
        known = np.where(adapts, length, 6.0)
        with np.errstate(all="ignore"):  # may divide by zero where it never adapts
            ratio = (known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known)
        # One of the two is zero: in early steps the variance is too uncertain.
        found = [
            np.where(adapts, rates / above * np.sqrt(below) * np.sqrt(np.abs(ratio)), 0.0),
            np.where(adapts, 0.0, rates / above),
        ]
        return [*found, 1 - rates * weight_decay] if decoupled else found

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        first, second = states
        change = _decayed(
            parameters, gradients, 0.0 if decoupled else weight_decay, maximize=maximize
        )
        if weight_decay and decoupled:
            torch._foreach_mul_(parameters, numbers[2])
        _follow(first, second, change, betas)
        below = _roots(second)
        torch._foreach_add_(below, eps)
        torch._foreach_sub_(parameters, _over(_times(first, numbers[0]), below))
        torch._foreach_sub_(parameters, _times(first, numbers[1]))

    return Formula(_MOMENTS, numbers, apply)


def _adamax(
    *,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Formula:
    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        return [rates / (1 - betas[0] ** steps)]

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        first, largest = states
        change = _decayed(parameters, gradients, weight_decay, maximize=maximize)
        torch._foreach_mul_(first, betas[0])
        torch._foreach_add_(first, _scaled(change, 1 - betas[0]))
        torch._foreach_mul_(largest, betas[1])
        sizes = list(torch._foreach_abs(change))  # noqa: SLF001
        torch._foreach_add_(sizes, eps)
        torch._foreach_maximum_(largest, sizes)
        torch._foreach_sub_(parameters, _over(_times(first, numbers[0]), largest))

    return Formula(("exp_avg", "exp_inf"), numbers, apply)


def _rmsprop(
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
) -> Formula:
    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        squares, *others = states
        change = _decayed(parameters, gradients, weight_decay, maximize=maximize)
        torch._foreach_mul_(squares, alpha)
        torch._foreach_add_(squares, _scaled(_times(change, change), 1 - alpha))
        below = squares
        if centered:
            means = others[0]
            torch._foreach_mul_(means, alpha)
            torch._foreach_add_(means, _scaled(change, 1 - alpha))
            below = list(torch._foreach_sub(squares, _times(means, means)))  # noqa: SLF001
        below = _roots(below)
        torch._foreach_add_(below, eps)
        if momentum:
            velocities = others[-1]
            torch._foreach_mul_(velocities, momentum)
            torch._foreach_add_(velocities, _over(change, below))
            torch._foreach_sub_(parameters, _times(velocities, numbers[0]))
        else:
            torch._foreach_sub_(parameters, _over(_times(change, numbers[0]), below))

    kept = ("square_avg", *["grad_avg"] * centered, *["momentum_buffer"] * bool(momentum))
    return Formula(kept, lambda _, rates: [rates], apply)


def _adadelta(
    *, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0, maximize: bool = False
) -> Formula:
    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        squares, changes = states
        change = _decayed(parameters, gradients, weight_decay, maximize=maximize)
        torch._foreach_mul_(squares, rho)
        torch._foreach_add_(squares, _scaled(_times(change, change), 1 - rho))
        sizes = [
            _roots(list(torch._foreach_add(state, eps)))  # noqa: SLF001
            for state in (changes, squares)
        ]
        change = _times(_over(*sizes), change)
        torch._foreach_mul_(changes, rho)
        torch._foreach_add_(changes, _scaled(_times(change, change), 1 - rho))
        torch._foreach_sub_(parameters, _times(change, numbers[0]))

    return Formula(("square_avg", "acc_delta"), lambda _, rates: [rates], apply)


def _adagrad(
    *,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> Formula:
    def numbers(steps: Doubles, rates: Doubles) -> list[Doubles]:
        return [rates / (1 + (steps - 1) * lr_decay)]

    def apply(
        parameters: Tensors, states: list[Tensors], gradients: Tensors, numbers: list[Tensors]
    ) -> None:
        (squares,) = states
        change = _decayed(parameters, gradients, weight_decay, maximize=maximize)
        torch._foreach_add_(squares, _times(change, change))
        below = _roots(squares)
        torch._foreach_add_(below, eps)
        torch._foreach_sub_(parameters, _over(_times(change, numbers[0]), below))

    return Formula(("sum",), numbers, apply, initial_accumulator_value)


FORMULAS: Mapping[str, Callable[..., Formula]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": lambda **rest: _adam(**{"weight_decay": 0.01, **rest, "decoupled_weight_decay": True}),
    "nadam": _nadam,
    "radam": _radam,
    "adamax": _adamax,
    "rmsprop": _rmsprop,
    "adadelta": _adadelta,
    "adagrad": _adagrad,
}
"""Formulas by optimiser; the options are torch's."""


def _decayed(
    parameters: Tensors, gradients: Tensors, weight_decay: float, *, maximize: bool
) -> Tensors:
    """Gradients with the sign of the direction, plus weight decay."""
    change = list(torch._foreach_neg(gradients)) if maximize else gradients  # noqa: SLF001
    return _sum(change, _scaled(parameters, weight_decay)) if weight_decay else change


def _follow(first: Tensors, second: Tensors, change: Tensors, betas: Betas) -> None:
    """Move the running means of gradients and of their squares."""
    torch._foreach_mul_(first, betas[0])
    torch._foreach_add_(first, _scaled(change, 1 - betas[0]))
    torch._foreach_mul_(second, betas[1])
    torch._foreach_add_(second, _scaled(_times(change, change), 1 - betas[1]))


def _scaled(tensors: Sequence[Tensor], factor: float) -> Tensors:
    return list(torch._foreach_mul(list(tensors), factor))  # noqa: SLF001


def _times(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensors:
    return list(torch._foreach_mul(list(one), list(other)))  # noqa: SLF001


def _over(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensors:
    return list(torch._foreach_div(list(one), list(other)))  # noqa: SLF001


def _roots(tensors: Tensors) -> Tensors:
    return list(torch._foreach_sqrt(tensors))  # noqa: SLF001


def _sum(one: Tensors, other: Tensors) -> Tensors:
    return list(torch._foreach_add(one, other))  # noqa: SLF001
