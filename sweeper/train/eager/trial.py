"""Trains one trial eagerly, by ignite's engine and events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch import Tensor, nn

from sweeper.files import make_folder
from sweeper.records import Params
from sweeper.signature import decode, without_aliases
from sweeper.train.curves import (
    CURVES,
    Trained,
    choose_samples,
    curve_steps,
    measure_declared,
)
from sweeper.train.data.samples import Batch, Data, Indices, SampleSet, in_order, shuffled
from sweeper.train.problem.inputs import call_model
from sweeper.train.problem.metrics import Measure, Tally, evaluating
from sweeper.train.problem.optimizers import make_optimizer, set_rate
from sweeper.train.problem.problem import Problem
from sweeper.train.streams import RngFork, Streams, fork_rng
from sweeper.train.tuning.range_plan import batches_per_epoch
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
) -> Trained:
    """Train a trial as planned; a loss that is not finite ends it, and counts as a result.

    `params` are the point's, encoded.
    """
    streams.seed_globals("init")
    full, model = problem.make_model(params)
    loss = problem.make_loss(params)
    optimizer = make_optimizer(problem.optimizer(params), model, told.lr_start, loss)
    judging = problem.measure(loss)
    streams.seed_globals("inside")

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
    epochs = Epochs(data.train, told.batch_size, streams.generator("order"))
    every = cycle_rates(told)

    def set_rates(engine: Engine) -> None:
        set_rate(
            optimizer, every[(engine.state.iteration - 1) % len(every)]
        )  # a handler may train longer

    trainer.add_event_handler(Events.ITERATION_STARTED, set_rates)
    evaluator = Evaluator(problem, model, judging)
    curves = _record_curves(trainer, evaluator, data, streams, told, curve_samples)
    if problem.handlers is not None:
        make_folder(folder)
        decoded = without_aliases(decode(params, problem.find))
        trial = Trial(streams.number, streams.trial_seed, decoded, folder)
        problem.handlers(trainer, evaluator.engine, trial)
    model.train()
    trainer.run(epochs, max_epochs=told.cycle_epochs * told.cycles)
    # A handler may end training early, which is no divergence.
    diverged = not math.isfinite(trainer.state.output)  # type: ignore[arg-type]
    metrics: dict[str, float] = {}
    for name, samples in data.sets.items():
        measured = (math.nan, 0.0) if diverged else evaluator.measure(samples, name)
        metrics[f"loss_{name}"], metrics[f"perf_{name}"] = measured
    metrics |= measure_declared(problem.metrics, model, loss, data, diverged=diverged)
    own = isinstance(loss, nn.Module) and any(True for _ in loss.parameters())
    return Trained(metrics, curves, full, loss if own else None)


class Evaluator:
    """Measures loss and performance through an ignite engine, so that handlers run."""

    def __init__(self, problem: Problem, model: nn.Module, judging: Measure) -> None:
        self._model, self._judging = model, judging
        self._tally = Tally(self._judging, 0)
        # Handlers may draw random numbers.
        self._rng_fork = RngFork() if problem.handlers is None else fork_rng
        self.engine = Engine(self._step)
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def measure(
        self, samples: SampleSet, name: str, chosen: Indices | None = None
    ) -> tuple[float, float]:
        """(loss, performance) on all samples, or on the chosen ones, in evaluation mode.

        Measuring does not affect training.
        """
        count = len(samples) if chosen is None else len(chosen)
        self._tally = Tally(self._judging, count)
        places = in_order(count)
        indices = list(places) if chosen is None else [chosen[place] for place in places]
        self.engine.state.dataset = name  # type: ignore[attr-defined]
        with self._rng_fork(), evaluating(self._model, self._judging.loss):
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
) -> dict[str, Any]:
    """Arrays that fill while the trainer runs; what a diverged trial does not reach is NaN."""
    wanted = curve_steps(told.steps, samples)
    if not len(wanted):
        return {}
    chosen = choose_samples(data, streams, told, len(wanted))
    curves: dict[str, Any] = {name: np.full(len(wanted), np.nan) for name in CURVES}
    place_of = {int(step): place for place, step in enumerate(wanted)}

    def record(engine: Engine) -> None:
        place = place_of[engine.state.iteration]
        if math.isfinite(engine.state.output):  # type: ignore[arg-type]
            for name, part in (("train", data.train), ("val", data.val)):
                measured = evaluator.measure(part, name, chosen[name])
                curves[f"loss_{name}"][place], curves[f"perf_{name}"][place] = measured

    due = Events.ITERATION_COMPLETED(event_filter=lambda _, event: event in place_of)
    trainer.add_event_handler(due, record)
    return {"step": wanted, **curves}
