"""A model in eager training, and how it is saved at the end of a cycle and restored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.mode.snapshot import described
from sweeper.train.problem.optimizer.optimizers import make_optimizer
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.checkpoints import (
    have_same_bits,
    restore_generator,
    restore_tensors,
    written_generator,
)
from sweeper.train.replica.parents import (
    Inheritance,
    named_tensors,
    states_of,
    take_states,
    take_tensors,
)
from sweeper.train.replica.streams import Streams, restore_globals, written_globals


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A model in training."""

    full: nn.Module
    """The model to save."""
    model: nn.Module
    loss: Any
    optimizer: torch.optim.Optimizer
    order: np.random.Generator

    @classmethod
    def make(cls, problem: Problem, streams: Streams, params: str, rate: float) -> Training:
        """Initialised from the streams of its replica, at learning rate `rate`."""
        streams.seed_globals("init")
        full, model = problem.make_model(params)
        loss = problem.make_loss(params)
        optimizer = make_optimizer(problem.optimizer(params), model, rate, loss)
        streams.seed_globals("inside")
        return cls(full, model, loss, optimizer, streams.generator("order"))

    def state(self, watched: Sequence[Any]) -> dict[str, Any] | None:
        """All that the next steps depend on, for `restore`; None if it cannot be told.

        `watched` are further objects of the user's that training may change.
        """
        other = self._other(watched)
        if other is None:
            return None
        return {
            "tensors": {name: tensor.detach() for name, tensor in self._tensors()},
            "optimizer": self.optimizer.state_dict(),
            "order": written_generator(self.order),
            "globals": written_globals(),
            "other": other,
        }

    def restore(self, state: dict[str, Any], watched: Sequence[Any]) -> bool:
        """Set a training that was made in the same way to a state; return whether it fits.

        If it does not, the training may not be used.
        """
        self.model.train()
        own, known = dict(self._tensors()), state.pop("tensors")
        if own.keys() != known.keys() or not restore_tensors([*own.values()], [*known.values()]):
            return False
        optimizer = state.pop("optimizer")
        self.optimizer.load_state_dict(optimizer)
        # torch converts the states of optimisers, which may change bits of some.
        if not _are_equal(self.optimizer.state_dict(), optimizer):
            return False
        if self._other(watched) != state["other"]:
            return False
        restore_generator(self.order, state["order"])
        restore_globals(state["globals"])
        return True

    def inheritance(self, optimizer: str, steps: int) -> Inheritance:
        """What trials take that begin from here; `steps` are all that its optimiser has made."""
        own = {name: tensor.detach() for name, tensor in self._tensors()}
        states = states_of(self.optimizer, dict(self._tensors()))
        return Inheritance(optimizer, steps, own, states)

    def inherit(self, inherited: Inheritance, optimizer: str) -> None:
        """Begin from a parent.

        Raises:
            ParentError: it does not fit.
        """
        own = dict(self._tensors())
        take_tensors(inherited, optimizer, own)
        take_states(inherited, self.optimizer, own)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return named_tensors(self.full, self.model, self.loss)

    def _other(self, watched: Sequence[Any]) -> str | None:
        """A digest of all other state: attributes of modules, loss, optimiser and watched objects.

        None: they cannot be inspected.
        """
        modules = dict.fromkeys([*self.full.modules(), *self.model.modules()])
        own = self.loss.modules() if isinstance(self.loss, nn.Module) else [self.loss]
        optimizer = {
            name: value
            for name, value in vars(self.optimizer).items()
            if name not in {"state", "param_groups"}
        }
        parts = [*modules, *own, optimizer, *watched]
        try:
            text = repr(described(parts, [tensor for _, tensor in self._tensors()]))
        except Exception:  # noqa: BLE001 - whatever an object does not like about being inspected
            return None
        return hashlib.sha256(text.encode()).hexdigest()


def _are_equal(one: Any, other: Any) -> bool:
    """Whether nested values are the same, to the last bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.shape, one.dtype) == (other.shape, other.dtype)
        return alike and have_same_bits(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    return bool(one == other)
