"""Whether a replica's results are bit-identical in every pack and at every place in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sweeper.train.data.samples import Data, Indices, SampleSet, in_order, placed
from sweeper.train.mode.agreement import compare
from sweeper.train.mode.stretch import CHECK_STEPS, Stretch, batches_of, rates_of
from sweeper.train.native.cache import replicas_of
from sweeper.train.packs.evaluation import CHUNK, gather
from sweeper.train.packs.members import Member, gaining, stack_members
from sweeper.train.packs.step import NativeStep, PackedStep, numbers_of
from sweeper.train.packs.trial import evaluation_of
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.curves import choose_samples
from sweeper.train.tuning.held_out import held_out
from sweeper.train.tuning.trials import Trial
from sweeper.train.vectorize.lowering import StackedFunction
from sweeper.train.vectorize.optimizers import find_optimizer, make_stacked
from sweeper.train.vectorize.trace import CannotPackError

PACKS = (1, 2, 3, 8, 32)
"""Pack sizes between which a replica's bits are compared."""

NATIVE_STEPS = 32
"""Steps after which the results of a native step are compared bit by bit."""
NEARNESS = 1e-3
"""Relative error of the first losses that rounding in single precision explains."""


def _train_stretch(
    recipe: Recipe,
    parameters: list[Tensor],
    buffers: list[Tensor],
    step: StackedFunction,
    done: Stretch,
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses of every step, and the buffers after the last; parameters are changed in place."""
    update = make_stacked(recipe, parameters)
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
    step: StackedFunction,
    data: Data,
    trial: Trial,
    curve_samples: int,
) -> None:
    """Check that a replica's results are bit-identical in every pack and at every place in it.

    Raises:
        CannotPackError: they are not.
    """
    source = batches_of(data, trial.batch_size)
    batches = [next(source) for _ in range(CHECK_STEPS + 1)]
    rates = rates_of(trial)
    evaluation = evaluation_of(problem, members[0])
    recipe = problem.recipe(members[0].model, members[0].params)
    own = list(_own(data, members, trial, curve_samples))
    known: dict[tuple[str, int], list[bytes]] = {}

    def check(what: str, kinds: list[int], values: Sequence[Tensor]) -> None:
        for place, kind in enumerate(kinds):
            found = [value[place].numpy().tobytes() for value in values]
            if known.setdefault((what, kind), found) != found:
                raise CannotPackError(
                    f"a trial's results would depend on the size of its pack or its place there "
                    f"({what}), as torch computes them on this processor"
                )

    for count in [count for count in PACKS if count <= gaining(members[0].trace)]:
        # Which of the two models stands at each place: reversed in every other pack.
        kinds = [(place + count) % 2 for place in range(max(2, count))]
        if count == 1:
            kinds = [0, 0]
        parameters, buffers = stack_members([members[kind] for kind in kinds])
        stretch = Stretch.of(members, kinds, batches, rates)
        _, buffers = _train_stretch(recipe, parameters, buffers, step, stretch)
        check("weights", kinds, [*parameters, *buffers])
        for what, x, y in _evaluated(data, kinds, own):
            losses, outputs = evaluation.run([*parameters, *buffers], x, y)
            check(what, kinds, [losses, *outputs])


@dataclass(frozen=True, slots=True)
class _Own:
    """The samples on which each of two members is measured."""

    what: str
    samples: SampleSet
    chosen: Sequence[Indices]
    """The same number for each member."""


def _own(data: Data, members: list[Member], trial: Trial, curve_samples: int) -> Iterator[_Own]:
    """Samples that differ between members: their parts of a split set, and those of curves."""
    whole = {"train": data.train, "val": data.val}
    pairs = [(0, 1)] if data.splits is None else data.splits.pairs
    for pair in pairs:
        parts = [data.of_trial(number) for number in pair]
        if data.splits is not None:
            for name, samples in whole.items():
                every = [part.sets[name] for part in parts]
                chosen = [placed(part, np.arange(len(part))) for part in every]
                yield _Own(name, samples, chosen)
        if not curve_samples:
            continue
        curves = [
            choose_samples(part, member.streams, trial, curve_samples)
            for part, member in zip(parts, members, strict=True)
        ]
        for name, samples in whole.items():
            chosen = [
                placed(part.sets[name], one[name]) for part, one in zip(parts, curves, strict=True)
            ]
            yield _Own(f"a curve of {name}", samples, chosen)
    if trial.schedule is not None:  # then probes are packed too
        held = [held_out(data, member.streams)[1] for member in members]
        yield _Own("the held-out part of train", data.train, held)


def _evaluated(
    data: Data, kinds: list[int], own: Sequence[_Own]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """A stacked batch of every size that packs evaluate, with its name.

    The last chunk of a set may have a size of its own.
    """
    done: set[int] = set()
    for name, samples in data.sets.items():
        if data.splits is not None:
            break
        for chunk in in_order(len(samples), CHUNK):
            if len(chunk) not in done:
                done.add(len(chunk))
                ((x, y),) = samples.batches([chunk])
                stacked = [value.expand(len(kinds), *value.shape) for value in (x, y)]
                yield f"{len(chunk)} samples of {name}", stacked[0], stacked[1]
    done = set()
    for each in own:
        places = np.stack([each.chosen[kind] for kind in kinds])
        for chunk in in_order(places.shape[1], CHUNK):
            if len(chunk) not in done:
                done.add(len(chunk))
                x, y = gather(each.samples, places[:, chunk])
                yield f"{len(chunk)} samples of {each.what}", x, y


def check_native(members: list[Member], recipe: Recipe, data: Data, trial: Trial) -> None:
    """Check that the native step agrees with the packed one and is bit-identical at every place.

    Raises:
        CannotPackError: it is not.
        NotCompiledError: it cannot be compiled here.
    """
    trace = members[0].trace
    size = replicas_of(trace)
    source = batches_of(data, trial.batch_size)
    batches = [next(source) for _ in range(NATIVE_STEPS + 1)]
    rates = [float(r) for r in np.linspace(trial.lr_start, trial.lr_end, NATIVE_STEPS)]
    numbers = list(numbers_of(find_optimizer(recipe), rates, size, torch.float32))
    known: dict[int, list[bytes]] = {}
    for kinds in _arrangements(size):
        stretch = Stretch.of(members, kinds, batches, rates)
        pack = [members[kind] for kind in kinds]
        step = NativeStep(trace, recipe, stack_members(pack, size))
        packed = PackedStep(trace, recipe, stack_members([*pack, pack[-1]]), data.train.labels)
        for number, ((x, y), keys, settings) in enumerate(
            zip(stretch.batches, stretch.keys, numbers, strict=True)
        ):
            losses = step(x, y, keys[:size], settings)
            if number < CHECK_STEPS:
                more = [torch.cat([part, part[-1:]]) for part in (x, y, keys[:size])]
                wide = torch.cat([settings, settings[:, -1:]], 1)
                expected = packed(more[0], more[1], more[2], wide)[:size]
                compare("the loss", expected, losses, agreement=NEARNESS)
        for place, kind in enumerate(kinds):
            found = [value[place].numpy().tobytes() for value in step.state]
            if known.setdefault(kind, found) != found:
                raise CannotPackError(
                    "results of its compiled step would depend on the place in the pack"
                )


def _arrangements(size: int) -> list[list[int]]:
    """Which of two models stands where: each at every place, beside itself and the other."""
    if size == 1:
        return [[0], [1]]
    return [[(place + first) % 2 for place in range(size)] for first in (0, 1)] + [[0] * size]
