"""A tape, run for many replicas at once: every tensor gets a leading dimension that counts them.

An operation is allowed by having a rule here, and a rule may be here only where its bits for one
replica depend neither on how many replicas there are (two or more) nor on which place it has among
them: `tests/test_batched.py` holds every rule to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.tape import CannotPackError, Operation, Tape, Value

aten: Any = torch.ops.aten

Step = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""From stacked parameters, x and y: the losses, shape (replicas,), and the stacked gradients."""

WHOLE = 64
"""Numbers that fill whole vectors on every processor: the scalars left over at an end are computed
by other functions, whose last bits differ."""

NONE, MEAN = 0, 1
"""torch's codes for a loss's reduction."""


def _later(dim: int) -> int:
    return dim + 1 if dim >= 0 else dim


def _dims(x: Tensor, dims: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(_later(dim) for dim in dims) if dims else tuple(range(1, x.ndim))


def _aligned(x: Any, y: Any) -> tuple[Any, Any]:
    """Both with as many dimensions, so that they are broadcast replica by replica."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.ndim == y.ndim:
        return x, y
    rank = max(x.ndim, y.ndim)
    return _raised(x, rank), _raised(y, rank)


def _raised(x: Tensor, rank: int) -> Tensor:
    return x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:])


def _in_whole_vectors(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An elementwise operation on tensors of one shape, so that no scalars are left over."""

    def apply(*values: Any, **options: Any) -> Tensor:
        first: Tensor = values[0]
        count = first.numel()
        rest = -count % WHOLE
        if not rest:
            tensors = [x.contiguous() if isinstance(x, Tensor) else x for x in values]
            return operation(*tensors, **options)
        padded = [
            torch.nn.functional.pad(x.reshape(-1), (0, rest)) if isinstance(x, Tensor) else x
            for x in values
        ]
        return operation(*padded, **options)[:count].view(first.shape)

    return apply


_exp, _log = _in_whole_vectors(torch.exp), _in_whole_vectors(torch.log)


def _pairwise(operation: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: operation(*_aligned(x, y))


def _expand(x: Tensor, size: Sequence[int]) -> Tensor:
    return _raised(x, len(size) + 1).expand(len(x), *size)


def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(len(x), *size)


def _sum(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    # In one order of memory, since torch adds up in the order in which it lies.
    return x.contiguous().sum(_dims(x, dims), keepdim) if x.ndim > 1 else x


def _mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    dims = [dim % (x.ndim - 1) for dim in dims] if dims else range(x.ndim - 1)
    count = math.prod(x.shape[dim + 1] for dim in dims)
    return _sum(x, list(dims), keepdim) / count


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.baddbmm(_raised(bias, 3), x, weight)


def _t(x: Tensor) -> Tensor:
    return x.transpose(1, 2) if x.ndim == 3 else x


def _log_softmax(x: Tensor, dim: int, _half: bool) -> Tensor:
    # From simple operations: torch's own leaves its vectors where a row is short, as classes are.
    dim = _later(dim)
    shifted = x - x.amax(dim, keepdim=True)
    total = _exp(shifted).sum(dim, keepdim=True)
    return shifted - _log(total)


def _log_softmax_backward(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
    total = grad.contiguous().sum(_later(dim), keepdim=True)
    return grad - _exp(output) * total


def _nll(x: Tensor, y: Tensor, weight: None, reduction: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Losses of shape (replicas,), and how many samples count."""
    _only_mean_of_rows(x, weight, reduction)
    flat, labels = x.reshape(-1, x.shape[-1]), y.reshape(-1)
    each, _ = aten.nll_loss_forward(flat, labels, None, NONE, ignored)
    counted = (y != ignored).sum(1).to(x.dtype)
    return each.view(y.shape).sum(1) / counted, counted


def _nll_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    weight: None,
    reduction: int,
    ignored: int,
    counted: Tensor,
) -> Tensor:
    _only_mean_of_rows(x, weight, reduction)
    flat, labels = x.reshape(-1, x.shape[-1]), y.reshape(-1)
    each = (grad / counted).unsqueeze(1).expand(y.shape).reshape(-1)
    total = each.new_empty(())
    found: Tensor = aten.nll_loss_backward(each, flat, labels, None, NONE, ignored, total)
    return found.view(x.shape)


def _only_mean_of_rows(x: Tensor, weight: None, reduction: int) -> None:
    if x.ndim != 3 or weight is not None or reduction != MEAN:
        raise CannotPackError("its cross entropy is not a plain mean over the samples of a batch")


def _mse(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    x, y = _aligned(x, y)
    difference = x - y
    squares = difference * difference
    return squares if reduction == NONE else _reduced(squares, reduction)


def _reduced(x: Tensor, reduction: int) -> Tensor:
    return _mean(x) if reduction == MEAN else _sum(x)


def _mse_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    x, y = _aligned(x, y)
    difference = x - y
    scale = 2 / math.prod(difference.shape[1:]) if reduction == MEAN else 2.0
    return difference * scale * _raised(grad, difference.ndim)


def _prelu_backward(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = _aligned(x, weight)
    return aten._prelu_kernel_backward(x, weight, grad)  # type: ignore[no-any-return]  # noqa: SLF001


RULES: Mapping[str, Callable[..., Any]] = {
    # Another look at the same numbers.
    "aten.t.default": _t,
    "aten.transpose.int": lambda x, one, other: x.transpose(_later(one), _later(other)),
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.expand.default": _expand,
    "aten.unsqueeze.default": lambda x, dim: x.unsqueeze(_later(dim)),
    "aten.squeeze.dim": lambda x, dim: x.squeeze(_later(dim)),
    "aten.detach.default": lambda x: x,
    "aten.ones_like.default": lambda x, **_: torch.ones_like(x),
    # Products of matrices.
    "aten.addmm.default": _addmm,
    "aten.mm.default": torch.bmm,
    # Exact to the last bit, wherever a number stands.
    "aten.add.Tensor": _pairwise(torch.add),
    "aten.sub.Tensor": _pairwise(torch.sub),
    "aten.mul.Tensor": _pairwise(torch.mul),
    "aten.div.Tensor": _pairwise(torch.div),
    "aten.div.Scalar": torch.div,
    "aten.neg.default": torch.neg,
    "aten.relu.default": torch.relu,
    "aten.relu_.default": torch.relu,
    "aten.threshold_backward.default": aten.threshold_backward,
    "aten.hardtanh.default": aten.hardtanh,
    "aten.hardtanh_backward.default": aten.hardtanh_backward,
    "aten.leaky_relu.default": aten.leaky_relu,
    "aten.leaky_relu_backward.default": aten.leaky_relu_backward,
    "aten._prelu_kernel.default": _pairwise(aten._prelu_kernel),  # noqa: SLF001
    "aten._prelu_kernel_backward.default": _prelu_backward,
    # Elementwise, by approximations of which torch has two.
    "aten.tanh.default": _in_whole_vectors(torch.tanh),
    "aten.tanh_backward.default": _in_whole_vectors(aten.tanh_backward),
    "aten.sigmoid.default": _in_whole_vectors(torch.sigmoid),
    "aten.sigmoid_backward.default": _in_whole_vectors(aten.sigmoid_backward),
    "aten.silu.default": _in_whole_vectors(aten.silu),
    "aten.silu_backward.default": _in_whole_vectors(aten.silu_backward),
    "aten.gelu.default": _in_whole_vectors(aten.gelu),
    "aten.gelu_backward.default": _in_whole_vectors(aten.gelu_backward),
    "aten.elu.default": _in_whole_vectors(aten.elu),
    "aten.elu_backward.default": _in_whole_vectors(aten.elu_backward),
    "aten.softplus.default": _in_whole_vectors(aten.softplus),
    "aten.softplus_backward.default": _in_whole_vectors(aten.softplus_backward),
    # Sums within a replica, and losses.
    "aten.sum.dim_IntList": _sum,
    "aten.sum.default": _sum,
    "aten.mean.dim": _mean,
    "aten.mean.default": _mean,
    "aten._log_softmax.default": _log_softmax,
    "aten._log_softmax_backward_data.default": _log_softmax_backward,
    "aten.nll_loss_forward.default": _nll,
    "aten.nll_loss_backward.default": _nll_backward,
    "aten.mse_loss.default": _mse,
    "aten.mse_loss_backward.default": _mse_backward,
}
"""By operation: what it is for stacked replicas."""


def batched(tape: Tape) -> Step:
    """The tape as one function for any number of replicas from two on.

    Raises:
        CannotPackError: an operation has no rule.
    """
    unknown = sorted({op.name for op in tape.operations} - RULES.keys())
    if unknown:
        raise CannotPackError(f"it computes {', '.join(map(_shown, unknown))}")
    operations = _needed(tape)
    return _compiled(tape, operations)


def _shown(name: str) -> str:
    return name.removeprefix("aten.").removesuffix(".default")


def _needed(tape: Tape) -> list[Operation]:
    """What losses and gradients depend on."""
    wanted = {tape.loss, *tape.gradients}
    kept: list[Operation] = []
    for operation in reversed(tape.operations):
        if wanted & set(operation.results):
            kept.append(operation)
            wanted.update(_values((operation.arguments, operation.options)))
    return kept[::-1]


def _values(found: Any) -> list[int]:
    if isinstance(found, Value):
        return [found.number]
    return [n for item in found for n in _values(item)] if isinstance(found, tuple) else []


def _compiled(tape: Tape, operations: list[Operation]) -> Step:
    """The operations as one Python function, since a loop over them would cost as much as they."""
    names = _Names(tape, operations)
    inputs = tape.parameters + 2
    lines = [f"def step(inputs):\n  {''.join(f'v{n}, ' for n in range(inputs))} = inputs"]
    last = {n: place for place, op in enumerate(operations) for n in names.read(op)}
    ends = {names.of(n) for n in (tape.loss, *tape.gradients)}
    for place, operation in enumerate(operations):
        if operation.results[0] in names.same:
            continue
        arguments = [names.text(argument) for argument in operation.arguments]
        arguments += [f"{key}={names.text(value)}" for key, value in operation.options]
        results = ", ".join(f"v{number}" for number in operation.results)
        rule = names.constant(RULES[operation.name])
        lines.append(f"  {results} = {rule}({', '.join(arguments)})")
        over = [n for n in names.read(operation) if last[n] == place and n not in ends]
        lines += [f"  v{n} = None" for n in over if n >= inputs]
    ending = ", ".join(f"v{names.of(n)}" for n in (tape.loss, *tape.gradients))
    lines.append(f"  return ({ending},)")
    exec("\n".join(lines), names.space)  # noqa: S102 - names and numbers only, written just above
    step: Step = names.space["step"]
    return step


class _Names:
    """What stands for a value or a constant in the compiled function."""

    def __init__(self, tape: Tape, operations: list[Operation]) -> None:
        del tape
        self.space: dict[str, Any] = {}
        self.same: dict[int, int] = {}
        turned: dict[int, int] = {}
        for operation in operations:
            result = operation.results[0]
            if operation.name == "aten.detach.default":
                self.same[result] = self.of(operation.arguments[0].number)
            elif operation.name == "aten.t.default":
                source = self.of(operation.arguments[0].number)
                if source in turned:  # turned twice it is what it was
                    self.same[result] = turned[source]
                else:
                    turned[result] = source

    def of(self, number: int) -> int:
        return self.same.get(number, number)

    def read(self, operation: Operation) -> set[int]:
        if operation.results[0] in self.same:
            return set()
        return {self.of(n) for n in _values((operation.arguments, operation.options))}

    def text(self, argument: Any) -> str:
        if isinstance(argument, Value):
            return f"v{self.of(argument.number)}"
        if isinstance(argument, tuple):
            return f"({''.join(f'{self.text(item)}, ' for item in argument)})"
        return self.constant(argument)

    def constant(self, value: Any) -> str:
        name = f"c{len(self.space)}"
        self.space[name] = value
        return name
