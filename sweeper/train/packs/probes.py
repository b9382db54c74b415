"""Probes trained together: rates, initialisations and tunings of one point as one batched model.

As with trials, a probe's bits do not depend on the other probes of its pack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from sweeper.train.data.samples import Data, Indices, endless
from sweeper.train.packs.evaluation import PackEvaluation, gather
from sweeper.train.packs.loop import Pack
from sweeper.train.packs.members import Member, most_members, padded, shares
from sweeper.train.problem.measure.metrics import INVERSE_LOSS
from sweeper.train.problem.problem import Problem
from sweeper.train.tuning.held_out import held_out
from sweeper.train.tuning.ladder import Probe
from sweeper.train.tuning.option_round import OptionRound, options_key
from sweeper.train.tuning.schedule import cycle_ends, rates
from sweeper.train.tuning.stages import LadderRound
from sweeper.train.tuning.trials import Trials
from sweeper.train.tuning.tried import Judged
from sweeper.train.vectorize.optimizers import OF_EACH
from sweeper.train.worker.task import Task

DECAY = "weight_decay"
"""The option that each probe of a pack may have its own value of."""

Make = Callable[[int], Member]
"""A member of a pack, by the number of its streams."""


def by_settings(task: Task, told: Trials) -> list[Task]:
    """The task's trials, split so that the settings within a task differ in nothing but rates."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number in task.numbers:
        trial, mode = told.of(number), told.of(number).mode
        key = (trial.batch_size, mode.kind, mode.trace, mode.toolchain, options_key(trial.options))
        groups.setdefault(key, []).append(number)
    return [
        replace(
            task,
            numbers=tuple(some),
            told=replace(told, first=told.of(some[0])),
            mode=told.of(some[0]).mode,
            options=told.of(some[0]).options or {},
        )
        for some in groups.values()
    ]


def probes_by_settings(task: Task, told: LadderRound | OptionRound) -> list[Task]:
    """The task's probes, split so that those of a task differ in rates and weight decay alone."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    probes = told.probes()
    shared = [{k: v for k, v in one.options.items() if k != DECAY} for one in probes]
    for number in task.numbers:
        key = (probes[number].batch_size, options_key(shared[number]))
        groups.setdefault(key, []).append(number)
    return [
        replace(
            task,
            numbers=tuple(some),
            mode=told.mode_of(probes[some[0]]),
            options=shared[some[0]],
        )
        for some in groups.values()
    ]


def train_probes(
    problem: Problem, data: Data, probes: Sequence[Probe], mode: str, make: Make
) -> Iterator[tuple[int, Judged]]:
    """Train probes of one batch size, length and optimiser, but for its rate and weight decay.

    Yields each probe's number and what its held-out samples say.

    Raises:
        CannotPackError: their step cannot be recorded.
    """
    # Probes of the same streams start from the same weights, so they share a member.
    made = {stream: make(stream) for stream in dict.fromkeys(one.stream for one in probes)}
    most = most_members(made[probes[0].stream], mode)
    for share in shares(probes, most):
        found = _train(problem, data, share, [made[one.stream] for one in share], mode)
        yield from zip([one.number for one in share], found, strict=True)


def _train(
    problem: Problem, data: Data, probes: Sequence[Probe], members: Sequence[Member], mode: str
) -> list[Judged]:
    """What held-out samples say of a pack's probes."""
    steps, cycles = probes[0].steps, probes[0].cycles
    parts = {member.streams.number: held_out(data, member.streams) for member in members}
    kept, held = zip(*(parts[member.streams.number] for member in members), strict=True)
    every = [rates(one.schedule, one.high, steps, cycles, one.warmup) for one in probes]
    decays = [one.options[DECAY] for one in probes if DECAY in one.options]
    if decays:
        problem = problem.with_options({**problem.options, DECAY: OF_EACH})
    pack = Pack.make(problem, data, members, every, mode, decays=decays or None)
    judging = problem.measure(members[0].loss)
    replicas = pack.step.replicas
    batches = _batches(data, members, kept, probes[0].batch_size, steps, replicas)
    evaluation = PackEvaluation(judging, members[0].model)
    ends = cycle_ends(steps, cycles)
    reached = [[(math.inf, 0.0)] * len(ends) for _ in probes]
    for number, _ in pack.run(batches, judging):
        if number in ends and pack.left:
            found = evaluation.measure(pack.step.state, data.train, padded(held, replicas))
            for place in pack.left:
                reached[place][ends.index(number)] = found[place]
    return [Judged.make(one, performs=judging.style != INVERSE_LOSS) for one in reached]


def _batches(
    data: Data,
    members: Sequence[Member],
    kept: Sequence[Indices],
    batch_size: int,
    steps: int,
    least: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Stacked batches, each replica's samples in its own order."""
    orders = [
        part[np.stack(list(endless(len(part), [batch_size] * steps, generator)))]
        for part, generator in zip(
            kept, [member.streams.generator("order") for member in members], strict=True
        )
    ]
    for places in np.stack(padded(orders, least), axis=1):
        yield gather(data.train, places)
