"""The step of a pack, flat or native, behind one call: forward, backward and update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.train.native.cache import Native, native
from sweeper.train.native.inductor import CompilePlan
from sweeper.train.problem.recipe import Recipe
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.optimizers import Optimizer, find_optimizer
from sweeper.train.vectorize.trace import Trace

_AT_ONCE = 256
"""Steps whose numbers are made at once."""


class PackStep(Protocol):
    """Stacked models on their way."""

    replicas: int

    @property
    def state(self) -> list[Tensor]:
        """The parameters and buffers after the last step."""

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """Make one step; the losses, shape (replicas,).

        `keys` is for what the models draw, `numbers` for the optimiser (see `numbers_of`).
        """


class FlatStep:
    """torch's operations one after the other, each for all replicas."""

    def __init__(
        self,
        trace: Trace,
        recipe: Recipe,
        models: tuple[list[Tensor], list[Tensor]],
        labels: Tensor | None,
    ) -> None:
        """Of a pack's models, as `stack` gives them; `labels` are all of the data's, if known.

        Raises:
            CannotPackError: an operation or an option has no rule.
        """
        self.parameters, self.buffers = models
        self.replicas = len(self.parameters[0])
        self._step = batched(trace, labels)
        self._optimizer = find_optimizer(recipe)
        self._states = self._optimizer.start(self.parameters)

    @property
    def state(self) -> list[Tensor]:
        """See `Step`."""
        return [*self.parameters, *self.buffers]

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `Step`."""
        count = len(self.parameters)
        with torch.inference_mode():
            losses, *found = self._step([*self.parameters, *self.buffers, x, y, keys])
            self.buffers = found[count:]
            self._optimizer.update(self.parameters, self._states, found[:count], numbers)
        return losses


class NativeStep:
    """One native function, for as many replicas as it was made for."""

    def __init__(
        self, trace: Trace, recipe: Recipe, models: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """Of a pack's models, as `stack` gives them."""
        self._models, self._trace, self._recipe = models, trace, recipe
        self.state = [*models[0], *models[1]]
        self.replicas = len(self.state[0])
        self._kept = [*find_optimizer(recipe).start(models[0]), *self.state]
        self._native: Native | None = None

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `Step`; the first one finds the function, or makes it.

        Raises:
            NotCompiledError: it cannot be made here.
        """
        if self._native is None:
            self._native = native(self._plan(x, y, keys), self._kept)
        return self._native(x, y, keys, numbers)

    def _plan(self, x: Tensor, y: Tensor, keys: Tensor) -> CompilePlan:
        given = [*self.state, x, y, keys]
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in given)
        return CompilePlan(self._trace, self._recipe, len(self._models[0]), shapes)


def numbers_of(
    optimizer: Optimizer,
    rates: NDArray[np.float64] | Sequence[float],
    replicas: int,
    dtype: torch.dtype,
) -> Iterator[Tensor]:
    """What the optimiser needs in each step, shape (numbers, replicas).

    `rates` has shape (steps,), or (steps, replicas) where each replica has its own.
    """
    of_each = np.asarray(rates, dtype=np.float64)
    of_each = of_each[:, None] if of_each.ndim == 1 else of_each
    for first in range(0, len(of_each), _AT_ONCE):
        some = of_each[first : first + _AT_ONCE]
        yield from optimizer.numbers_of(first + 1, np.broadcast_to(some, (len(some), replicas))).to(
            dtype
        )
