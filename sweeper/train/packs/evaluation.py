"""Evaluation of a pack: loss and performance of all its replicas at once.

Like a training step, an evaluation is recorded once as a trace and run for stacked replicas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.data.samples import HeldSet, Indices, SampleSet, in_order
from sweeper.train.problem.measure.metrics import INVERSE_LOSS, Measure, Tally, evaluating
from sweeper.train.problem.measure.reductions import rebuild
from sweeper.train.replica.streams import fork_rng
from sweeper.train.vectorize.lowering import StackedFunction, batched
from sweeper.train.vectorize.trace import CannotPackError, Trace, record_evaluation

CHUNK = 256
"""Samples of each replica evaluated at once.  It affects the last bits of every loss, so it must
not depend on the number of replicas."""

LossAndPerformance = tuple[float, float]
"""Loss and performance."""


@dataclass(slots=True)
class PackEvaluation:
    """Evaluates a pack's replicas, as `model`, one of them, computes in evaluation mode."""

    judging: Measure
    """The measure, with the loss of one replica."""
    model: nn.Module
    _steps: dict[tuple[torch.Size, torch.Size], StackedFunction] = field(default_factory=dict)
    _like: tuple[Any] | None = None
    """An output of the model in its own structure, once that is needed."""

    def measure(
        self, stacked: Sequence[Tensor], samples: SampleSet, chosen: Sequence[Indices] | None = None
    ) -> list[LossAndPerformance]:
        """(loss, performance) of each replica on all samples, or on those chosen for it.

        `chosen` has the same number of samples for each replica.

        Raises:
            CannotPackError: an operation has no rule.
        """
        replicas = len(stacked[0])
        count = len(samples) if chosen is None else len(chosen[0])
        tallies = [Tally(self.judging, count) for _ in range(replicas)]
        batches = _same(samples, replicas) if chosen is None else _own(samples, chosen)
        for x, y in batches:
            losses, outputs = self.run(stacked, x, y)
            self._judge(tallies, outputs, y)
            self._weigh(tallies, losses, outputs, (x, y))
        with evaluating(self.model, self.loss):
            return [self._result(tally, stacked, place) for place, tally in enumerate(tallies)]

    def run(self, stacked: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The loss of each replica, shape (replicas,), and the outputs, for stacked batches.

        There is one output per tensor that the model returns.

        Raises:
            CannotPackError: an operation has no rule.
        """
        keys = torch.zeros(len(x), dtype=torch.int64)  # nothing is drawn
        step = self._step(x, y)
        with torch.inference_mode():
            losses, *outputs = step([*stacked, x, y, keys])
        return losses, outputs

    def trace(self, x: Tensor, y: Tensor) -> Trace:
        """The trace of one replica's evaluation of a batch."""
        with fork_rng(), _step_by_step(), evaluating(self.model, self.loss):
            return record_evaluation(self.model, self.loss, x, y)

    def _step(self, x: Tensor, y: Tensor) -> StackedFunction:
        shapes = x.shape[1:], y.shape[1:]
        if shapes not in self._steps:
            self._steps[shapes] = batched(self.trace(x[0], y[0]))
        return self._steps[shapes]

    @property
    def loss(self) -> Any:
        """The loss of one replica."""
        return self.judging.loss

    def _judge(self, tallies: Sequence[Tally], outputs: list[Tensor], y: Tensor) -> None:
        """Count each replica's correct samples."""
        if self.judging.style == INVERSE_LOSS:
            return
        if len(outputs) != 1 or outputs[0].shape[:2] != y.shape[:2]:
            raise CannotPackError("its output is not a tensor with a row for each sample")
        found = self.judging.judge(outputs[0].flatten(0, 1), y.flatten(0, 1))
        sums = (part.view(y.shape[:2]).sum(1).tolist() for part in found)
        for tally, correct, judged in zip(tallies, *sums, strict=True):
            tally.judge(correct, judged)

    def _weigh(
        self,
        tallies: Sequence[Tally],
        losses: Tensor,
        outputs: list[Tensor],
        batch: tuple[Tensor, Tensor],
    ) -> None:
        """Add up each replica's loss, or keep its outputs if the loss needs the whole set."""
        x, y = batch
        if self.judging.weigh is not None:
            weights = self.judging.weigh(outputs[0], y)
        else:
            weights = [float(y.shape[1])] * len(y)
        for place, (tally, loss) in enumerate(zip(tallies, losses.tolist(), strict=True)):
            if self.judging.is_of_whole_sets:
                # Copied, so that results do not depend on the place in the pack.
                own = [output[place].clone() for output in outputs]
                if tally.keep(self._structured(own, x[0]), y[place].clone()):
                    continue
            tally.weigh(loss, weights[place])

    def _result(self, tally: Tally, stacked: Sequence[Tensor], place: int) -> LossAndPerformance:
        """The result of a tally, by the loss (with its own buffers) of the replica at a place."""
        buffers = list(self.loss.buffers()) if isinstance(self.loss, nn.Module) else []
        if not (buffers and self.judging.is_of_whole_sets):
            return tally.result()
        before = [buffer.clone() for buffer in buffers]
        # The loss's buffers are the last of the stacked tensors.
        _fill(buffers, [value[place] for value in stacked[len(stacked) - len(buffers) :]])
        found = tally.result()
        _fill(buffers, before)
        return found

    def _structured(self, outputs: list[Tensor], x: Tensor) -> Any:
        """The outputs in the structure that the model gives to the loss, for a batch like x."""
        if self._like is None:
            with torch.no_grad(), fork_rng(), evaluating(self.model, self.loss):
                self._like = (self.model(x),)
        return rebuild(self._like[0], iter(outputs))


def _fill(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(value)


@contextlib.contextmanager
def _step_by_step() -> Iterator[None]:
    """Inside, attention is computed step by step, not by torch's single fused operation."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _same(samples: SampleSet, replicas: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All samples in order, the same for every replica."""
    for x, y in samples.batches(in_order(len(samples), CHUNK)):
        yield x.expand(replicas, *x.shape), y.expand(replicas, *y.shape)


def _own(samples: SampleSet, chosen: Sequence[Indices]) -> Iterator[tuple[Tensor, Tensor]]:
    places = np.stack(chosen)
    for chunk in in_order(places.shape[1], CHUNK):
        yield gather(samples, places[:, chunk])


def gather(samples: SampleSet, places: Indices) -> tuple[Tensor, Tensor]:
    """Stacked batches (x, y) of the samples at `places`: shape (…, replicas, batch, *sample)."""
    if not isinstance(samples, HeldSet):
        rows = [next(iter(samples.batches([row]))) for row in places.reshape(-1, places.shape[-1])]
        x, y = torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])
        return x.view(*places.shape, *x.shape[2:]), y.view(*places.shape, *y.shape[2:])
    chosen = torch.from_numpy(np.ascontiguousarray(places)).view(-1)
    x = samples.x.index_select(0, chosen).view(*places.shape, *samples.x.shape[1:])
    return x, samples.y.index_select(0, chosen).view(*places.shape, *samples.y.shape[1:])
