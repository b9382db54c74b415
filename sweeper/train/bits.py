"""Whether a replica's bits are its own: the same in every pack, and at every place in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.train.agreement import compare
from sweeper.train.batched import Step
from sweeper.train.compiled import replicas_of
from sweeper.train.data import Data
from sweeper.train.optimizers import optimizer_parts
from sweeper.train.packed import Member, evaluation_of, gaining, stack
from sweeper.train.problem import Problem
from sweeper.train.stacked import find_optimizer, make_stacked
from sweeper.train.step import FlatStep, NativeStep, OptimizerParts, numbers_of
from sweeper.train.stretch import CHECK_STEPS, Stretch, batches_of, rates_of
from sweeper.train.tape import CannotPackError

PACKS = (1, 2, 3, 8, 32)
"""Sizes between which a replica's bits are compared."""

NATIVE_STEPS = 32
"""Steps after which the bits of a native step are compared."""
NEARNESS = 1e-3
"""Relative error of the first losses that rounding explains in single precision."""


def _train_stretch(
    problem: Problem, parameters: list[Tensor], buffers: list[Tensor], step: Step, done: Stretch
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses of every step, and the buffers after all; the parameters are changed in place."""
    update = make_stacked(*optimizer_parts(problem.optimizer), parameters)
    reached = []
    with torch.no_grad():
        for (x, y), key, rate in zip(done.batches, done.keys, done.rates, strict=True):
            losses, *found = step([*parameters, *buffers, x, y, key])
            buffers = found[len(parameters) :]
            update(found[: len(parameters)], rate)
            reached.append(losses)
    return reached, buffers


def check_bits(
    problem: Problem,
    members: list[Member],
    step: Step,
    data: Data,
    payload: Mapping[str, Any],
) -> None:
    """Whether a replica's bits are the same in every pack, and at every place in it."""
    source = batches_of(data, payload["batch_size"])
    batches = [next(source) for _ in range(CHECK_STEPS + 1)]
    rates = rates_of(payload)
    evaluation = evaluation_of(problem, members[0])
    known: dict[int, list[bytes]] = {}
    for count in [count for count in PACKS if count <= gaining(members[0].tape)]:
        # Which of the two models stands where, the other way round in every other pack.
        kinds = [(place + count) % 2 for place in range(max(2, count))]
        if count == 1:
            kinds = [0, 0]
        parameters, buffers = stack([members[kind].model for kind in kinds])
        stretch = Stretch.of(members, kinds, batches, rates)
        _, buffers = _train_stretch(problem, parameters, buffers, step, stretch)
        evaluated = evaluation.run([*parameters, *buffers], *stretch.batches[0])
        for place, kind in enumerate(kinds):
            values = [*parameters, *buffers, *evaluated]
            found = [value[place].numpy().tobytes() for value in values]
            if known.setdefault(kind, found) != found:
                raise CannotPackError("its last bits depend on the pack")


def check_native(
    members: list[Member], parts: OptimizerParts, data: Data, payload: Mapping[str, Any]
) -> None:
    """Whether the native step is the flat one but for rounding, with the same bits at every place.

    Raises:
        CannotPackError: it is not.
        NotCompiledError: it cannot be made here.
    """
    tape = members[0].tape
    size = replicas_of(tape)
    source = batches_of(data, payload["batch_size"])
    batches = [next(source) for _ in range(NATIVE_STEPS + 1)]
    rates = [float(r) for r in np.linspace(payload["lr_start"], payload["lr_end"], NATIVE_STEPS)]
    numbers = list(numbers_of(find_optimizer(*parts), rates, size, torch.float32))
    known: dict[int, list[bytes]] = {}
    for kinds in _arrangements(size):
        stretch = Stretch.of(members, kinds, batches, rates)
        models = [members[kind].model for kind in kinds]
        step = NativeStep(tape, parts, stack(models, size))
        flat = FlatStep(tape, parts, stack([*models, models[-1]]), data.train.labels)
        for number, ((x, y), keys, settings) in enumerate(
            zip(stretch.batches, stretch.keys, numbers, strict=True)
        ):
            losses = step(x, y, keys[:size], settings)
            if number < CHECK_STEPS:
                more = [torch.cat([part, part[-1:]]) for part in (x, y, keys[:size])]
                wide = torch.cat([settings, settings[:, -1:]], 1)
                expected = flat(more[0], more[1], more[2], wide)[:size]
                compare("the loss", expected, losses, agreement=NEARNESS)
        for place, kind in enumerate(kinds):
            found = [value[place].numpy().tobytes() for value in step.state]
            if known.setdefault(kind, found) != found:
                raise CannotPackError("the last bits of its compiled step depend on the place")


def _arrangements(size: int) -> list[list[int]]:
    """Which of the two models stands where: each at every place, beside itself and the other."""
    if size == 1:
        return [[0], [1]]
    return [[(place + first) % 2 for place in range(size)] for first in (0, 1)] + [[0] * size]
