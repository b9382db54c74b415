"""Optimisers of stacked parameters: a recipe's optimiser for many replicas at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sweeper.train.problem.recipe import Clipping, Group, Recipe
from sweeper.train.vectorize.formulas import FORMULAS, Doubles, Formula, Tensors
from sweeper.train.vectorize.rules.common import raised, total
from sweeper.train.vectorize.trace import CannotPackError

_WITHOUT_EFFECT = {"foreach", "fused", "capturable", "differentiable"}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Part:
    """The update of one parameter group."""

    formula: Formula
    group: Group
    count: int
    """Count of the numbers that the formula needs."""

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

    def numbers_of(self, first: int, rates: Doubles) -> Tensor:
        """Numbers for updates in the steps from `first` on, shape (steps, numbers, replicas)."""
        steps = np.arange(first, first + len(rates), dtype=np.float64)[:, None]
        found = [
            np.broadcast_to(number, rates.shape)
            for part in self.parts
            for number in part.formula.numbers(steps, rates * part.group.scale)
        ]
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
            spread = _spread(itertools.islice(given, part.count), own)
            part.formula.apply(own, kept, part.own(gradients), spread)


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
    formula = _formula(name, group)
    one = np.ones((1, 1))
    return Part(formula, group, len(formula.numbers(one, one)))


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
