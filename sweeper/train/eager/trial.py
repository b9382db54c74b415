"""Trains one trial eagerly, by ignite's engine and events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch import Tensor, nn

from sweeper.disk.files import make_folder
from sweeper.records import Params
from sweeper.signature import decode, without_aliases
from sweeper.train.data.samples import (
    Batch,
    Data,
    Indices,
    LoadedSet,
    PartSet,
    SampleSet,
    in_order,
    shuffled,
)
from sweeper.train.eager.training import Training
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.metrics import Measure, Tally, evaluating
from sweeper.train.problem.optimizer.optimizers import read_optimizer, set_rate
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.checkpoints import Checkpoints, Saved
from sweeper.train.replica.correctness import is_stored, packed_bits
from sweeper.train.replica.curves import (
    Trained,
    begin_curves,
    choose_samples,
    curve_steps,
    measure_declared,
)
from sweeper.train.replica.parents import Inheritance
from sweeper.train.replica.streams import RngFork, Streams
from sweeper.train.tuning.plans.range_plan import batches_per_epoch
from sweeper.train.tuning.schedule import cycle_rates
from sweeper.train.tuning.trials import Trial as Settings


@dataclass(frozen=True, slots=True)
class Trial:
    """The `trial` argument of a problem's `handlers(trainer, evaluator, trial)`."""

    number: int
    seed: int
    """For the user's own generators: differs between trials, the same whenever a trial is run."""
    params: Params
    folder: Path
    """The trial's own folder; it exists."""


class Epochs:
    """The batches that ignite iterates over: a new permutation each epoch."""

    def __init__(self, samples: SampleSet, batch_size: int, order: np.random.Generator) -> None:
        self.samples, self.batch_size, self.order = samples, batch_size, order

    def __len__(self) -> int:
        return batches_per_epoch(len(self.samples), self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.samples.batches(shuffled(len(self.samples), self.batch_size, self.order))


def train_trial(
    problem: Problem,
    data: Data,
    streams: Streams,
    params: str,
    told: Settings,
    curve_samples: int,
    folder: Path,
    checkpoints: Checkpoints | None = None,
    inherited: Inheritance | None = None,
) -> Trained:
    """Train a trial as planned; a loss that is not finite ends it, and counts as a result.

    `params` are the point's, encoded.  It goes on from the latest of its `checkpoints` that fits,
    or else begins from its parent.

    Raises:
        ParentError: the parent does not fit.
    """
    training, saved = _begin(problem, data, streams, params, told, checkpoints, inherited)
    model, loss, optimizer = training.model, training.loss, training.optimizer
    judging = problem.measure(loss)

    def step(engine: Engine, batch: Batch) -> float:
        x, y = batch
        optimizer.zero_grad()
        value: Tensor = loss(call_model(model, x), y)
        value.backward()  # type: ignore[no-untyped-call]
        problem.clipping.apply(optimizer)
        optimizer.step()
        reached = value.item()
        if not math.isfinite(reached):
            if judging.counts_nothing(y):
                return 0.0
            engine.terminate()
        return reached

    trainer = Engine(step)
    epochs = Epochs(data.train, told.batch_size, training.order)
    every = cycle_rates(told)

    def set_rates(engine: Engine) -> None:
        set_rate(
            optimizer, every[(engine.state.iteration - 1) % len(every)]
        )  # a handler may train longer

    trainer.add_event_handler(Events.ITERATION_STARTED, set_rates)
    evaluator = Evaluator(problem, model, judging)
    if saved is not None:
        evaluator.rng_fork.draws = saved.state[_DRAWS]
    curves = _record_curves(trainer, evaluator, data, streams, told, curve_samples, saved)
    if problem.handlers is not None:
        make_folder(folder)
        decoded = without_aliases(decode(params, problem.find))
        trial = Trial(streams.number, streams.trial_seed, decoded, folder)
        problem.handlers(trainer, evaluator.engine, trial)
    if checkpoints is not None:
        watched = _watched(data, checkpoints)
        name, before = _optimizer_name(problem, params), inherited.steps if inherited else 0

        def end() -> Inheritance:
            return training.inheritance(name, before + told.steps)

        _save_cycles(trainer, evaluator, training, watched, told, curves, checkpoints, end)
    model.train()
    diverged = _run(trainer, epochs, told, saved)
    metrics, correct = _measured(evaluator, data, diverged=diverged)
    arrays = {**curves, **correct} if is_stored(data, streams.number) else curves
    metrics |= measure_declared(problem.metrics, model, loss, data, diverged=diverged)
    own = isinstance(loss, nn.Module) and any(True for _ in loss.parameters())
    return Trained(metrics, arrays, training.full, loss if own else None)


def _begin(
    problem: Problem,
    data: Data,
    streams: Streams,
    params: str,
    told: Settings,
    checkpoints: Checkpoints | None,
    inherited: Inheritance | None,
) -> tuple[Training, Saved | None]:
    """A training at its start, where its parent ended, or where a checkpoint goes on."""
    saved = None if checkpoints is None else checkpoints.read()
    training = Training.make(problem, streams, params, told.lr_start)
    if saved is not None:
        if training.restore(saved.state, _watched(data, checkpoints)):
            return training, saved
        training = Training.make(problem, streams, params, told.lr_start)
    if inherited is not None:
        training.inherit(inherited, _optimizer_name(problem, params))
    return training, None


def _optimizer_name(problem: Problem, params: str) -> str:
    return read_optimizer(problem.optimizer(params)).name


def _watched(data: Data, checkpoints: Checkpoints | None) -> list[Any]:
    """The datasets, if they may change when samples are read from them."""
    if checkpoints is None or not checkpoints.watches_data:
        return []
    whole = [part.samples if isinstance(part, PartSet) else part for part in data.sets.values()]
    return [part.dataset for part in whole if isinstance(part, LoadedSet)]


def _save_cycles(
    trainer: Engine,
    evaluator: Evaluator,
    training: Training,
    watched: list[Any],
    told: Settings,
    curves: Mapping[str, Any],
    checkpoints: Checkpoints,
    end: Callable[[], Inheritance],
) -> None:
    """Save each cycle's end, where that is due; `end` gives what others begin from."""

    def save(engine: Engine) -> None:
        cycles = engine.state.epoch // told.cycle_epochs
        if checkpoints.is_due(cycles):
            state = training.state(watched) or {}
            if state:
                state[_DRAWS] = evaluator.rng_fork.draws
            inherited = end() if checkpoints.keeps_end and cycles == told.cycles else None
            if state or inherited:
                checkpoints.write(Saved(cycles, curves, state, inherited))

    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=told.cycle_epochs), save)


_DRAWS = "evaluation draws"


def _run(trainer: Engine, epochs: Epochs, told: Settings, saved: Saved | None) -> bool:
    """Train all epochs, or those after a checkpoint; return whether it diverged."""
    last = told.cycle_epochs * told.cycles
    if saved is not None:
        done = told.cycle_epochs * saved.cycles
        if done == last:
            return False
        trainer.load_state_dict({"epoch": done, "max_epochs": last, "epoch_length": len(epochs)})
    trainer.run(epochs, max_epochs=last)
    # A handler may end training early, which is no divergence.
    return not math.isfinite(trainer.state.output)  # type: ignore[arg-type]


def _measured(
    evaluator: Evaluator, data: Data, *, diverged: bool
) -> tuple[dict[str, float], dict[str, Any]]:
    """Loss and performance of every set by name, and which validation samples are right."""
    metrics: dict[str, float] = {}
    correct: dict[str, Any] = {}
    for name, samples in data.sets.items():
        with evaluator.judging.noting() as judged:
            measured = (math.nan, 0.0) if diverged else evaluator.measure(samples, name)
        metrics[f"loss_{name}"], metrics[f"perf_{name}"] = measured
        if name == "val":
            (correct,) = packed_bits(judged, 1, len(samples))
    return metrics, correct


class Evaluator:
    """Measures loss and performance through an ignite engine, so that handlers run."""

    def __init__(self, problem: Problem, model: nn.Module, judging: Measure) -> None:
        self._model, self.judging = model, judging
        self._tally = Tally(self.judging, 0)
        # Handlers may draw random numbers.
        self.rng_fork = RngFork(every=problem.handlers is not None)
        self.engine = Engine(self._step)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def measure(
        self, samples: SampleSet, name: str, chosen: Indices | None = None
    ) -> tuple[float, float]:
        """(loss, performance) on all samples, or on the chosen ones, in evaluation mode.

        Measuring does not affect training.
        """
        count = len(samples) if chosen is None else len(chosen)
        self._tally = Tally(self.judging, count)
        places = in_order(count)
        indices = list(places) if chosen is None else [chosen[place] for place in places]
        self.engine.state.dataset = name  # type: ignore[attr-defined]
        with self.rng_fork(), evaluating(self._model, self.judging.loss):
            self.engine.run(samples.batches(indices), max_epochs=1, epoch_length=len(indices))
            return self._tally.result()

    def _step(self, _: Engine, batch: Batch) -> Tensor:
        import torch

        x, y = batch
        with torch.no_grad():
            output: Tensor = call_model(self._model, x)
            self._tally.add(output, y)
        return output

    def _report(self, engine: Engine) -> None:
        loss, performance = self._tally.result()
        engine.state.metrics = {"loss": loss, "performance": performance}


def _record_curves(
    trainer: Engine,
    evaluator: Evaluator,
    data: Data,
    streams: Streams,
    told: Settings,
    samples: int,
    saved: Saved | None,
) -> dict[str, Any]:
    """Arrays that fill while the trainer runs; what a diverged trial does not reach is NaN."""
    wanted = curve_steps(told, samples)
    if not len(wanted):
        return {}
    chosen = choose_samples(data, streams, told, samples)
    curves = begin_curves(wanted, saved)
    place_of = {int(step): place for place, step in enumerate(wanted)}

    def record(engine: Engine) -> None:
        place = place_of[engine.state.iteration]
        if math.isfinite(engine.state.output):  # type: ignore[arg-type]
            for name, part in (("train", data.train), ("val", data.val)):
                measured = evaluator.measure(part, name, chosen[name])
                curves[f"loss_{name}"][place], curves[f"perf_{name}"][place] = measured

    due = Events.ITERATION_COMPLETED(event_filter=lambda _, event: event in place_of)
    trainer.add_event_handler(due, record)
    return curves
