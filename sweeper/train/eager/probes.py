"""Eager probes (short trainings that serve tuning), and the check of the first point."""

from __future__ import annotations

import contextlib
import math
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.errors import ProblemError
from sweeper.train.data.samples import Batch, Data, Indices, endless, in_order, shuffled
from sweeper.train.eager.soundness import has_sum, is_broadcast, notes_of
from sweeper.train.problem.behaviour.governed import check_governed
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.metrics import (
    INVERSE_LOSS,
    Measure,
    Tally,
    evaluating,
    inverse_loss,
    measured,
    measured_loss,
)
from sweeper.train.problem.optimizer.optimizers import make_optimizer, set_rate
from sweeper.train.problem.optimizer.recipe import Clipping
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.curves import measure_declared
from sweeper.train.replica.streams import RngFork, Streams
from sweeper.train.tuning import ladder
from sweeper.train.tuning.held_out import held_out
from sweeper.train.tuning.plans.range_plan import batches_per_epoch
from sweeper.train.tuning.ranges import batch_sizes, learning_rates
from sweeper.train.tuning.schedule import Schedule, cycle_ends, rates
from sweeper.train.tuning.stages import BatchChoice, BatchRange, Check, LrRange
from sweeper.train.tuning.tried import Judged

EVALUATED = 192
"""Performance after each step of a range run is measured on at most this many samples."""

_ANY_RATE = 1e-3
"""The rate that an optimiser is made with if every step sets its own; some reject zero."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A freshly initialised model in training, and its random streams."""

    data: Data
    model: nn.Module
    judging: Measure
    """The measure, with the loss that the model is trained by."""
    optimizer: torch.optim.Optimizer
    order: np.random.Generator
    evaluation: np.random.Generator
    clipping: Clipping
    fork_rng: RngFork = field(default_factory=RngFork)

    @classmethod
    def make(cls, problem: Problem, data: Data, streams: Streams, encoded: str) -> Probe:
        """Initialised from the streams of its replica."""
        streams.seed_globals("init")
        _, model = problem.make_model(encoded)
        loss = problem.make_loss(encoded)
        optimizer = make_optimizer(problem.optimizer(encoded), model, _ANY_RATE, loss)
        streams.seed_globals("inside")
        model.train()
        order, evaluation = streams.generator("order"), streams.generator("evaluation")
        judging, clipping = problem.measure(loss), problem.clipping
        return cls(data, model, judging, optimizer, order, evaluation, clipping)

    @property
    def loss(self) -> Any:
        """The loss that the model is trained by."""
        return self.judging.loss

    def step(self, batch: Batch, rate: float) -> bool:
        """Make one training step; return whether the loss was finite."""
        x, y = batch
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        value: Tensor = self.loss(call_model(self.model, x), y)
        value.backward()  # type: ignore[no-untyped-call]
        self.clipping.apply(self.optimizer)
        self.optimizer.step()
        return math.isfinite(value.item()) or self.judging.counts_nothing(y)

    def warm_up(self, told: LrRange | BatchRange) -> None:
        """A few steps at a tiny rate, for statistics that a model gathers about its inputs."""
        sizes = [told.warmup_batch] * told.warmup_steps
        for batch in self.batches(endless(len(self.data.train), sizes, self.order)):
            self.step(batch, told.warmup_lr)

    def batches(self, indices: Iterable[Indices]) -> Iterable[Batch]:
        """Training batches of these index arrays."""
        return self.data.train.batches(list(indices))

    def performance(self) -> float:
        """Inverse-loss performance on random training samples."""
        samples = len(self.data.train)
        chosen = self.evaluation.choice(samples, min(samples, EVALUATED), replace=False)
        # In order, so that a model that does not learn gives an exactly constant curve.
        return self._performance([np.sort(chosen)])

    def final_performance(self) -> float:
        """Inverse-loss performance on the whole training set."""
        return self._performance(list(in_order(len(self.data.train))))

    def measure(self, samples: Indices) -> tuple[float, float]:
        """Loss and performance on these training samples."""
        batches = self.batches(samples[place] for place in in_order(len(samples)))
        with self.fork_rng():
            return measured(self.model, self.judging, len(samples), batches)

    def _performance(self, indices: list[Indices]) -> float:
        with self.fork_rng():
            count = sum(map(len, indices))
            batches = self.data.train.batches(indices)
            return inverse_loss(measured_loss(self.model, self.judging, count, batches))

    def run(self, sizes: np.ndarray[Any, Any], rates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Performance after each step, shape (steps,); it ends early if the loss is not finite."""
        reached: list[float] = []
        indices = endless(len(self.data.train), map(int, sizes), self.order)
        for batch, rate in zip(self.batches(indices), rates, strict=True):
            if not self.step(batch, float(rate)):
                break
            reached.append(self.performance())
        return np.array(reached)


ProbeResult = tuple[dict[str, float], dict[str, Any]]
"""Metrics, and arrays."""


def run_lr_range(probe: Probe, told: LrRange) -> ProbeResult:
    """Performance while the learning rate rises."""
    probe.warm_up(told)
    rates = learning_rates(told.lr_start, told.lr_end, told.steps, told.spacing)
    reached = probe.run(np.full(len(rates), told.batch_size), rates)
    return {}, {"perf": reached}


def run_batch_range(probe: Probe, told: BatchRange) -> ProbeResult:
    """Performance while the batch grows and the learning rate grows in proportion."""
    probe.warm_up(told)
    sizes = batch_sizes(told.batch_start, told.batch_end, told.samples)
    middle = (told.lr_min + told.lr_max) / 2
    reached = probe.run(sizes, middle / told.lr_batch * sizes)
    return {}, {"perf": reached}


def run_batch_choice(probe: Probe, told: BatchChoice, number: int) -> ProbeResult:
    """The final performance of one cycle at one of the batch sizes; 0 if it diverged."""
    batch_size = told.sizes[number // told.inits]
    samples = len(probe.data.train)
    epochs = told.cycle_epochs
    steps = epochs * batches_per_epoch(samples, batch_size)
    scale = batch_size / told.lr_batch
    every = Schedule("triangular", told.lr_min * scale, told.lr_max * scale, steps).rates()
    rates = iter(every)
    for _ in range(epochs):
        for batch in probe.batches(shuffled(samples, batch_size, probe.order)):
            if not probe.step(batch, float(next(rates))):
                return {"perf": 0.0}, {}
    return {"perf": probe.final_performance()}, {}


def run_ladder(made: Probe, probe: ladder.Probe, streams: Streams) -> Judged:
    """What held-out samples say after each cycle."""
    kept, held = held_out(made.data, streams)
    every = rates(probe.schedule, probe.high, probe.steps, probe.cycles, probe.warmup)
    ends = cycle_ends(probe.steps, probe.cycles)
    reached = [(math.inf, 0.0)] * len(ends)
    sizes = [probe.batch_size] * probe.steps
    places = (kept[chosen] for chosen in endless(len(kept), sizes, made.order))
    for number, (batch, rate) in enumerate(zip(made.batches(places), every, strict=True), 1):
        if not made.step(batch, float(rate)):
            break
        if number in ends:
            reached[ends.index(number)] = made.measure(held)
    return Judged.make(reached, performs=made.judging.style != INVERSE_LOSS)


def run_check(
    problem: Problem, data: Data, streams: Streams, params: str, told: Check
) -> list[str]:
    """Check that model, data and loss work together on a first batch; return notes.

    Raises:
        ProblemError: they do not; the message names the call, its result and what is expected.
    """
    called = problem.called("model", params)
    problem.check_optimizer(params)
    x, y = next(iter(data.train.batches(in_order(len(data.train), told.batch_size))))
    batch = f"the first batch (x {_shape(x)}, y {_shape(y)})"
    streams.seed_globals("init")
    with _explained(problem, called, "a torch.nn.Module"):
        _, model = problem.make_model(params)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise problem.fault(called, "a model without parameters", "something to train")
    loss = problem.make_loss(params)
    model.train()
    with _explained(problem, f"{called} on {batch}", "an output for each sample"):
        output = call_model(model, x)
    shapes = f"output {_shape(output)} and y {_shape(y)}"
    with _explained(problem, f"loss of {shapes}", "a number"):
        value = _unbroadcast(loss, output, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"of shape {_shape(value)}"
        raise problem.fault("loss", found, "one number (reduced by mean)")
    judging = problem.measure(loss)
    if not math.isfinite(value.item()) and not judging.counts_nothing(y):
        raise problem.fault(f"loss of {batch}", str(value.item()), "a finite number")
    if is_broadcast(loss, output, y):
        raise problem.fault(
            f"loss of {shapes}",
            "broadcast, so that outputs are paired with targets of other samples",
            "targets of the same shape as the output",
        )
    if has_sum(loss, output, y):
        raise problem.fault(
            "loss",
            "a sum over samples, as a whole or in part: it grows with the batch",
            "a loss reduced by mean",
        )
    style = problem.accuracy_style
    fitting = "shapes that it can compare"
    # The output may differ in evaluation mode, as for models with auxiliary outputs.
    with evaluating(model, loss), torch.no_grad():
        with _explained(problem, f"{called} on {batch}, evaluated,", "outputs"):
            evaluated = call_model(model, x)
        shapes = f"output {_shape(evaluated)} and y {_shape(y)}"
        with _explained(problem, f"accuracy_style {style!r} of {shapes}", fitting):
            Tally(judging, samples=1).add(evaluated, y)
    with _explained(problem, f"metrics of {called}", "a number for each set"):
        measure_declared(problem.metrics, model, loss, data, diverged=False)
    with _explained(problem, "loss.backward()", "gradients for the model's parameters"):
        value.backward()  # type: ignore[no-untyped-call]
    with _explained(
        problem, "a step of the optimizer", "an optimizer that suits the model's gradients"
    ):
        optimizer = make_optimizer(problem.optimizer(params), model, _ANY_RATE, loss)
        problem.clipping.apply(optimizer)
        optimizer.step()
    # Further models beside the first also show whether they share trained or changed tensors.
    with _explained(problem, f"{called}, called again,", "a torch.nn.Module"):
        check_governed(problem, data, streams, params)
    return notes_of(judging, evaluated, y, max(map(len, data.sets.values())))


def _unbroadcast(loss: nn.Module, output: Any, y: Any) -> Any:
    """The loss; torch's warning about broadcast targets is raised as an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Using a target size")
        return loss(output, y)


@contextlib.contextmanager
def _explained(problem: Problem, called: str, expected: str) -> Iterator[None]:
    """Turns any exception raised inside into a `ProblemError` that names the call."""
    try:
        yield
    except ProblemError:
        raise
    except Exception as error:
        found = "".join(traceback.format_exception_only(error)).strip()
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise problem.fault(called, f"an error: {found} ({place})", expected) from error


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
