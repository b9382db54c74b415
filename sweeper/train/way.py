"""The way a point's trials are trained: plain, one by one, or in packs, flat or compiled.

They differ in their last bits, so the way is decided once for a point, from its model, data and
settings alone (no timing, no number of cores or trials), and kept with what tuning found.  A pack
is only what has been seen to agree with plain training and not to depend on its size.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.batched import Step, batched
from sweeper.train.compiled import replicas_of
from sweeper.train.contents import contents
from sweeper.train.data import Data, Indices, SampleSet, in_order
from sweeper.train.draws import Drawn
from sweeper.train.evaluation import PackEvaluation
from sweeper.train.metrics import mean_loss
from sweeper.train.optimizers import make_optimizer, set_rate
from sweeper.train.packed import (
    Member,
    evaluation_of,
    first_batch,
    gaining,
    keys_of,
    stack,
    state_of,
)
from sweeper.train.plan import COMPILED, FLAT, PLAIN
from sweeper.train.precision import InDouble
from sweeper.train.problem import Problem
from sweeper.train.recipe import Recipe
from sweeper.train.stacked import find_optimizer, make_stacked
from sweeper.train.step import FlatStep, NativeStep, numbers_of
from sweeper.train.streams import Streams, preserved
from sweeper.train.tape import CannotPackError, Tape, record, rows_of, trained, values_in
from sweeper.train.toolchain import NotCompiledError, toolchain
from sweeper.train.worth import Worth, is_worth_compiling

MOST_PRODUCTS, MOST_NUMBERS = 150_000, 10_000
"""Multiplications in products, and numbers computed, an operation of the step, up to which packs
gain: what they save is a fixed time an operation.  Measured, see `benchmarks/packing.py`: a pack of
eight is at least 1.3 times as fast as plain training, and one alone, padded, 0.6 to 0.9 times."""

CHECK_STEPS = 4
AGREEMENT = 1e-9
"""Relative error to plain training, in double precision, that still counts as the same."""

PACKS = (1, 2, 3, 8, 32)
"""Sizes between which a replica's bits are compared."""

NATIVE_STEPS = 32
"""Steps after which the bits of a native step are compared."""
NEARNESS = 1e-3
"""Relative error of the first losses that rounding explains in single precision."""

Found = tuple[dict[str, float], dict[str, Any]]

_OWN = frozenset(nn.Module().__dict__)
# Those of loading and saving have no part in training: parametrizations.weight_norm has one.
_HOOKS = [name for name in _OWN if "hook" in name and "state_dict" not in name and name[0] == "_"]


def find_way(
    problem: Problem,
    data: Data,
    streams: Streams,
    payload: Mapping[str, Any],
    worth: Worth = is_worth_compiling,
) -> Found:
    """The arrays `way`, `because`, `tape` and `toolchain`: each one text.

    `worth` decides whether a step that can be packed is worth compiling.
    """
    try:
        members = _check(problem, data, streams, payload, worth)
        way, because = _choose(problem, data, members, payload, worth)
    except CannotPackError as error:
        return {}, _texts(PLAIN, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model does not like about being checked
        return {}, _texts(PLAIN, f"checking it raised {type(error).__name__}: {error}")
    tools = toolchain() if way == COMPILED else ""
    return {}, _texts(way, because, members[0].tape.digest, tools)


def _texts(way: str, because: str, tape: str = "", tools: str = "") -> dict[str, Any]:
    texts = {"way": way, "because": because, "tape": tape, "toolchain": tools}
    return {name: np.array(text) for name, text in texts.items()}


def _choose(
    problem: Problem, data: Data, members: list[Member], payload: Mapping[str, Any], worth: Worth
) -> tuple[str, str]:
    """The way of a point that can be packed, and why.

    Raises:
        CannotPackError: it is too large to be packed flat, and is not compiled.
    """
    tape, recipe = members[0].tape, problem.recipe(members[0].model)
    because, why_not = "its packs agree with plain training", ""
    if _is_worth(members[0], payload, worth):
        try:
            _check_native(members, recipe, data, payload)
        except (CannotPackError, NotCompiledError) as error:
            why_not = f"; not compiled: {error}"
        else:
            return COMPILED, f"{because}, and its compiled step with its flat one"
    if is_large(tape):
        raise CannotPackError(f"{_size_of(tape)}{why_not}")
    return FLAT, because + why_not


def _is_worth(member: Member, payload: Mapping[str, Any], worth: Worth) -> bool:
    parameters = sum(parameter.numel() for parameter in trained(member.model))
    return worth(member.tape, parameters, is_large(member.tape), payload["steps"])


def is_large(tape: Tape) -> bool:
    """Whether flat packs gain nothing."""
    products, numbers = _an_operation(tape)
    return products > MOST_PRODUCTS or numbers > MOST_NUMBERS


def _an_operation(tape: Tape) -> tuple[float, float]:
    """What an operation takes on average: multiplications in products, and numbers computed."""
    return tape.products / len(tape.operations), tape.numbers / len(tape.operations)


def _size_of(tape: Tape) -> str:
    products, numbers = _an_operation(tape)
    return (
        f"it is large enough to fill a core alone (an operation of its step takes "
        f"{products / 1e3:.0f} thousand products and {numbers / 1e3:.1f} thousand numbers; "
        f"packed are up to {MOST_PRODUCTS / 1e3:.0f} and {MOST_NUMBERS / 1e3:.0f})"
    )


def _check(
    problem: Problem, data: Data, streams: Streams, payload: Mapping[str, Any], worth: Worth
) -> list[Member]:
    """Two members of a pack, where packed and plain training agree.

    Raises:
        CannotPackError: they do not, or it has no packs.
    """
    x, y = first_batch(data, payload["batch_size"])
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise CannotPackError("its samples are not pairs of tensors")
    seeds = [streams, Streams(streams.seed, streams.signature, streams.stage, streams.number + 1)]
    for seed in seeds:
        model, loss = _make(problem, seed, payload)
        find_optimizer(problem.recipe(model))
        _check_model(model, loss)
    members = [Member.make(problem, data, seed, payload) for seed in seeds]
    tape = members[0].tape
    step = batched(tape, data.train.labels)
    if members[1].tape != tape:
        raise CannotPackError("its step is not the same for every seed")
    if problem.recipe(members[1].model) != problem.recipe(members[0].model):
        raise CannotPackError("its parameter groups are not the same for every seed")
    # Before what takes long for it: whole sets are evaluated.
    if is_large(tape) and not _is_worth(members[0], payload, worth):
        raise CannotPackError(_size_of(tape))
    _check_memory(problem, members[0], data, payload)
    _check_bits(problem, members, step, data, payload)
    with InDouble():
        _check_agreement(problem, members, data, payload)
    return members


def _make(
    problem: Problem, streams: Streams, payload: Mapping[str, Any]
) -> tuple[nn.Module, nn.Module]:
    streams.seed_globals("init")
    _, model = problem.make_model(payload["params"])
    loss = problem.make_loss()
    model.train()
    return model, loss


# -- what the model contains ----------------------------------------------------------------------


def _check_model(model: nn.Module, loss: nn.Module) -> None:
    state = state_of(model)
    named = list(model.named_parameters(remove_duplicate=False))
    pointers = {tensor.untyped_storage().data_ptr() for tensor in state if tensor.numel()}
    if len(pointers) != sum(tensor.numel() > 0 for tensor in state) or len(named) != len(
        list(model.parameters())
    ):
        raise CannotPackError("parameters or buffers share memory")
    for name, parameter in named:
        if type(parameter) is not nn.Parameter or parameter.dtype != torch.float32:
            raise CannotPackError(f"its parameter {name} is not a usual one of type float32")
        if not parameter.is_contiguous():
            raise CannotPackError(f"its parameter {name} is not contiguous")
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:  # noqa: SLF001
            raise CannotPackError(f"its parameter {name} has hooks")
    if not trained(model):
        raise CannotPackError("none of its parameters is trained")
    parts = [*model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else ())]
    for part in parts:
        if any(part.__dict__.get(name) for name in _HOOKS):
            raise CannotPackError(f"{type(part).__name__} has hooks")
    if isinstance(loss, nn.Module) and state_of(loss):
        raise CannotPackError("the loss has parameters or buffers")


def _check_memory(problem: Problem, member: Member, data: Data, payload: Mapping[str, Any]) -> None:
    """Whether a step leaves more than gradients and buffers behind, or depends on the samples."""
    sizes = _batches(data, payload["batch_size"])
    before = _attributes(member), _random_states()
    evaluation = evaluation_of(problem, member)
    x, y = next(sizes)
    evaluated = evaluation.tape(x, y)
    for _ in range(CHECK_STEPS):
        if evaluation.tape(x, y) != evaluated:
            raise CannotPackError("its evaluation changes from batch to batch")
        x, y = next(sizes)
        tape, _, _ = record(member.model, member.loss, x, y)
        if tape != member.tape or repr(tape) != repr(member.tape):
            raise CannotPackError("its step changes from batch to batch")
    if _random_states() != before[1]:
        raise CannotPackError("it draws random numbers in each step")
    if _attributes(member) != before[0]:
        raise CannotPackError("its attributes change in each step")


def _random_states() -> str:
    numpy = np.random.get_state()  # noqa: NPY002 - a model may draw from it
    return repr((torch.get_rng_state().tolist(), [*map(repr, numpy)], random.getstate()))


def _attributes(member: Member) -> Any:
    loss = member.loss
    parts = loss.modules() if isinstance(loss, nn.Module) else [loss]
    return contents([*member.model.modules(), *parts])


# -- what packs compute ---------------------------------------------------------------------------


def _batches(data: Data, size: int) -> Iterator[tuple[Any, Any]]:
    """Batches for ever, of samples from everywhere: data may be sorted by what they are."""
    samples = len(data.train)
    chosen = np.random.default_rng(0)
    while True:
        with preserved():
            places = chosen.choice(samples, min(size, samples), replace=False)
            yield next(iter(data.train.batches([places])))


def _rates(payload: Mapping[str, Any]) -> list[float]:
    low, high = payload["lr_start"], payload["lr_end"]
    return [float(rate) for rate in np.linspace(low, high, CHECK_STEPS)]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some steps of a few replicas: what each is trained with."""

    batches: list[tuple[Tensor, Tensor]]
    """For each step, stacked."""
    keys: list[Tensor]
    rates: list[float]

    @classmethod
    def of(
        cls, members: list[Member], kinds: list[int], batches: list[Any], rates: list[float]
    ) -> _Stretch:
        """Of these members in this order, each so many batches ahead."""
        stacked = [
            (
                torch.stack([batches[place + kind][0] for kind in kinds]),
                torch.stack([batches[place + kind][1] for kind in kinds]),
            )
            for place in range(len(rates))
        ]
        streams = [members[kind].streams for kind in kinds]
        keys = list(keys_of(streams, members[0].tape, len(rates)))
        return cls(stacked, keys, rates)


def _train(
    recipe: Recipe, parameters: list[Tensor], buffers: list[Tensor], step: Step, done: _Stretch
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses of every step, and the buffers after all; the parameters are changed in place."""
    update = make_stacked(recipe, parameters)
    reached = []
    with torch.no_grad():
        for (x, y), key, rate in zip(done.batches, done.keys, done.rates, strict=True):
            losses, *found = step([*parameters, *buffers, x, y, key])
            buffers = found[len(parameters) :]
            update(found[: len(parameters)], rate)
            reached.append(losses)
    return reached, buffers


def _check_bits(
    problem: Problem,
    members: list[Member],
    step: Step,
    data: Data,
    payload: Mapping[str, Any],
) -> None:
    """Whether a replica's bits are the same in every pack, and at every place in it."""
    source = _batches(data, payload["batch_size"])
    batches = [next(source) for _ in range(CHECK_STEPS + 1)]
    rates = _rates(payload)
    evaluation, recipe = evaluation_of(problem, members[0]), problem.recipe(members[0].model)
    known: dict[int, list[bytes]] = {}
    for count in [count for count in PACKS if count <= gaining(members[0].tape)]:
        # Which of the two models stands where, the other way round in every other pack.
        kinds = [(place + count) % 2 for place in range(max(2, count))]
        if count == 1:
            kinds = [0, 0]
        parameters, buffers = stack([members[kind].model for kind in kinds])
        stretch = _Stretch.of(members, kinds, batches, rates)
        _, buffers = _train(recipe, parameters, buffers, step, stretch)
        evaluated = evaluation.run([*parameters, *buffers], *stretch.batches[0])
        for place, kind in enumerate(kinds):
            values = [*parameters, *buffers, *evaluated]
            found = [value[place].numpy().tobytes() for value in values]
            if known.setdefault(kind, found) != found:
                raise CannotPackError("its last bits depend on the pack")


def _check_native(
    members: list[Member], recipe: Recipe, data: Data, payload: Mapping[str, Any]
) -> None:
    """Whether the native step is the flat one but for rounding, with the same bits at every place.

    Raises:
        CannotPackError: it is not.
        NotCompiledError: it cannot be made here.
    """
    tape = members[0].tape
    size = replicas_of(tape)
    source = _batches(data, payload["batch_size"])
    batches = [next(source) for _ in range(NATIVE_STEPS + 1)]
    rates = [float(r) for r in np.linspace(payload["lr_start"], payload["lr_end"], NATIVE_STEPS)]
    numbers = list(numbers_of(find_optimizer(recipe), rates, size, torch.float32))
    known: dict[int, list[bytes]] = {}
    for kinds in _arrangements(size):
        stretch = _Stretch.of(members, kinds, batches, rates)
        models = [members[kind].model for kind in kinds]
        step = NativeStep(tape, recipe, stack(models, size))
        flat = FlatStep(tape, recipe, stack([*models, models[-1]]), data.train.labels)
        for number, ((x, y), keys, settings) in enumerate(
            zip(stretch.batches, stretch.keys, numbers, strict=True)
        ):
            losses = step(x, y, keys[:size], settings)
            if number < CHECK_STEPS:
                more = [torch.cat([part, part[-1:]]) for part in (x, y, keys[:size])]
                wide = torch.cat([settings, settings[:, -1:]], 1)
                _compare(flat(more[0], more[1], more[2], wide)[:size], losses, NEARNESS)
        for place, kind in enumerate(kinds):
            found = [value[place].numpy().tobytes() for value in step.state]
            if known.setdefault(kind, found) != found:
                raise CannotPackError("the last bits of its compiled step depend on the place")


def _arrangements(size: int) -> list[list[int]]:
    """Which of the two models stands where: each at every place, beside itself and the other."""
    if size == 1:
        return [[0], [1]]
    return [[(place + first) % 2 for place in range(size)] for first in (0, 1)] + [[0] * size]


def _check_agreement(
    problem: Problem,
    members: list[Member],
    data: Data,
    payload: Mapping[str, Any],
) -> None:
    """Whether packed and plain training agree in double precision, with the same numbers drawn."""
    source = _batches(data, payload["batch_size"])
    batches = [tuple(map(_double, next(source))) for _ in range(CHECK_STEPS + 1)]
    rates = _rates(payload)
    made = [_make(problem, member.streams, payload) for member in members]
    packed = [_make(problem, member.streams, payload)[0].double() for member in members]
    parameters, buffers = stack(packed)
    # Its constants may depend on the precision, as the smallest number to divide by does.
    tape, _, _ = record(packed[0].train(), made[0][1], *batches[0])
    if _less_constants(tape) != _less_constants(members[0].tape):
        raise CannotPackError("its step is another one in double precision")
    step = batched(tape, data.train.labels)
    stretch = _Stretch.of(members, [0, 1], batches, rates)
    recipe = problem.recipe(members[0].model)
    losses, buffers = _train(recipe, parameters, buffers, step, stretch)
    evaluation = PackEvaluation(problem.accuracy_style, packed[0], made[0][1])
    reached, outputs = evaluation.run([*parameters, *buffers], *stretch.batches[0])
    for place, (model, loss) in enumerate(made):
        model.double()
        optimizer = make_optimizer(problem.optimizer, model, rates[0])
        for number, rate in enumerate(rates):
            x, y = batches[number + place]
            set_rate(optimizer, rate)
            optimizer.zero_grad()
            with Drawn(stretch.keys[number][place : place + 1]):
                value = loss(model(x), y)
                value.backward()
            problem.clipping.apply(optimizer)
            optimizer.step()
            _compare(value.detach(), losses[number][place])
        with torch.no_grad(), preserved():
            for own, stacked in zip(state_of(model), [*parameters, *buffers], strict=True):
                _compare(own, stacked[place])
            model.eval()
            x, y = batches[place]
            output = model(x)
            _compare(rows_of(output), outputs[place])
            _compare(loss(output, y), reached[place])
    for part in (data.train, data.val):
        _check_evaluation(evaluation, [*parameters, *buffers], made[0][0], _Doubled(part))


def _check_evaluation(
    evaluation: PackEvaluation, stacked: list[Tensor], model: nn.Module, samples: SampleSet
) -> None:
    """Whether a whole set comes to the same, which packs evaluate in smaller parts than `model`.

    A loss that is no mean over samples does not, nor one that leaves some of them out.
    """
    with torch.no_grad(), preserved():
        for own, value in zip(state_of(model), stacked, strict=True):
            own.copy_(value[0])
        packed, _ = evaluation.measure(stacked, samples)[0]
        plain = mean_loss(model, evaluation.loss, samples.batches(in_order(len(samples))))
    if not math.isclose(plain, packed, rel_tol=AGREEMENT, abs_tol=1e-30) and not (
        math.isnan(plain) and math.isnan(packed)
    ):
        raise CannotPackError(
            f"its loss depends on how many samples are evaluated at once ({plain:.6g} and "
            f"{packed:.6g})"
        )


@dataclass(frozen=True, slots=True)
class _Doubled:
    """Samples in double precision."""

    samples: SampleSet

    @property
    def labels(self) -> None:
        """See `SampleSet`."""

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, indices: Iterable[Indices]) -> Iterator[tuple[Any, Any]]:
        """See `SampleSet`."""
        for x, y in self.samples.batches(indices):
            yield _double(x), _double(y)


def _less_constants(tape: Tape) -> list[Any]:
    return [(step.name, values_in((step.arguments, step.options))) for step in tape.operations]


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _compare(plain: Tensor, packed: Tensor, agreement: float = AGREEMENT) -> None:
    plain, packed = plain.double(), packed.double()
    scale = float(plain.abs().max()) if plain.numel() else 0.0
    error = float((plain - packed).abs().max()) if plain.numel() else 0.0
    if not error <= agreement * max(scale, 1e-30):
        precision = "double" if agreement == AGREEMENT else "single"
        raise CannotPackError(
            f"its ways of training differ by {error:.1e} of {scale:.1e} in {precision} precision"
        )
