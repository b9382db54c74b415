"""The training loop of packs: that of trials and that of probes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.records import COMPILED
from sweeper.train.data.samples import Data
from sweeper.train.packs.members import (
    LEAST_REPLICAS,
    Member,
    least_of,
    padded,
    stack_members,
)
from sweeper.train.packs.step import NativeStep, PackedStep, TrainingStep, numbers_of
from sweeper.train.problem.measure.metrics import Measure
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.random import step_keys
from sweeper.train.vectorize.trace import Trace

_KEYS = 256
"""Steps whose random keys are made at once."""


Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(slots=True, eq=False)
class Pack:
    """Members in training."""

    step: TrainingStep
    keys: Iterator[Tensor]
    numbers: Iterator[Tensor]
    done: int
    """Steps made before."""
    left: set[int]
    """The places of members that have not diverged."""

    @classmethod
    def make(
        cls,
        problem: Problem,
        data: Data,
        members: Sequence[Member],
        rates: Sequence[Any],
        mode: str,
        done: int = 0,
        decays: Sequence[float] | None = None,
    ) -> Pack:
        """Members that have made `done` steps; `rates` has a row of all steps for each.

        All have parents that have made the same number of steps.  `decays` has the weight decay of
        each, if the recipe says that each has its own.

        Raises:
            CannotPackError: an operation or an option has no rule.
        """
        trace, recipe = members[0].trace, problem.recipe(members[0].model, members[0].params)
        least = least_of(trace, mode)
        step = make_step(mode, trace, recipe, stack_members(members, least), data.train.labels)
        every = np.stack(padded(rates, least), axis=1)
        optimizer, before = find_optimizer(recipe), members[0].before
        own = None if decays is None else np.array(padded(decays, step.replicas))
        numbers = numbers_of(optimizer, every, step.replicas, torch.float32, before, own)
        keys = keys_of([member.streams for member in members], trace, len(every), least)
        # What earlier steps had is made again and left out, since it is made many steps at once.
        left = set(range(len(members)))
        return cls(step, _from(done, keys), _from(done, numbers), done, left)

    def run(self, batches: Batches, judging: Measure) -> Iterator[tuple[int, list[int]]]:
        """Make the steps; yield after each its number, from 1, and the places that diverged in it.

        It ends once all have diverged.
        """
        every = zip(batches, self.keys, self.numbers, strict=False)
        for number, ((x, y), key, settings) in enumerate(every, self.done + 1):
            reached = self.step(x, y, key, settings).tolist()
            lost: list[int] = []
            if not math.isfinite(sum(reached)):
                infinite = [place for place in self.left if not math.isfinite(reached[place])]
                lost = [place for place in infinite if not judging.counts_nothing(y[place])]
                self.left.difference_update(lost)
            yield number, lost
            if not self.left:
                return


def _from(first: int, items: Iterator[Tensor]) -> Iterator[Tensor]:
    return itertools.islice(items, first, None)


def keys_of(
    seeds: Sequence[Streams], trace: Trace, steps: int, least: int = LEAST_REPLICAS
) -> Iterator[Tensor]:
    """The random keys of each step, shape (replicas,)."""
    own = padded([streams.key for streams in seeds], least)
    if not trace.random_count:
        yield from itertools.repeat(torch.zeros(len(own), dtype=torch.int64), steps)
        return
    for first in range(0, steps, _KEYS):
        yield from step_keys(own, first, min(_KEYS, steps - first))


def make_step(
    mode: str,
    trace: Trace,
    recipe: Recipe,
    models: tuple[list[Tensor], list[Tensor]],
    labels: Tensor | None,
) -> TrainingStep:
    """The step of stacked models in an execution mode; `labels` are all of the data's, if known.

    Raises:
        CannotPackError: an operation or an option has no rule.
    """
    if mode == COMPILED:
        return NativeStep(trace, recipe, models)
    return PackedStep(trace, recipe, models, labels)
