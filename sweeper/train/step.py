"""The step of a pack, flat or native, behind one call: forward, backward and update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sweeper.train.batched import batched
from sweeper.train.compiled import Native, native
from sweeper.train.inductor import Plan
from sweeper.train.stacked import Optimizer, find_optimizer
from sweeper.train.tape import Tape

_AT_ONCE = 256
"""Steps whose numbers are made at once."""

OptimizerParts = tuple[str, Mapping[str, Any]]


class Step(Protocol):
    """Stacked models on their way; what they hold is always as after the last step."""

    parameters: list[Tensor]
    buffers: list[Tensor]

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """Make one step; the losses, shape (replicas,).

        `keys` is for what the models draw, `numbers` for the optimiser (see `numbers_of`).
        """


class FlatStep:
    """torch's operations one after the other, each for all replicas."""

    def __init__(
        self, tape: Tape, optimizer: OptimizerParts, models: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """Of a pack's models, as `stack` gives them.

        Raises:
            CannotPackError: an operation or an option has no rule.
        """
        self.parameters, self.buffers = models
        self._step = batched(tape)
        self._optimizer = find_optimizer(*optimizer)
        self._states = self._optimizer.start(self.parameters)

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `Step`."""
        count = len(self.parameters)
        with torch.no_grad():
            losses, *found = self._step([*self.parameters, *self.buffers, x, y, keys])
            self.buffers = found[count:]
            self._optimizer.update(self.parameters, self._states, found[:count], numbers)
        return losses


class NativeStep:
    """One native function, for as many replicas as it was made for."""

    def __init__(
        self, tape: Tape, optimizer: OptimizerParts, models: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """Of a pack's models, as `stack` gives them."""
        self.parameters, self.buffers = models
        self._tape, self._optimizer = tape, optimizer
        self._states = find_optimizer(*optimizer).start(self.parameters)
        self._kept = [*(one for state in self._states for one in state), *self.parameters]
        self._kept += self.buffers
        self._native: Native | None = None

    @property
    def states(self) -> list[list[Tensor]]:
        """The optimiser's."""
        return self._states

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor, numbers: Tensor) -> Tensor:
        """See `Step`; the first one finds the function, or makes it.

        Raises:
            CannotPackError: it cannot be made here.
        """
        if self._native is None:
            self._native = native(self._plan(x, y, keys))
        return self._native([*self._kept, x, y, keys, numbers])

    def _plan(self, x: Tensor, y: Tensor, keys: Tensor) -> Plan:
        return plan_of(self._tape, self._optimizer, (self.parameters, self.buffers), (x, y, keys))


def plan_of(
    tape: Tape,
    optimizer: OptimizerParts,
    models: tuple[list[Tensor], list[Tensor]],
    batch: Sequence[Tensor],
) -> Plan:
    """What the native step of these models is made of; the batch is x, y and keys."""
    parameters, buffers = models
    given = [*parameters, *buffers, *batch]
    shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in given)
    return Plan(tape, (optimizer[0], dict(optimizer[1])), len(parameters), shapes)


def numbers_of(
    optimizer: Optimizer, rates: Sequence[float], replicas: int, dtype: torch.dtype
) -> Iterator[Tensor]:
    """What the optimiser needs in each step, shape (numbers, replicas)."""
    for first in range(0, len(rates), _AT_ONCE):
        some = np.array(rates[first : first + _AT_ONCE])[:, None]
        yield from optimizer.numbers_of(first + 1, np.broadcast_to(some, (len(some), replicas))).to(
            dtype
        )
