"""The training step of a pack (forward, backward, update), by torch or by a native function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.train.native.cache import Native, native
from sweeper.train.native.inductor import CompilePlan
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.optimizers import Optimizer, find_optimizer
from sweeper.train.vectorize.trace import Trace

_AT_ONCE = 256
"""Steps whose optimiser numbers are made at once."""


class TrainingStep(Protocol):
    """Stacked models in training."""

    replicas: int

    @property
    def state(self) -> list[Tensor]:
        """The parameters and buffers after the last step."""

    @property
    def optimizer(self) -> Sequence[Tensor]:
        """The optimiser's states after the last step, in the order of `Optimizer.start`."""

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """Make one step; return the losses, shape (replicas,).

        `keys` are for random numbers, `numbers` for the optimiser (see `numbers_of`).
        """


class PackedStep:
    """A packed step: torch's operations one after the other, each for all replicas."""

    def __init__(
        self,
        trace: Trace,
        recipe: Recipe,
        models: tuple[list[Tensor], list[Tensor]],
        labels: Tensor | None,
    ) -> None:
        """`models` are as `stack` returns them; `labels` are all labels of the data, if known.

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
        """See `TrainingStep`."""
        return [*self.parameters, *self.buffers]

    @property
    def optimizer(self) -> Sequence[Tensor]:
        """See `TrainingStep`."""
        return self._states

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `TrainingStep`."""
        count = len(self.parameters)
        with torch.inference_mode():
            losses, *found = self._step([*self.parameters, *self.buffers, x, y, keys])
            self.buffers = found[count:]
            self._optimizer.update(self.parameters, self._states, found[:count], numbers)
        return losses


class NativeStep:
    """A compiled step: one native function for a fixed number of replicas."""

    def __init__(
        self, trace: Trace, recipe: Recipe, models: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """`models` are as `stack` returns them."""
        self._models, self._trace, self._recipe = models, trace, recipe
        self.state = [*models[0], *models[1]]
        self.replicas = len(self.state[0])
        self.optimizer = find_optimizer(recipe).start(models[0])
        self._native: Native | None = None

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `TrainingStep`; the first call loads the function or compiles it.

        Raises:
            NotCompiledError: it cannot be compiled here.
        """
        if self._native is None:
            self._native = native(self._plan(x, y, keys), [*self.optimizer, *self.state])
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
    before: int = 0,
    decays: NDArray[np.float64] | None = None,
) -> Iterator[Tensor]:
    """Numbers that the optimiser needs in each step, shape (numbers, replicas).

    `rates` has shape (steps,), or (steps, replicas) if each replica has its own; `decays`, shape
    (replicas,), are weight decays where each replica has its own.  The optimiser has made `before`
    steps before these.
    """
    of_each = np.asarray(rates, dtype=np.float64)
    of_each = of_each[:, None] if of_each.ndim == 1 else of_each
    for first in range(0, len(of_each), _AT_ONCE):
        some = of_each[first : first + _AT_ONCE]
        spread = np.broadcast_to(some, (len(some), replicas))
        yield from optimizer.numbers_of(before + first + 1, spread, decays).to(dtype)
