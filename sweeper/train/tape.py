"""A tape: what one step of a model's training computes, as a list of torch's own operations.

It is recorded while the plain step runs, forward and backward, so it holds what really happened:
blocks without gradients, custom functions and hooks included.  Whatever a tape cannot say (a tensor
that is neither parameter nor sample, say) is a reason to train plain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class CannotPackError(Exception):
    """Why replicas of this model are trained one by one; for people."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor on the tape: parameters come first, then x and y, then what was computed."""

    number: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its arguments hold `Value`s where they were tensors."""

    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    results: tuple[int, ...]
    many: bool
    """Whether it gives a tuple."""


@dataclass(frozen=True, slots=True)
class Tape:
    """One step of one replica; the same for every replica of a point that can be packed."""

    parameters: int
    operations: tuple[Operation, ...]
    loss: int
    gradients: tuple[int, ...]
    products: int
    """Multiplications in matrix products: what the step costs where it is not overhead."""
    numbers: int
    """How many numbers the step computes: what it holds in memory at most."""

    @property
    def digest(self) -> str:
        """Equal for equal tapes, in every process."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def record(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Tensor, y: Tensor
) -> tuple[Tape, Tensor, list[Tensor]]:
    """The tape of one step on the batch (x, y), its loss, and its gradients; nothing is updated.

    Raises:
        CannotPackError: the step cannot be written down.
    """
    parameters = list(model.parameters())
    recorder = _Recorder([*parameters, x, y])
    with recorder:
        value = loss(model(x), y)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    if recorder.reason:
        raise CannotPackError(recorder.reason)
    if any(gradient is None for gradient in gradients):
        raise CannotPackError("a parameter takes no part in the loss")
    tape = Tape(
        len(parameters),
        tuple(recorder.operations),
        recorder.number_of(value),
        tuple(recorder.number_of(gradient) for gradient in gradients),
        recorder.products,
        recorder.numbers,
    )
    return tape, value.detach(), list(gradients)


def record_evaluation(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Tensor, y: Tensor
) -> Tape:
    """The tape of a model's loss on a batch, without gradients: its output is in their place.

    Raises:
        CannotPackError: the evaluation cannot be written down.
    """
    parameters = list(model.parameters())
    recorder = _Recorder([*parameters, x, y])
    with recorder:
        output = model(x)
        value = loss(output, y)
    if recorder.reason:
        raise CannotPackError(f"evaluating it, {recorder.reason}")
    if not isinstance(output, Tensor) or len(output) != len(y):
        raise CannotPackError("its output is not a tensor with a row for each sample")
    return Tape(
        len(parameters),
        tuple(recorder.operations),
        recorder.number_of(value),
        (recorder.number_of(output),),
        recorder.products,
        recorder.numbers,
    )


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.reason = ""
        self.products = self.numbers = 0
        # Tensors are told apart by identity, so every one of them is kept alive.
        self._kept = list(inputs)
        self._numbers = {id(tensor): place for place, tensor in enumerate(inputs)}
        self._next = len(self._numbers)

    def number_of(self, tensor: Tensor) -> int:
        number = self._numbers.get(id(tensor))
        if number is None:
            raise CannotPackError("the loss or a gradient is not computed by torch's operations")
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        name = str(func)
        arguments = tuple(self._written(argument, name) for argument in args)
        options = tuple((key, self._written(kwargs[key], name)) for key in sorted(kwargs))
        found = func(*args, **kwargs)
        many = isinstance(found, tuple | list)
        results = found if many else (found,)
        if name in ("aten.mm.default", "aten.addmm.default"):
            self.products += found.numel() * args[-2].shape[-1]
        numbers = tuple(self._new(result, name) for result in results)
        self.operations.append(Operation(name, arguments, options, numbers, many))
        return found

    def _new(self, result: Any, name: str) -> int:
        if not isinstance(result, Tensor):
            self._refuse(f"its step depends on the values of its data ({name})")
            return -1
        # An operation in place gives what it was given: from here on that name means the result.
        self._numbers[id(result)] = self._next
        self._kept.append(result)
        self._next += 1
        self.numbers += result.numel()
        return self._next - 1

    def _written(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            number = self._numbers.get(id(value))
            if number is None:
                self._refuse(f"it uses a tensor that is neither parameter nor sample ({name})")
            return Value(-1 if number is None else number)
        if isinstance(value, list | tuple):
            return tuple(self._written(item, name) for item in value)
        return value

    def _refuse(self, reason: str) -> None:
        # Kept, not raised: what runs is the user's code, which may swallow an exception.
        self.reason = self.reason or reason
