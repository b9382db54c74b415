"""A pack: trials of one point, trained together as one model on one core.

Each trial has its own weights, data order and evaluation samples, drawn from its own streams as the
eager trainer draws them; only the arithmetic of a step is shared.  A trial's bits do not depend on
the other trials of its pack.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from sweeper.train.curves import (
    CURVES,
    Trained,
    choose_samples,
    curve_steps,
    measure_declared,
)
from sweeper.train.data.samples import Data, HeldSet, Indices, PartSet, SampleSet, placed, shuffled
from sweeper.train.native.cache import replicas_of
from sweeper.train.packs.evaluation import CHUNK, LossAndPerformance, PackEvaluation, gather
from sweeper.train.packs.step import FlatStep, NativeStep, PackStep, numbers_of
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.recipe import Recipe
from sweeper.train.streams import Streams, fork_rng
from sweeper.train.tuning.schedule import cycle_rates
from sweeper.train.tuning.trials import COMPILED, PACKED, Trial, Trials
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.random import step_keys
from sweeper.train.vectorize.trace import Trace, held, record, trained

LEAST_REPLICAS = 2
"""A pack of one is padded to two: torch multiplies a single matrix by another function."""

MEMORY_SHARE = 0.25
"""Largest share that a pack may take of the memory available per core."""

Row = TypeVar("Row")

_KEYS = 256
"""Steps whose random keys are made at once."""

AT_ONCE = 5_000_000
"""Numbers computed in a pack's step up to which a larger pack is faster; beyond, it is limited by
memory.  Measured, see `benchmarks/packing.py`."""

_LINE, _GATHERED = 64, 1 << 19
"""Bytes of a cache line, and of the batches gathered at once."""

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


def keys_of(
    seeds: Sequence[Streams], trace: Trace, steps: int, least: int = LEAST_REPLICAS
) -> Iterator[Tensor]:
    """The random keys of each step, shape (replicas,)."""
    own = padded([streams.key for streams in seeds], least)
    if not trace.draws:
        yield from itertools.repeat(torch.zeros(len(own), dtype=torch.int64), steps)
        return
    for first in range(0, steps, _KEYS):
        yield from step_keys(own, first, min(_KEYS, steps - first))


def least_of(trace: Trace, mode: str) -> int:
    """The least replicas of a pack; smaller packs are padded."""
    return replicas_of(trace) if mode == COMPILED else LEAST_REPLICAS


def make_step(
    mode: str,
    trace: Trace,
    recipe: Recipe,
    models: tuple[list[Tensor], list[Tensor]],
    labels: Tensor | None,
) -> PackStep:
    """The step of stacked models in an execution mode; `labels` are all of the data's, if known.

    Raises:
        CannotPackError: an operation or an option has no rule.
    """
    if mode == COMPILED:
        return NativeStep(trace, recipe, models)
    return FlatStep(trace, recipe, models, labels)


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


def train_pack(
    problem: Problem,
    data: Data,
    members: Sequence[Member],
    trials: Trials,
    curve_samples: int,
    mode: str = PACKED,
) -> Iterator[tuple[Member, Trained]]:
    """Train the trials together; yield each in order, with its results.

    Their settings may differ in rates only.
    """
    trace, trial = members[0].trace, trials.first
    least = least_of(trace, mode)
    recipe = problem.recipe(members[0].model, members[0].params)
    models = stack_members(members, least)
    step = make_step(mode, trace, recipe, models, data.train.labels)
    evaluation = evaluation_of(problem, members[0])
    parts = [data.of_trial(member.streams.number) for member in members]
    wanted = _prepare_curves(members, parts, trial, curve_samples)
    place_of = {int(number): place for place, number in enumerate(wanted)}
    batches = _batches(members, data, parts, trial, least)
    keys = keys_of([member.streams for member in members], trace, trial.steps, least)
    optimizer = find_optimizer(recipe)
    told = [trials.of(member.streams.number) for member in members]
    every = np.stack(padded([cycle_rates(one) for one in told], step.replicas), axis=1)
    numbers = numbers_of(optimizer, every, step.replicas, torch.float32)
    left = set(range(len(members)))
    for number, ((x, y), key, settings) in enumerate(zip(batches, keys, numbers, strict=False), 1):
        reached = step(x, y, key, settings).tolist()
        if not math.isfinite(sum(reached)):
            lost = [place for place in left if not math.isfinite(reached[place])]
            for place in [one for one in lost if not evaluation.judging.counts_nothing(y[one])]:
                # It stays in the pack, but what it computes from here on is not used.
                members[place].diverged = True
                members[place].take(step.state, place)
                left.remove(place)
            if not left:
                break
        if number in place_of:
            _note_curves(members, left, evaluation, step.state, data, place_of[number])
    yield from _finish(problem, members, evaluation, step.state, data, parts)


def evaluation_of(problem: Problem, member: Member) -> PackEvaluation:
    """The evaluation of a pack with this member."""
    return PackEvaluation(problem.measure(member.loss), member.model)


def _finish(
    problem: Problem,
    members: Sequence[Member],
    evaluation: PackEvaluation,
    state: Sequence[Tensor],
    data: Data,
    parts: Sequence[Data],
) -> Iterator[tuple[Member, Trained]]:
    sets = data.sets
    ended = all(member.diverged for member in members)
    found: dict[str, list[LossAndPerformance]] = {}
    for name, whole in () if ended else sets.items():
        own = [part.sets[name] for part in parts]
        chosen = [part.places for part in own if isinstance(part, PartSet)]
        found[name] = (
            _measure_own(evaluation, state, whole, chosen)
            if chosen
            else evaluation.measure(state, whole)
        )
    for place, member in enumerate(members):
        metrics: dict[str, float] = {}
        for name in sets:
            measured = (math.nan, 0.0) if member.diverged else found[name][place]
            metrics[f"loss_{name}"], metrics[f"perf_{name}"] = measured
        if not member.diverged:
            member.take(state, place)
        metrics |= measure_declared(
            problem.metrics, member.model, member.loss, parts[place], diverged=member.diverged
        )
        yield member, Trained(metrics, member.curves, member.full)


def _measure_own(
    evaluation: PackEvaluation,
    state: Sequence[Tensor],
    samples: SampleSet,
    chosen: Sequence[Indices],
) -> list[LossAndPerformance]:
    """(loss, performance) of each member on the samples chosen for it.

    Members are grouped by their number of samples, so that no bit depends on the others.
    """
    found: dict[int, LossAndPerformance] = {}
    for length in sorted({len(own) for own in chosen}):
        places = [place for place, own in enumerate(chosen) if len(own) == length]
        # The other places are filled with a copy of one of these.
        rows = [own if len(own) == length else chosen[places[0]] for own in chosen]
        measured = evaluation.measure(state, samples, padded(rows, len(state[0])))
        found |= {place: measured[place] for place in places}
    return [found[place] for place in range(len(chosen))]


def _prepare_curves(
    members: Sequence[Member], parts: Sequence[Data], trial: Trial, samples: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    wanted = curve_steps(trial.steps, samples)
    if len(wanted):
        for member, part in zip(members, parts, strict=True):
            chosen = choose_samples(part, member.streams, trial, len(wanted))
            member.chosen = {name: placed(part.sets[name], own) for name, own in chosen.items()}
            member.curves = {"step": wanted}
            member.curves |= {name: np.full(len(wanted), np.nan) for name in CURVES}
    return wanted


def _note_curves(
    members: Sequence[Member],
    left: set[int],
    evaluation: PackEvaluation,
    state: Sequence[Tensor],
    data: Data,
    point: int,
) -> None:
    for name, samples in (("train", data.train), ("val", data.val)):
        found = _measure_own(
            evaluation, state, samples, [member.chosen[name] for member in members]
        )
        for place in left:
            curves = members[place].curves
            curves[f"loss_{name}"][point], curves[f"perf_{name}"][point] = found[place]


def _batches(
    members: Sequence[Member],
    data: Data,
    parts: Sequence[Data],
    trial: Trial,
    least: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Stacked batches, each replica's samples in its own order."""
    samples = data.train
    generators = [member.streams.generator("order") for member in members]
    size = trial.batch_size
    for _ in range(trial.cycle_epochs * trial.cycles):
        orders = [
            placed(part.train, shuffled(len(part.train), size, generator))
            for part, generator in zip(parts, generators, strict=True)
        ]
        places = np.stack(padded(orders, least), axis=1)
        together = _steps_together(samples, places[0].size)
        for first in range(0, len(places), together):
            yield from zip(*gather(samples, places[first : first + together]), strict=True)


def _steps_together(samples: SampleSet, rows: int) -> int:
    """The number of steps whose batches, of `rows` rows each, are gathered at once.

    They must fit into a core's cache.  Each batch must begin at a cache line, as a tensor of its
    own would, so that its bits are the same; otherwise one step is gathered at a time.
    """
    if not isinstance(samples, HeldSet):
        return 1
    size = rows * samples.x[:1].nbytes
    return 1 if size % _LINE else max(1, _GATHERED // max(1, size))


def padded(rows: Sequence[Row], least: int = LEAST_REPLICAS) -> list[Row]:
    """One row per member, the last one repeated up to `least` rows."""
    return list(rows) + [rows[-1]] * (least - len(rows))
