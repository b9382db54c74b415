"""Members of packs, and how they are stacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from sweeper.records import COMPILED
from sweeper.train.data.samples import Data, Indices
from sweeper.train.native.cache import replicas_of
from sweeper.train.packs.evaluation import CHUNK
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.checkpoints import (
    Checkpoints,
    Saved,
    restore_generator,
    restore_tensors,
)
from sweeper.train.replica.parents import (
    Inheritance,
    named_tensors,
    stacked_states,
    take_tensors,
    trained_names,
    unstacked_states,
)
from sweeper.train.replica.streams import Streams, fork_rng
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.trace import Trace, held, record, trained

LEAST_REPLICAS = 2
"""A pack of one is padded to two: torch multiplies a single matrix by another function."""

MEMORY_SHARE = 0.25
"""Largest share that a pack may take of the memory available per core."""

Row = TypeVar("Row")

AT_ONCE = 5_000_000
"""Numbers computed in a pack's step up to which a larger pack is faster; beyond, it is limited by
memory.  Measured, see `benchmarks/packing.py`."""

_BYTES = 4
_COPIES = 6
"""Parameters, gradients, two optimiser states, and two temporaries of an update."""


@dataclass(slots=True, eq=False)
class Member:
    """A trial in a pack."""

    streams: Streams
    full: nn.Module
    """The model to save."""
    model: nn.Module
    loss: Any
    trace: Trace
    given: tuple[int, int]
    """Samples in a batch, and numbers in a sample."""
    params: str
    """The point's, encoded."""
    curves: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, Indices] = field(default_factory=dict)
    diverged: bool = False
    checkpoints: Checkpoints | None = None
    """Where it is saved; None: nowhere."""
    saved: Saved | None = None
    """The checkpoint from which it goes on."""
    before: int = 0
    """Steps that its parents have made."""
    states: list[Tensor] | None = None
    """The optimiser's states with which it begins; None: those of an optimiser that is new."""
    split: int | None = None
    """The number of the trial whose split of the data it has; None: its own."""

    @property
    def begins(self) -> int:
        """The cycles that were done before."""
        return 0 if self.saved is None else self.saved.cycles

    @property
    def order(self) -> np.random.Generator:
        """A new generator of its data order, where its training goes on."""
        generator = self.streams.generator("order")
        if self.saved is not None:
            restore_generator(generator, self.saved.state["order"])
        return generator

    @classmethod
    def make(
        cls, problem: Problem, data: Data, streams: Streams, params: str, batch_size: int
    ) -> Member:
        """A member initialised as the eager trainer does, with its step recorded.

        `params` are the point's, encoded.

        Raises:
            CannotPackError: its step cannot be recorded.
        """
        streams.seed_globals("init")
        full, model = problem.make_model(params)
        loss = problem.make_loss(params)
        streams.seed_globals("inside")
        model.train()
        x, y = first_batch(data, batch_size)
        trace, _, _ = record(model, loss, x, y)
        return cls(streams, full, model, loss, trace, (len(x), x.numel() // len(x)), params)

    def resume(self, checkpoints: Checkpoints | None) -> None:
        """Go on from the latest checkpoint that fits, if there is one."""
        self.checkpoints = checkpoints
        saved = None if checkpoints is None else checkpoints.read()
        if saved is not None and restore_tensors(
            state_of(self.model, self.loss), saved.state.pop("tensors")
        ):
            self.saved, self.states = saved, saved.state.pop("optimizer")

    def inherit(self, inherited: Inheritance, recipe: Recipe) -> None:
        """Begin from a parent; `recipe` has the optimiser.

        Raises:
            CannotPackError: the parent's optimiser has other states than a pack keeps.
            ParentError: the parent does not fit.
        """
        self.before = inherited.steps
        if self.saved is None:
            parts = (self.full, self.model, self.loss)
            take_tensors(inherited, recipe.name, dict(named_tensors(*parts)))
            names = trained_names(*parts)
            self.states = unstacked_states(inherited, find_optimizer(recipe), names)

    def inheritance(self, recipe: Recipe, state: Mapping[str, Any], steps: int) -> Inheritance:
        """What trials take that begin from its end, after so many steps; `state` is as saved."""
        parts = (self.full, self.model, self.loss)
        names = {id(tensor): name for name, tensor in named_tensors(*parts)}
        own = [names[id(tensor)] for tensor in state_of(self.model, self.loss)]
        tensors = dict(zip(own, state["tensors"], strict=True))
        # What the model to save has beside the one that is trained stays as it was made.
        rest = {name: tensor.detach() for name, tensor in named_tensors(*parts)}
        made = self.before + steps
        given = (trained_names(*parts), state["optimizer"], made)
        states = stacked_states(find_optimizer(recipe), *given)
        return Inheritance(recipe.name, made, {**rest, **tensors}, states)

    @property
    def split_number(self) -> int:
        """The number of the trial whose split of the data it has."""
        return self.streams.number if self.split is None else self.split

    def take(self, state: Sequence[Tensor], place: int) -> None:
        """Copy the weights and buffers at a place of the stack into the model.

        Frozen parameters and buffers may be shared with other models: they are written only if
        they changed.
        """
        with torch.no_grad():
            for own, stacked in zip(state_of(self.model, self.loss), state, strict=True):
                if own.requires_grad or not torch.equal(own, stacked[place]):
                    own.copy_(stacked[place])


def first_batch(data: Data, batch_size: int) -> tuple[Any, Any]:
    """The first samples, in order: a step is recorded on them."""
    with fork_rng():
        return next(iter(data.train.batches([np.arange(min(batch_size, len(data.train)))])))


def state_of(model: nn.Module, loss: Any = None) -> list[Tensor]:
    """The tensors of model and loss as a step takes them: trained parameters first."""
    return [*trained(model), *held(model, loss)]


def stack(
    models: Sequence[nn.Module], least: int = LEAST_REPLICAS, losses: Sequence[Any] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Trained parameters, then frozen ones and buffers, shapes (replicas, …); padded to `least`."""
    pairs = zip(models, losses or [None] * len(models), strict=True)
    rows = padded([state_of(model, loss) for model, loss in pairs], least)
    stacked = [
        torch.stack([value.detach() for value in column]) for column in zip(*rows, strict=True)
    ]
    count = len(trained(models[0]))
    return stacked[:count], stacked[count:]


def stack_members(
    members: Sequence[Member], least: int = LEAST_REPLICAS
) -> tuple[list[Tensor], list[Tensor]]:
    """As `stack`, for members that have not begun to train."""
    models, losses = [member.model for member in members], [member.loss for member in members]
    return stack(models, least, losses)


def least_of(trace: Trace, mode: str) -> int:
    """The least replicas of a pack; smaller packs are padded."""
    return replicas_of(trace) if mode == COMPILED else LEAST_REPLICAS


def most_members(member: Member, mode: str) -> int:
    """The most members of a pack: as many as gain by it and fit into memory.

    No result depends on it.  A compiled step has a fixed number of members.
    """
    trace, (batch, sample) = member.trace, member.given
    if mode == COMPILED:
        return replicas_of(trace)
    parameters = sum(parameter.numel() for parameter in member.model.parameters())
    # An evaluation holds a chunk of samples, and computes less per sample than a step.
    rows = max(batch, CHUNK)
    numbers = _COPIES * parameters + rows * (sample + trace.numbers / batch)
    share = MEMORY_SHARE * psutil.virtual_memory().available / (psutil.cpu_count() or 1)
    return max(1, min(int(share // (_BYTES * numbers)), gaining(trace)))


def shares(members: Sequence[Row], most: int) -> Iterator[Sequence[Row]]:
    """Packs of at most `most` members and about equal size."""
    count = -(-len(members) // most)
    for place in range(count):
        yield members[place * len(members) // count : (place + 1) * len(members) // count]


def gaining(trace: Trace) -> int:
    """The most replicas that gain by being in one pack, at least two."""
    return max(2, AT_ONCE // max(1, trace.numbers))


def padded(rows: Sequence[Row], least: int = LEAST_REPLICAS) -> list[Row]:
    """One row per member, the last one repeated up to `least` rows."""
    return list(rows) + [rows[-1]] * (least - len(rows))
