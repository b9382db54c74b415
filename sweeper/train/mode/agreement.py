"""Whether packed and eager training agree in double precision.

Eager training here is torch alone, without any of the code of packs.  Its random numbers come from
torch's own generator.  The pack is then given the same numbers, one random operation after the
other, so that a pack that pairs operations and numbers differently is rejected.  The file is long
because both trainings are written out here, apart from the trainers that they check.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.train.data.samples import Data, Indices, SampleSet, in_order
from sweeper.train.mode.precision import InDouble
from sweeper.train.mode.stretch import CHECK_STEPS, Stretch, batches_of, rates_of
from sweeper.train.packs.evaluation import PackEvaluation
from sweeper.train.packs.members import Member, stack, state_of
from sweeper.train.problem.behaviour.returned import is_shared
from sweeper.train.problem.measure.metrics import Measure, evaluating, measured_loss
from sweeper.train.problem.measure.reductions import fits, loss_of_whole
from sweeper.train.problem.optimizer.optimizers import make_optimizer, set_rate
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import fork_rng
from sweeper.train.tuning.trials import Trial
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.optimizers import make_stacked
from sweeper.train.vectorize.random import RANDOM_RULES, Mode, is_random
from sweeper.train.vectorize.trace import (
    CannotPackError,
    Trace,
    held,
    record,
    tensors_of,
    trained,
    values_in,
)

AGREEMENT = 1e-9
"""Largest error, relative to a tensor's largest number, at which two tensors agree in double
precision."""

NOISE = 1e-13
"""Error that rounding explains, relative to the largest number of all tensors computed together.  A
gradient that is zero in exact arithmetic (of a bias before a normalisation) is rounding alone."""

Pair = tuple[nn.Module, Any]
"""A model and its loss."""


def check_agreement(
    problem: Problem,
    members: list[Member],
    made: Sequence[Pair],
    data: Data,
    trial: Trial,
) -> None:
    """Check that packed and eager training agree in double precision on the same random numbers.

    `made` are models and losses like the members', made for this check; tensors that they share
    with other models are not changed.

    Raises:
        CannotPackError: they do not agree.
    """
    source = batches_of(data, trial.batch_size)
    batches = [tuple(map(_double, next(source))) for _ in range(CHECK_STEPS + 1)]
    stretch = Stretch.of(members, [0, 1], batches, rates_of(trial))
    with InDouble(), fork_rng():
        eager = [_copied(*pair) for pair in made]
        (model, loss), *_ = eager
        # Constants may depend on the precision, as the smallest number to divide by does.
        trace, _, _ = record(model, loss, *batches[0])
        if _less_constants(trace) != _less_constants(members[0].trace):
            raise CannotPackError("its step is not the same in double precision")
        trainings = _Trainings(problem, members[0].params, eager, trace, data.train.labels)
        state = trainings.follow(stretch)
        evaluation = PackEvaluation(problem.measure(loss), model)
        for place in range(len(eager)):
            _check_outputs(evaluation, eager[place], state, stretch.batches[0], place)
        for part in _evaluated(data):
            _check_evaluation(evaluation, state, eager[0], _Doubled(part))


def _copied(model: nn.Module, loss: Any) -> Pair:
    """Copies of both in double precision; the originals may share modules with other models.

    Raises:
        CannotPackError: the model shares modules and cannot be copied.
    """
    try:
        model, loss = copy.deepcopy((model, loss))
    except Exception as error:
        if is_shared(model):
            raise CannotPackError(
                "its model shares modules with other models, so packs are checked on a copy, and "
                f"copy.deepcopy raises {type(error).__name__}: {error}"
            ) from error
    for whole in (model, loss):
        if isinstance(whole, nn.Module):
            _make_double(whole)
    return model, loss


def _make_double(whole: nn.Module) -> None:
    """As `double()`, but a buffer that two modules share stays one buffer."""
    for parameter in whole.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.double()
    doubles = {buffer: buffer.double() for buffer in whole.buffers() if buffer.is_floating_point()}
    for part in whole.modules():
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = doubles.get(buffer, buffer)  # noqa: SLF001


# -- training -------------------------------------------------------------------------------------


class _Trainings:
    """A pack, and each of its models trained eagerly beside it."""

    def __init__(
        self,
        problem: Problem,
        params: str,
        eager: Sequence[Pair],
        trace: Trace,
        labels: Tensor | None,
    ) -> None:
        self._eager, self._trace = eager, trace
        self._parameters, self._held = stack(
            [model for model, _ in eager], losses=[loss for _, loss in eager]
        )
        self._random: dict[int, Tensor] = {}
        self._step = batched(trace, labels, {name: self._replayed(name) for name in RANDOM_RULES})
        self._update = make_stacked(problem.recipe(eager[0][0], params), self._parameters)
        self._clipping = problem.clipping
        optimizer = problem.optimizer(params)
        self._optimizers = [make_optimizer(optimizer, model, 1.0) for model, _ in eager]

    def follow(self, stretch: Stretch) -> list[Tensor]:
        """Make all steps; return the pack's stacked tensors after them.

        Each eager step starts from the pack's tensors, and its optimiser gets the pack's
        gradients once they have been found to agree, so that rounding does not add up.

        Raises:
            CannotPackError: a packed and an eager step differ.
        """
        for (x, y), key, rate in zip(stretch.batches, stretch.keys, stretch.rates, strict=True):
            found = [self._eager_step(place, x[place], y[place]) for place in range(len(x))]
            self._random = _stacked_random(self._trace, [one.random for one in found])
            with torch.no_grad():
                losses, *rest = self._step([*self._parameters, *self._held, x, y, key])
                gradients, held_after = rest[: len(self._parameters)], rest[len(self._parameters) :]
                for place, one in enumerate(found):
                    one.compare(losses[place], *(_at(place, s) for s in (gradients, held_after)))
                self._held = held_after
                self._update(gradients, rate)
            for place in range(len(found)):
                self._compare_update(place, gradients, rate)
        return [*self._parameters, *self._held]

    def _eager_step(self, place: int, x: Tensor, y: Tensor) -> _EagerStep:
        model, loss = self._eager[place]
        _load(self._eager[place], [*self._parameters, *self._held], place)
        self._optimizers[place].zero_grad()
        before = [value.detach().clone() for value in held(model, loss)]
        with _RandomResults() as random:
            value = loss(model(x), y)
            value.backward()
        return _EagerStep(model, loss, value.detach(), before, random)

    def _compare_update(self, place: int, gradients: Sequence[Tensor], rate: float) -> None:
        model, _ = self._eager[place]
        for parameter, gradient in zip(trained(model), gradients, strict=True):
            parameter.grad = gradient[place].clone()
        set_rate(self._optimizers[place], rate)
        self._clipping.apply(self._optimizers[place])
        self._optimizers[place].step()
        for (name, own), stacked in zip(_trained(model), self._parameters, strict=True):
            compare(f"{name} after a step", own.detach(), stacked[place])

    def _replayed(self, name: str) -> Any:
        def replay(keys: Tensor, number: int, *given: Any, **options: Any) -> Tensor:
            found = self._random[number]
            own = RANDOM_RULES[name](keys, number, *given, **options)
            if own.shape != found.shape or own.dtype != found.dtype:
                raise CannotPackError(
                    f"its packs draw random numbers of shape {tuple(own.shape)} by {name}"
                )
            return found.clone()

        return replay


@dataclass(frozen=True, slots=True)
class _EagerStep:
    """The results of one eager step."""

    model: nn.Module
    loss: Any
    reached: Tensor
    before: list[Tensor]
    """Frozen parameters and buffers before the step."""
    random: _RandomResults

    def compare(self, loss: Tensor, gradients: list[Tensor], held_after: list[Tensor]) -> None:
        """Compare it with the pack's step.

        Raises:
            CannotPackError: they differ.
        """
        compare("the loss", self.reached, loss)
        parameters = _trained(self.model)
        own = [_gradient(parameter) for _, parameter in parameters]
        scale = largest(own)
        for (name, _), one, other in zip(parameters, own, gradients, strict=True):
            compare(f"the gradient of {name}", one, other, scale)
        after = _held(self.model, self.loss)
        changed = [
            value.detach()
            for (_, value), old in zip(after, self.before, strict=True)
            if not torch.equal(value, old)
        ]
        scale = largest(changed)
        for (name, one), other in zip(after, held_after, strict=True):
            compare(f"{name} after a step", one.detach(), other, scale)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _trained(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The tensors of `trained`, with their names."""
    named = [(f"parameter {name}", value) for name, value in model.named_parameters()]
    return [(name, value) for name, value in named if value.requires_grad]


def _held(model: nn.Module, loss: Any) -> list[tuple[str, Tensor]]:
    """The tensors of `held`, with their names."""
    named = [(f"parameter {name}", value) for name, value in model.named_parameters()]
    fixed = [(name, value) for name, value in named if not value.requires_grad]
    buffers = [(f"buffer {name}", value) for name, value in model.named_buffers()]
    if isinstance(loss, nn.Module):
        buffers += [(f"the loss's buffer {name}", value) for name, value in loss.named_buffers()]
    return [*fixed, *buffers]


def _at(place: int, stacked: Sequence[Tensor]) -> list[Tensor]:
    return [value[place] for value in stacked]


def _load(pair: Pair, stacked: Sequence[Tensor], place: int) -> None:
    """Copy the tensors at one place of the stack into a model and its loss."""
    with torch.no_grad():
        for own, value in zip(state_of(*pair), stacked, strict=True):
            own.copy_(value[place])


# -- random numbers -------------------------------------------------------------------------------


class _RandomResults(Mode):  # type: ignore[no-untyped-call]
    """Records the results of torch's random operations, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.values: list[Tensor] = []
        self.marks: list[bytes] = []
        """Bytes drawn after each operation: equal if the generator's state before it was equal."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        found = func(*args, **(kwargs or {}))
        if is_random(func):
            self.names.append(str(func))
            self.values.append(found.detach().clone())
            self.marks.append(bytes(torch.randint(256, (16,), dtype=torch.uint8).tolist()))
        return found


def _stacked_random(trace: Trace, random: Sequence[_RandomResults]) -> dict[int, Tensor]:
    """What eager training drew, stacked, by the number that the trace gives a random operation.

    Raises:
        CannotPackError: the trace's random operations are not those of eager training.
    """
    operations = [op for op in trace.operations if op.name in RANDOM_RULES]
    names, numbers = [op.name for op in operations], [op.arguments[1] for op in operations]
    for one in random:
        # Numbers may repeat, as where a checkpoint computes something twice.
        if one.names != names or _first(one.marks) != _first(numbers):
            raise CannotPackError(
                "its packs would repeat other random numbers than eager training does"
            )
    columns = zip(*(one.values for one in random), strict=True)
    return {number: torch.stack(column) for number, column in zip(numbers, columns, strict=True)}


def _first(values: Sequence[Any]) -> list[int]:
    """For each value, the index of the first one equal to it."""
    return [values.index(value) for value in values]


# -- evaluation -----------------------------------------------------------------------------------


def _check_outputs(
    evaluation: PackEvaluation,
    eager: Pair,
    state: Sequence[Tensor],
    batch: tuple[Tensor, Tensor],
    place: int,
) -> None:
    """Check that outputs and loss of a batch agree in evaluation mode."""
    model, loss = eager
    reached, packed = evaluation.run(state, *batch)
    _load(eager, state, place)
    with torch.no_grad(), evaluating(model, loss):
        output = model(batch[0][place])
        value = loss(output, batch[1][place])
    for one, other in zip(tensors_of(output), packed, strict=True):
        compare("its output", one, other[place])
    compare("its loss in evaluation", value, reached[place])


def _evaluated(data: Data) -> Iterator[SampleSet]:
    """The sets that trials are measured on, in every size that occurs."""
    if data.splits is None:
        yield from data.sets.values()
        return
    for number, _ in data.splits.pairs:
        yield from data.of_trial(number).sets.values()


def _check_evaluation(
    evaluation: PackEvaluation, state: Sequence[Tensor], eager: Pair, samples: SampleSet
) -> None:
    """Check that the loss of a whole set agrees: packs evaluate it in smaller chunks.

    It does not agree where the loss is no mean over samples, or leaves some of them out.
    """
    _load(eager, state, 0)
    packed, _ = evaluation.measure(state, samples)[0]
    whole = _whole_loss(eager, evaluation.judging, samples)
    if not math.isclose(whole, packed, rel_tol=AGREEMENT, abs_tol=1e-30) and not (
        math.isnan(whole) and math.isnan(packed)
    ):
        raise CannotPackError(
            f"its loss depends on how many samples are evaluated at once ({whole:.6g} and "
            f"{packed:.6g})"
        )


def _whole_loss(eager: Pair, judging: Measure, samples: SampleSet) -> float:
    """The loss of a whole set by torch; combined from chunks if the set is too large."""
    model, loss = eager
    count = len(samples)
    with torch.no_grad(), evaluating(model, loss):
        parts = samples.batches(in_order(count))
        x, y = next(parts)
        found = [(model(x), y)]
        if not fits(found[0][0], y, count):
            return measured_loss(model, judging, count, samples.batches(in_order(count)))
        found += [(model(x), y) for x, y in parts]
        return loss_of_whole(loss, found)


# -- double precision -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Doubled:
    """Samples in double precision."""

    samples: SampleSet
    labels: None = field(default=None, init=False)

    def read_labels(self) -> Tensor | None:
        """See `SampleSet`."""
        return self.samples.read_labels()

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, indices: Iterable[Indices]) -> Iterator[tuple[Any, Any]]:
        """See `SampleSet`."""
        for x, y in self.samples.batches(indices):
            yield _double(x), _double(y)


def _less_constants(trace: Trace) -> list[Any]:
    return [(step.name, values_in((step.arguments, step.options))) for step in trace.operations]


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


# -- comparing ------------------------------------------------------------------------------------


def largest(tensors: Iterable[Tensor]) -> float:
    """The largest absolute value of all finite numbers."""
    return max((_largest(tensor.double()) for tensor in tensors), default=0.0)


def _largest(x: Tensor) -> float:
    finite = x.abs().nan_to_num(0.0, 0.0, 0.0)
    return float(finite.max()) if x.numel() else 0.0


def compare(
    what: str, eager: Tensor, packed: Tensor, scale: float = 0.0, agreement: float = AGREEMENT
) -> None:
    """Compare two tensors; `scale` is the largest number of all tensors computed with them.

    Raises:
        CannotPackError: they differ by more than rounding.
    """
    eager, packed = eager.double(), packed.double()
    same = (eager == packed) | (eager.isnan() & packed.isnan())  # infinities among them
    errors = torch.where(same, 0.0, (eager - packed).abs())
    error, own = float(errors.max()) if errors.numel() else 0.0, _largest(eager)
    if not error <= max(agreement * max(own, 1e-30), NOISE * scale):
        precision = "double" if agreement == AGREEMENT else "single"
        raise CannotPackError(
            f"packed and eager training differ by {error:.1e} of {own:.1e} in {what}, in "
            f"{precision} precision"
        )
