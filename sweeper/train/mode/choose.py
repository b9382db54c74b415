"""Chooses a point's execution mode: eager (one by one), packed, or compiled.

The modes differ by rounding, so the mode is decided once per point, from its model, data and
settings alone (no timing, no number of cores or trials), and stored with its tuning.  A point is
packed only if packs were seen to agree with eager training and not to depend on their size.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.records import COMPILED, EAGER, PACKED
from sweeper.train.data.samples import Data
from sweeper.train.mode.agreement import check_agreement
from sweeper.train.mode.bits import check_bits, check_native
from sweeper.train.mode.cost import Worth, is_worth_compiling
from sweeper.train.mode.machine import PLACE_MATTERS, products_depend_on_place
from sweeper.train.mode.snapshot import contents
from sweeper.train.mode.stretch import CHECK_STEPS, batches_of
from sweeper.train.native.toolchain import NotCompiledError, toolchain
from sweeper.train.packs.members import Member, first_batch
from sweeper.train.packs.trial import evaluation_of
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.trials import ExecutionMode, Trial
from sweeper.train.vectorize.lowering import StackedFunction, UnknownOperationsError, batched
from sweeper.train.vectorize.optimizers import find_optimizer
from sweeper.train.vectorize.places import named_part
from sweeper.train.vectorize.trace import CannotPackError, Trace, places_of, record, trained

MOST_PRODUCTS, MOST_NUMBERS = 150_000, 10_000
"""Multiplications in matrix products, and numbers computed, per operation of the step, up to which
packs gain: they save a fixed time per operation.  Measured (`benchmarks/packing.py`): a pack of
eight is at least 1.3 times as fast as eager training, a padded pack of one 0.6 to 0.9 times."""

_OWN = frozenset(nn.Module().__dict__)
_HOOKS = [
    name
    for name in _OWN
    if "hook" in name
    and name.startswith("_")
    and "state_dict" not in name  # those concern saving and loading only
]


def choose_mode(
    problem: Problem,
    data: Data,
    streams: Streams,
    params: str,
    trial: Trial,
    worth: Worth = is_worth_compiling,
    curve_samples: int = 0,
) -> ExecutionMode:
    """The execution mode of a point's trials and probes.

    `params` are the point's, encoded; `trial` holds the settings of one trial; `curve_samples` is
    the number of points of a curve.  `worth` decides whether a step that can be packed is worth
    compiling.  Steps of probes alone are packed rather than compiled, since probes try batch sizes
    that no trial may use; `later` then says that the trials' steps are worth compiling.
    """
    decide = (lambda *told: told[2] and worth(*told)) if trial.for_probes else worth
    later = ""
    try:
        members = _check(problem, data, streams, params, trial, decide, curve_samples)
        mode, because = _choose(problem, data, members, trial, decide)
        if mode == PACKED and trial.for_probes and _is_worth(members[0], trial, worth):
            later = COMPILED
    except CannotPackError as error:
        return _eager(str(error))
    except Exception as error:  # noqa: BLE001 - whatever a model does not like about being checked
        return _eager(f"checking it raised {type(error).__name__}: {error}")
    tools = toolchain() if mode == COMPILED else ""
    return ExecutionMode(mode, because, members[0].trace.digest, tools, later)


def _eager(because: str) -> ExecutionMode:
    return ExecutionMode(EAGER, because, trace="", toolchain="", later="")


def _choose(
    problem: Problem, data: Data, members: list[Member], trial: Trial, worth: Worth
) -> tuple[str, str]:
    """The mode of a point that can be packed, and why.

    Raises:
        CannotPackError: it is too large to gain by packing, and is not compiled.
    """
    trace, recipe = members[0].trace, problem.recipe(members[0].model, members[0].params)
    because, why_not = "its packs agree with eager training", ""
    if _is_worth(members[0], trial, worth):
        try:
            check_native(members, recipe, data, trial)
        except (CannotPackError, NotCompiledError) as error:
            why_not = f"; not compiled: {error}"
        else:
            return COMPILED, f"{because}, and its compiled step with its packed one"
    if is_large(trace):
        raise CannotPackError(f"{_size_of(trace)}{why_not}")
    return PACKED, because + why_not


def _is_worth(member: Member, trial: Trial, worth: Worth) -> bool:
    parameters = sum(parameter.numel() for parameter in trained(member.model))
    return worth(member.trace, parameters, is_large(member.trace), trial.steps)


def is_large(trace: Trace) -> bool:
    """Whether the model is too large to gain by packing."""
    products, numbers = _an_operation(trace)
    return products > MOST_PRODUCTS or numbers > MOST_NUMBERS


def _an_operation(trace: Trace) -> tuple[float, float]:
    """Per operation, on average: multiplications in matrix products, and numbers computed."""
    return trace.products / len(trace.operations), trace.numbers / len(trace.operations)


def _size_of(trace: Trace) -> str:
    products, numbers = _an_operation(trace)
    return (
        f"it is large enough to fill a core alone (an operation of its step takes "
        f"{products / 1e3:.0f} thousand multiplications and {numbers / 1e3:.1f} thousand numbers; "
        f"packs gain up to {MOST_PRODUCTS / 1e3:.0f} and {MOST_NUMBERS / 1e3:.0f})"
    )


def _check(
    problem: Problem,
    data: Data,
    streams: Streams,
    params: str,
    trial: Trial,
    worth: Worth,
    curve_samples: int,
) -> list[Member]:
    """Two members of a pack, once packed and eager training agree.

    Raises:
        CannotPackError: they do not agree, or the model cannot be packed.
    """
    if products_depend_on_place():
        raise CannotPackError(f"on this machine {PLACE_MATTERS}")
    x, y = first_batch(data, trial.batch_size)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise CannotPackError("its samples are not pairs of tensors")
    seeds = [streams, Streams(streams.seed, streams.signature, streams.stage, streams.number + 1)]
    for seed in seeds:
        model, loss = _make(problem, seed, params)
        find_optimizer(problem.recipe(model, params))
        _check_model(model, loss)
    members = [Member.make(problem, data, seed, params, trial.batch_size) for seed in seeds]
    trace = members[0].trace
    step = _batched(members[0], x, y, data)
    if members[1].trace != trace:
        raise CannotPackError("its step is not the same for every seed")
    one, other = (problem.recipe(member.model, params) for member in members)
    if one != other:
        raise CannotPackError("its parameter groups are not the same for every seed")
    # Before the slow checks, which evaluate whole sets.
    if is_large(trace) and not _is_worth(members[0], trial, worth):
        raise CannotPackError(_size_of(trace))
    _check_memory(problem, members[0], data, trial)
    check_bits(problem, members, step, data, trial, curve_samples)
    check_agreement(problem, members, [_make(problem, seed, params) for seed in seeds], data, trial)
    return members


def _batched(member: Member, x: Tensor, y: Tensor, data: Data) -> StackedFunction:
    """The step of stacked replicas; if it cannot be packed, the message says which part is why."""
    try:
        return batched(member.trace, data.train.labels)
    except UnknownOperationsError as error:
        batch = (x, y)
        places = {n: places_of(member.model, member.loss, batch, n) for n in error.names}
        raise UnknownOperationsError(places) from None


def _make(problem: Problem, streams: Streams, params: str) -> tuple[nn.Module, nn.Module]:
    streams.seed_globals("init")
    _, model = problem.make_model(params)
    loss = problem.make_loss(params)
    model.train()
    return model, loss


# -- what the model contains ----------------------------------------------------------------------


def _check_model(model: nn.Module, loss: nn.Module) -> None:
    _check_memories(model, loss)
    for name, parameter in model.named_parameters():
        if type(parameter) is not nn.Parameter or parameter.dtype != torch.float32:
            raise CannotPackError(f"its parameter {name} is not an ordinary float32 tensor")
        if not parameter.is_contiguous():
            raise CannotPackError(f"its parameter {name} is not contiguous")
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:  # noqa: SLF001
            raise CannotPackError(f"its parameter {name} has hooks")
    if not trained(model):
        raise CannotPackError("all of its parameters are frozen")
    for part in _parts(model, loss):
        if any(getattr(part, "__dict__", {}).get(name) for name in _HOOKS):
            raise CannotPackError(
                f"{named_part(model, loss, part)} has hooks: do their work in forward()"
            )
    if isinstance(loss, nn.Module) and list(loss.parameters()):
        raise CannotPackError("the loss has parameters, which packs do not train")


def _check_memories(model: nn.Module, loss: nn.Module) -> None:
    """Check that no two tensors share memory; one tensor may have several names."""
    owners: dict[int, str] = {}
    named = [*model.named_parameters(), *model.named_buffers()]
    if isinstance(loss, nn.Module):
        named += [(f"{name} of the loss", buffer) for name, buffer in loss.named_buffers()]
    for name, tensor in named:
        memory = tensor.untyped_storage().data_ptr()
        if tensor.numel() and owners.setdefault(memory, name) != name:
            raise CannotPackError(
                f"{owners[memory]} and {name} are two tensors that share memory: use one tensor "
                "under two names, or copy one of them"
            )


def _parts(model: nn.Module, loss: Any) -> list[Any]:
    return [*model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else [loss])]


def _check_memory(problem: Problem, member: Member, data: Data, trial: Trial) -> None:
    """Check that a step changes only gradients and buffers, and is the same for every batch."""
    sizes = batches_of(data, trial.batch_size)
    before = _attributes(member), _random_states()
    evaluation = evaluation_of(problem, member)
    x, y = next(sizes)
    evaluated = evaluation.trace(x, y)
    for _ in range(CHECK_STEPS):
        if evaluation.trace(x, y) != evaluated:
            raise CannotPackError("its evaluation changes from batch to batch")
        x, y = next(sizes)
        trace, _, _ = record(member.model, member.loss, x, y)
        if trace != member.trace or repr(trace) != repr(member.trace):
            raise CannotPackError("its step changes from batch to batch")
    if _random_states() != before[1]:
        raise CannotPackError("it draws random numbers in each step")
    for part, old, new in zip(
        _parts(member.model, member.loss), before[0], _attributes(member), strict=True
    ):
        if old != new:
            where = named_part(member.model, member.loss, part)
            raise CannotPackError(
                f"its attributes change in each step, those of {where}: what changes belongs in "
                "buffers"
            )


def _random_states() -> str:
    numpy = np.random.get_state()  # noqa: NPY002 - a model may draw from it
    return repr((torch.get_rng_state().tolist(), [*map(repr, numpy)], random.getstate()))


def _attributes(member: Member) -> Any:
    return contents(_parts(member.model, member.loss))
