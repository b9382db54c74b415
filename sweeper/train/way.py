"""The way a point's trials are trained: plain, one by one, or flat, in packs.

The two differ in their last bits, so the way is decided once for a point, from its model, data and
settings alone (no timing, no number of cores or trials), and kept with what tuning found.  Flat is
only what has been seen to agree with plain training and not to depend on the pack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.train.batched import Step, batched
from sweeper.train.data import Data
from sweeper.train.evaluation import PackEvaluation
from sweeper.train.optimizers import make_optimizer, optimizer_parts
from sweeper.train.packed import Member, evaluation_of, first_batch, stack
from sweeper.train.plan import FLAT, PLAIN
from sweeper.train.problem import Problem
from sweeper.train.stacked import make_stacked
from sweeper.train.streams import Streams, preserved
from sweeper.train.tape import CannotPackError, record

MOST_PRODUCTS, MOST_NUMBERS = 1_500_000, 150_000
"""Multiplications in matrix products, and numbers computed, of a step up to which a padded pack of
one is not slower than a plain step; measured, see `benchmarks/packing.py`."""

CHECK_STEPS = 4
AGREEMENT = 1e-9
"""Relative error to plain training, in double precision, that still counts as the same."""

PACKS = (1, 2, 3, 8)
"""Sizes between which a replica's bits are compared."""

Found = tuple[dict[str, float], dict[str, Any]]

_OWN = frozenset(nn.Module().__dict__)
_HOOKS = [name for name in _OWN if "hook" in name and name.startswith("_")]


def find_way(problem: Problem, data: Data, streams: Streams, payload: Mapping[str, Any]) -> Found:
    """The arrays `way`, `because` and `tape`: each one text."""
    try:
        tape = _check(problem, data, streams, payload)
    except CannotPackError as error:
        return {}, {"way": np.array(PLAIN), "because": np.array(str(error)), "tape": np.array("")}
    except Exception as error:  # noqa: BLE001 - whatever a model does not like about being checked
        because = f"checking it raised {type(error).__name__}: {error}"
        return {}, {"way": np.array(PLAIN), "because": np.array(because), "tape": np.array("")}
    because = "its packs agree with plain training"
    return {}, {"way": np.array(FLAT), "because": np.array(because), "tape": np.array(tape)}


def _check(problem: Problem, data: Data, streams: Streams, payload: Mapping[str, Any]) -> str:
    """The digest of the tape, where flat it is."""
    make_stacked(*optimizer_parts(problem.optimizer), [])
    x, y = first_batch(data, payload["batch_size"])
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise CannotPackError("its samples are not pairs of tensors")
    seeds = [streams, Streams(streams.seed, streams.signature, streams.stage, streams.number + 1)]
    for seed in seeds:
        _check_model(*_make(problem, seed, payload))
    members = [Member.make(problem, data, seed, payload) for seed in seeds]
    tape = members[0].tape
    step = batched(tape)
    if tape.products > MOST_PRODUCTS or tape.numbers > MOST_NUMBERS:
        raise CannotPackError(
            f"it is large enough to fill a core alone ({tape.products / 1e6:.1f} million products "
            f"and {tape.numbers / 1e3:.0f} thousand numbers a step; packed are up to "
            f"{MOST_PRODUCTS / 1e6:.1f} and {MOST_NUMBERS / 1e3:.0f})"
        )
    if members[1].tape != tape:
        raise CannotPackError("its step is not the same for every seed")
    _check_memory(problem, members[0], data, payload)
    _check_bits(problem, members, step, data, payload)
    _check_agreement(problem, seeds, step, data, payload)
    return tape.digest


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
    parameters = list(model.parameters())
    named = list(model.named_parameters(remove_duplicate=False))
    pointers = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    if len(named) != len(parameters) or len(pointers) != len(parameters):
        raise CannotPackError("parameters share memory")
    for name, parameter in named:
        if type(parameter) is not nn.Parameter or parameter.dtype != torch.float32:
            raise CannotPackError(f"its parameter {name} is not a usual one of type float32")
        if not parameter.requires_grad or not parameter.is_contiguous():
            raise CannotPackError(f"its parameter {name} is not trained, or not contiguous")
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:  # noqa: SLF001
            raise CannotPackError(f"its parameter {name} has hooks")
    parts = [*model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else ())]
    for part in parts:
        if any(part.__dict__.get(name) for name in _HOOKS):
            raise CannotPackError(f"{type(part).__name__} has hooks")
        if next(part.buffers(recurse=False), None) is not None:
            raise CannotPackError(f"{type(part).__name__} has buffers")
    if isinstance(loss, nn.Module) and next(loss.parameters(), None) is not None:
        raise CannotPackError("the loss has parameters")


def _check_memory(problem: Problem, member: Member, data: Data, payload: Mapping[str, Any]) -> None:
    """Whether a step leaves anything but gradients behind, or depends on the samples."""
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


def _attributes(member: Member) -> list[Any]:
    parts = [*member.model.modules()]
    if isinstance(member.loss, nn.Module):
        parts += member.loss.modules()
    return [_state(part.__dict__, 0) for part in parts]


def _state(value: Any, depth: int) -> Any:
    """What can be compared with itself later: numbers and texts by value, all else by identity."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, Tensor):
        return id(value), value._version, value.data_ptr()  # noqa: SLF001
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if depth > 6 or isinstance(value, type | nn.Module):
        return id(value)
    if isinstance(value, Mapping):
        return [(_state(k, depth + 1), _state(v, depth + 1)) for k, v in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [type(value).__name__, *(_state(item, depth + 1) for item in value)]
    return id(value), _state(getattr(value, "__dict__", None), depth + 1)


# -- what packs compute ---------------------------------------------------------------------------


def _batches(data: Data, size: int) -> Iterator[tuple[Any, Any]]:
    """Batches for ever, each with other samples than the one before."""
    samples = len(data.train)
    size = min(size, samples)
    start = 0
    while True:
        with preserved():
            places = (start + np.arange(size)) % samples
            yield next(iter(data.train.batches([places])))
        start += max(1, size // 2)


def _rates(payload: Mapping[str, Any]) -> list[float]:
    low, high = payload["lr_start"], payload["lr_end"]
    return [float(rate) for rate in np.linspace(low, high, CHECK_STEPS)]


def _train(
    problem: Problem, parameters: list[Tensor], step: Step, batches: list[Any], rates: list[float]
) -> list[Tensor]:
    """Losses of every step; the parameters are changed in place."""
    update = make_stacked(*optimizer_parts(problem.optimizer), parameters)
    reached = []
    with torch.no_grad():
        for (x, y), rate in zip(batches, rates, strict=True):
            losses, *gradients = step([*parameters, x, y])
            update(gradients, rate)
            reached.append(losses)
    return reached


def _stacked(batches: list[Any], shifts: list[int]) -> list[Any]:
    """For each step the batches of replicas that are so many batches ahead."""
    return [
        tuple(torch.stack([batches[place + shift][part] for shift in shifts]) for part in (0, 1))
        for place in range(CHECK_STEPS)
    ]


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
    evaluation = evaluation_of(problem, members[0])
    known: dict[int, list[bytes]] = {}
    for count in PACKS:
        # Which of the two models stands where, the other way round in every other pack.
        kinds = [(place + count) % 2 for place in range(max(2, count))]
        if count == 1:
            kinds = [0, 0]
        parameters = stack([members[kind] for kind in kinds])
        stacked = _stacked(batches, kinds)
        _train(problem, parameters, step, stacked, rates)
        evaluated = evaluation.run(parameters, *stacked[0])
        for place, kind in enumerate(kinds):
            found = [each[place].numpy().tobytes() for each in (*parameters, *evaluated)]
            if known.setdefault(kind, found) != found:
                raise CannotPackError("its last bits depend on the pack")


def _check_agreement(
    problem: Problem,
    seeds: list[Streams],
    step: Step,
    data: Data,
    payload: Mapping[str, Any],
) -> None:
    """Whether packed and plain training agree in double precision."""
    source = _batches(data, payload["batch_size"])
    batches = [tuple(map(_double, next(source))) for _ in range(CHECK_STEPS + 1)]
    rates = _rates(payload)
    plain = [_make(problem, seed, payload) for seed in seeds]
    pairs = [(model.double(), loss) for model, loss in plain]
    packed = [_make(problem, seed, payload)[0].double() for seed in seeds]
    parameters = [
        torch.stack([one.detach(), other.detach()])
        for one, other in zip(*(model.parameters() for model in packed), strict=True)
    ]
    stacked = _stacked(batches, [0, 1])
    losses = _train(problem, parameters, step, stacked, rates)
    evaluation = PackEvaluation(problem.accuracy_style, packed[0], pairs[0][1])
    reached, outputs = evaluation.run(parameters, *stacked[0])
    for place, (model, loss) in enumerate(pairs):
        optimizer = make_optimizer(problem.optimizer, model.parameters(), rates[0])
        for number, rate in enumerate(rates):
            x, y = batches[number + place]
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            _compare(value.detach(), losses[number][place])
        with torch.no_grad(), preserved():
            for own, packs in zip(model.parameters(), parameters, strict=True):
                _compare(own, packs[place])
            model.eval()
            x, y = batches[place]
            output = model(x)
            _compare(output, outputs[place])
            _compare(loss(output, y), reached[place])


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _compare(plain: Tensor, packed: Tensor) -> None:
    scale = float(plain.abs().max()) if plain.numel() else 0.0
    error = float((plain - packed).abs().max()) if plain.numel() else 0.0
    if not error <= AGREEMENT * max(scale, 1e-30):
        raise CannotPackError(
            f"packed and plain training differ by {error:.1e} of {scale:.1e} in double precision"
        )
