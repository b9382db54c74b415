"""A pack: trials of one point, trained together as one model on one core.

Each trial has its own weights, data order and evaluation samples, drawn from its own streams as the
eager trainer draws them; only the arithmetic of a step is shared.  A trial's bits do not depend on
the other trials of its pack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.records import PACKED
from sweeper.train.data.samples import Data, HeldSet, Indices, PartSet, SampleSet, placed, shuffled
from sweeper.train.packs.evaluation import LossAndPerformance, PackEvaluation, gather
from sweeper.train.packs.loop import Pack
from sweeper.train.packs.members import Member, padded
from sweeper.train.packs.step import TrainingStep
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.checkpoints import Saved, written_generator
from sweeper.train.replica.correctness import is_stored, packed_bits
from sweeper.train.replica.curves import (
    Steps,
    Trained,
    begin_curves,
    choose_samples,
    curve_steps,
    measure_declared,
)
from sweeper.train.tuning.schedule import cycle_rates
from sweeper.train.tuning.trials import Trial, Trials

_LINE, _GATHERED = 64, 1 << 19
"""Bytes of a cache line, and of the batches gathered at once."""


def train_pack(
    problem: Problem,
    data: Data,
    members: Sequence[Member],
    trials: Trials,
    curve_samples: int,
    mode: str = PACKED,
) -> Iterator[tuple[Member, Trained]]:
    """Train the trials together; yield each in order, with its results.

    Their settings may differ in rates only, and all go on from the same cycle.
    """
    trial, begins = trials.first, members[0].begins
    rates = [cycle_rates(trials.of(member.streams.number)) for member in members]
    pack = Pack.make(problem, data, members, rates, mode, begins * trial.cycle_steps)
    _restore(pack.step, members)
    evaluation = evaluation_of(problem, members[0])
    parts = [data.of_trial(member.split_number) for member in members]
    wanted = _prepare_curves(members, parts, trial, curve_samples)
    place_of = {int(number): place for place, number in enumerate(wanted)}
    orders = [member.order for member in members]
    epochs = trial.cycle_epochs * (trial.cycles - begins)
    batches = _batches(orders, data, parts, trial.batch_size, epochs, pack.step.replicas)
    for number, lost in pack.run(batches, evaluation.judging):
        for place in lost:
            # It stays in the pack, but what it computes from here on is not used.
            members[place].diverged = True
            members[place].take(pack.step.state, place)
        if number in place_of and pack.left:
            _note_curves(members, pack.left, evaluation, pack.step.state, data, place_of[number])
        if number % trial.cycle_steps == 0:
            _save(pack, members, orders, number // trial.cycle_steps, problem, trial)
    yield from _finish(problem, members, evaluation, pack.step.state, data, parts)


def _restore(step: TrainingStep, members: Sequence[Member]) -> None:
    """Set the optimiser's states to those with which the members begin."""
    rows = [member.states for member in members if member.states is not None]
    if not rows:
        return
    for own, column in zip(step.optimizer, zip(*rows, strict=True), strict=True):
        own.copy_(torch.stack(padded(column, len(own))))
    for member in members:
        member.states = None  # to free memory


def _save(
    pack: Pack,
    members: Sequence[Member],
    orders: Sequence[np.random.Generator],
    cycles: int,
    problem: Problem,
    trial: Trial,
) -> None:
    """Save the members that have not diverged, where that is due."""
    step = pack.step
    for place in sorted(pack.left):
        member = members[place]
        if member.checkpoints is not None and member.checkpoints.is_due(cycles):
            state = {
                "tensors": [value[place].clone() for value in step.state],
                "optimizer": [value[place].clone() for value in step.optimizer],
                "order": written_generator(orders[place]),
            }
            inherited = None
            if member.checkpoints.keeps_end and cycles == trial.cycles:
                recipe = problem.recipe(member.model, member.params)
                inherited = member.inheritance(recipe, state, trial.steps)
            member.checkpoints.write(Saved(cycles, member.curves, state, inherited))


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
    correct: list[dict[str, Any]] = []
    for name, whole in () if ended else sets.items():
        own = [part.sets[name] for part in parts]
        chosen = [part.places for part in own if isinstance(part, PartSet)]
        with evaluation.judging.noting() as judged:
            found[name] = (
                _measure_own(evaluation, state, whole, chosen)
                if chosen
                else evaluation.measure(state, whole)
            )
        if name == "val":
            correct = packed_bits(judged, len(state[0]), len(whole))
    for place, member in enumerate(members):
        metrics: dict[str, float] = {}
        for name in sets:
            measured = (math.nan, 0.0) if member.diverged else found[name][place]
            metrics[f"loss_{name}"], metrics[f"perf_{name}"] = measured
        arrays = member.curves
        if not member.diverged:
            member.take(state, place)
            if is_stored(parts[place], member.streams.number):
                arrays = {**arrays, **correct[place]}
        metrics |= measure_declared(
            problem.metrics, member.model, member.loss, parts[place], diverged=member.diverged
        )
        yield member, Trained(metrics, arrays, member.full)


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
) -> Steps:
    wanted = curve_steps(trial, samples)
    if len(wanted):
        for member, part in zip(members, parts, strict=True):
            chosen = choose_samples(part, member.streams, trial, samples)
            member.chosen = {name: placed(part.sets[name], own) for name, own in chosen.items()}
            member.curves = begin_curves(wanted, member.saved)
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
    generators: Sequence[np.random.Generator],
    data: Data,
    parts: Sequence[Data],
    size: int,
    epochs: int,
    least: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Stacked batches, each replica's samples in its own order."""
    samples = data.train
    for _ in range(epochs):
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
