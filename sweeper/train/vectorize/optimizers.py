"""Optimisers of stacked parameters: a recipe's optimiser for many replicas at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sweeper.train.problem.optimizer.recipe import Clipping, Group, Recipe, ordered
from sweeper.train.vectorize.formulas import FORMULAS, Doubles, Formula, Tensors
from sweeper.train.vectorize.rules.common import raised, total
from sweeper.train.vectorize.trace import CannotPackError

OF_EACH = "of each replica"
"""As an option's value in a recipe: each replica has its own weight decay."""

_WITHOUT_EFFECT = {"foreach", "fused", "capturable", "differentiable"}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Decay:
    """A weight decay of each replica, made before the formula with the operations that it has."""

    decoupled: bool
    """Whether parameters shrink, as with AdamW, or gradients change."""
    maximize: bool

    def number(self, rates: Doubles, decays: Doubles) -> Doubles:
        """What a step needs, shape (steps, replicas), from rates of that shape and decays."""
        return 1 - rates * decays if self.decoupled else np.broadcast_to(decays, rates.shape)

    def apply(self, parameters: Tensors, gradients: Tensors, number: Tensors) -> Tensors:
        """Shrink the parameters, or return the gradients with the decay."""
        if self.decoupled:
            torch._foreach_mul_(parameters, number)
            return gradients
        pull = torch._foreach_mul(parameters, number)  # noqa: SLF001
        sign = -1.0 if self.maximize else 1.0
        return list(torch._foreach_add(gradients, pull, alpha=sign))  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class Part:
    """The update of one parameter group."""

    formula: Formula
    group: Group
    count: int
    """Count of the numbers that the formula needs."""
    decay: Decay | None = None
    """The weight decay, if each replica has its own: then it is no part of the formula."""

    def own(self, items: Sequence[Item]) -> list[Item]:
        """The items of its parameters, given one item per parameter."""
        places = self.group.parameters
        return list(items) if places is None else [items[place] for place in places]


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How stacked parameters are updated."""

    parts: tuple[Part, ...]
    clipping: Clipping

    def states_of(self, items: Sequence[Item]) -> list[Item]:
        """The item of each state's parameter, in the order of the states."""
        return [item for part in self.parts for item in part.own(items) * part.formula.states]

    def torch_states(self, parameters: int) -> list[tuple[int, str]]:
        """The place of each state's parameter, and torch's name of it, in the order of `start`."""
        return [
            (place, name)
            for part in self.parts
            for name in part.formula.kept
            for place in part.own(range(parameters))
        ]

    def torch_scalars(self, parameters: int, steps: int) -> Iterator[tuple[int, dict[str, float]]]:
        """For each parameter's place: the other numbers that torch keeps after so many steps."""
        for part in self.parts:
            scalars = part.formula.scalars(steps)
            for place in part.own(range(parameters)):
                yield place, scalars

    def start(self, parameters: Sequence[Tensor]) -> Tensors:
        """The states before the first step."""
        return [
            torch.full_like(parameter, part.formula.start)
            for part in self.parts
            for parameter in part.own(parameters) * part.formula.states
        ]

    def numbers_of(self, first: int, rates: Doubles, decays: Doubles | None = None) -> Tensor:
        """Numbers for updates in the steps from `first` on, shape (steps, numbers, replicas).

        `decays`, shape (replicas,), are the weight decays of recipes that have `OF_EACH`.
        """
        steps = np.arange(first, first + len(rates), dtype=np.float64)[:, None]
        found: list[Doubles] = []
        for part in self.parts:
            scaled = rates * part.group.scale
            found += [
                np.broadcast_to(one, rates.shape) for one in part.formula.numbers(steps, scaled)
            ]
            if part.decay is not None and decays is not None:
                found.append(part.decay.number(scaled, decays))
        return torch.from_numpy(np.stack(found, axis=1))

    def update(
        self, parameters: Tensors, states: Tensors, gradients: Tensors, numbers: Tensor
    ) -> None:
        """Make one step; `numbers` has shape (numbers, replicas)."""
        gradients = clipped(gradients, self.clipping)
        left, given = iter(states), iter(numbers.unbind())
        for part in self.parts:
            own = part.own(parameters)
            kept = [list(itertools.islice(left, len(own))) for _ in range(part.formula.states)]
            spread, change = _spread(itertools.islice(given, part.count), own), part.own(gradients)
            if part.decay is not None:
                (number,) = _spread(itertools.islice(given, 1), own)
                change = part.decay.apply(own, change, number)
            part.formula.apply(own, kept, change, spread)


def _spread(numbers: Iterable[Tensor], parameters: Sequence[Tensor]) -> list[Tensors]:
    """Each number once per parameter, shaped (replicas, 1, …)."""
    ranks = [parameter.ndim for parameter in parameters]
    found = []
    for number in numbers:
        shaped = {rank: number.view(-1, *[1] * (rank - 1)) for rank in set(ranks)}
        found.append([shaped[rank] for rank in ranks])
    return found


def clipped(gradients: Tensors, clipping: Clipping) -> Tensors:
    """Gradients clipped as by torch, each replica separately."""
    if clipping.norm is not None:
        # One after the other: the order of additions of a sum depends on how many there are.
        squares = [total(gradient * gradient) for gradient in gradients]
        norm = sum(squares[1:], squares[0]).sqrt()
        share = (clipping.norm / (norm + 1e-6)).clamp(max=1.0)
        gradients = [gradient * raised(share, gradient.ndim) for gradient in gradients]
    if clipping.value is not None:
        gradients = [gradient.clamp(-clipping.value, clipping.value) for gradient in gradients]
    return gradients


def find_optimizer(recipe: Recipe) -> Optimizer:
    """The optimiser of a recipe.

    Raises:
        CannotPackError: it has no packed form, or an option that is not known here.
    """
    return Optimizer(tuple(_part(recipe.name, group) for group in recipe.groups), recipe.clipping)


def _part(name: str, group: Group) -> Part:
    options, decay = dict(group.options), None
    if options.get("weight_decay") == OF_EACH:
        decoupled = name == "adamw" or bool(options.get("decoupled_weight_decay"))
        decay = Decay(decoupled, maximize=bool(options.get("maximize")))
        group = replace(group, options=ordered({**options, "weight_decay": 0.0}))
    formula = _formula(name, group)
    one = np.ones((1, 1))
    return Part(formula, group, len(formula.numbers(one, one)), decay)


def _formula(name: str, group: Group) -> Formula:
    if name not in FORMULAS:
        raise CannotPackError(f"its optimiser, {name}, has no packed form")
    options = {key: value for key, value in group.options if key not in _WITHOUT_EFFECT}
    unknown = CannotPackError(f"packs do not support its optimiser, {name} with {options}")
    if any(isinstance(value, Tensor) for value in options.values()):
        raise unknown
    try:
        return FORMULAS[name](**options)
    except TypeError:
        raise unknown from None


Update = Callable[[Sequence[Tensor], "float | Sequence[float]"], None]
"""Takes the gradients, and one learning rate or one per replica."""


def make_stacked(recipe: Recipe, parameters: Sequence[Tensor]) -> Update:
    """The update of these stacked parameters, made in place.

    Raises:
        CannotPackError: it has no packed form, or an option that is not known here.
    """
    optimizer = find_optimizer(recipe)
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
