"""Traces: one training step of a model, recorded as a list of torch's operations.

A trace is recorded while an eager step runs, forward and backward, so it includes blocks without
gradients, custom functions and hooks.  What it cannot express (such as a tensor that is neither the
model's own nor a sample) is a reason to train eagerly.  The file is long because a trace and its
recorder share every detail of what an operation is.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sweeper.train.vectorize.places import Places
from sweeper.train.vectorize.random import Mode, RandomNumbers, is_random


class CannotPackError(Exception):
    """Why replicas of this model are trained eagerly, one by one; shown to users."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the trace, by number: inputs first, then results."""

    number: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; `Value`s stand for tensors in its arguments.

    A random operation has two more arguments in front: the replicas' keys, and its number among the
    random operations of the step.  A factory function has the keys in front, for the number of
    replicas.
    """

    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]
    results: tuple[int, ...]
    """The returned values, then those changed in place and not returned; -1 for a non-tensor."""
    many: bool
    """Whether it returns a tuple."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One replica's computation; the same for all replicas of a point that can be packed."""

    inputs: int
    """The number of input tensors; the last are the random keys."""
    random_count: int
    """The number of random operations; one that is recomputed counts once."""
    operations: tuple[Operation, ...]
    results: tuple[int, ...]
    """The numbers of the resulting values, in order."""
    products: int
    """Multiplications in matrix products: the cost of the step beside overhead."""
    numbers: int
    """Count of numbers that the step computes: its largest memory beside the inputs."""

    @property
    def digest(self) -> str:
        """Equal for equal traces in every process and release, since folders store it."""
        return hashlib.sha256(_written(self).encode()).hexdigest()


def _written(value: Any) -> str:
    """A trace as text for stored digests: it keeps the names that classes had at first."""
    match value:
        case Value():
            return f"Value(number={value.number!r})"
        case Operation():
            arguments, options = _written(value.arguments), _written(value.options)
            return (
                f"Operation(name={value.name!r}, arguments={arguments}, options={options}, "
                f"results={value.results!r}, many={value.many!r})"
            )
        case Trace():
            return (
                f"Tape(inputs={value.inputs!r}, draws={value.random_count!r}, "
                f"operations={_written(value.operations)}, results={value.results!r}, "
                f"products={value.products!r}, numbers={value.numbers!r})"
            )
        case tuple():
            return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
        case _:
            return repr(value)


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def held(model: nn.Module, loss: Any = None) -> list[Tensor]:
    """The model's frozen parameters, and all buffers of model and loss."""
    fixed = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    return [*fixed, *model.buffers(), *(loss.buffers() if isinstance(loss, nn.Module) else ())]


def record(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Tensor, y: Tensor
) -> tuple[Trace, Tensor, list[Tensor]]:
    """The trace of one step on the batch (x, y), its loss and its gradients; nothing is updated.

    The trace's inputs are the tensors of `trained` and `held`, x, y and keys; its results are the
    loss, the gradient of each trained parameter, and the tensors of `held` after the step.  Random
    numbers are those of the key 0; no generator's state changes.

    Raises:
        CannotPackError: the step cannot be recorded.
    """
    return _recorded(model, loss, x, y)[0]


def places_of(
    model: nn.Module, loss: Callable[[Any, Any], Any], batch: tuple[Tensor, Tensor], name: str
) -> str:
    """Where a step first computes an operation; empty if only in the backward pass.

    Raises:
        CannotPackError: the step cannot be recorded.
    """
    return _recorded(model, loss, *batch, wanted=name)[1]


def _recorded(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Tensor, y: Tensor, wanted: str = ""
) -> tuple[tuple[Trace, Tensor, list[Tensor]], str]:
    """As `record`, and the place of the wanted operation."""
    parameters, keys = trained(model), torch.zeros(1, dtype=torch.int64)
    before = held(model, loss)
    places = Places(model, loss, _OUTERMOST)
    random = RandomNumbers(keys)
    recorder = Recorder([*parameters, *before, x, y, keys], random, places, wanted)
    with _Kept(model, loss) as kept:
        with recorder.reading, random, recorder:
            value = loss(model(x), y)
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        kept.check()
        _check_used(model, gradients)
        if any(recorder.changed(parameter) for parameter in parameters):
            raise CannotPackError("its forward pass changes a trained parameter")
        after = held(model, loss)
        if len(after) != len(before):
            raise CannotPackError("buffers that were one tensor under two names become two tensors")
        trace = recorder.trace([value, *gradients, *after])
    return (trace, value.detach(), list(gradients)), recorder.place


_OUTERMOST = frozenset({"_recorded", "record_evaluation"})


def _check_used(model: nn.Module, gradients: Sequence[Tensor | None]) -> None:
    named = [name for name, value in model.named_parameters() if value.requires_grad]
    unused = [name for name, one in zip(named, gradients, strict=True) if one is None]
    if unused:
        raise CannotPackError(
            f"a parameter takes no part in the loss: {', '.join(unused[:4])}; remove or freeze it, "
            "or, if it is inside torch.utils.checkpoint, pass use_reentrant=False"
        )


def record_evaluation(
    model: nn.Module, loss: Callable[[Any, Any], Any], x: Tensor, y: Tensor
) -> Trace:
    """The trace of a model's loss on a batch, in the model's current mode, without gradients.

    Its inputs are those of a step; its results are the loss and each tensor of the output.

    Raises:
        CannotPackError: the evaluation cannot be recorded.
    """
    fixed, keys = held(model, loss), torch.zeros(1, dtype=torch.int64)
    inputs = [*trained(model), *fixed]
    random = RandomNumbers(keys)
    recorder = Recorder([*inputs, x, y, keys], random, Places(model, loss, _OUTERMOST))
    with _Kept(model, loss) as kept:
        with recorder.reading, random, recorder, torch.no_grad():
            output = model(x)
            value = loss(output, y)
        kept.check()
        outputs = tensors_of(output)
        trace = recorder.trace([value, *outputs, *held(model, loss)])
    if trace.random_count:
        raise CannotPackError("it draws random numbers when it is evaluated")
    end = 1 + len(outputs)
    if trace.results[end:] != tuple(range(len(trained(model)), len(inputs))):
        raise CannotPackError("its buffers change when it is evaluated")
    return replace(trace, results=trace.results[:end])


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of an output: one, or those in tuples, lists and dictionaries.

    Raises:
        CannotPackError: the output is something else.
    """
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if not isinstance(output, tuple | list):
        raise CannotPackError(f"its output is a {type(output).__name__}, not made of tensors")
    return [tensor for part in output for tensor in tensors_of(part)]


class _Kept:
    """Restores the buffers of a model and its loss on exit."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        wholes = [model, *([loss] if isinstance(loss, nn.Module) else ())]
        parts = [part for whole in wholes for part in whole.modules()]
        self._places = [(part, dict(part._buffers)) for part in parts]  # noqa: SLF001
        buffers = [buffer for whole in wholes for buffer in whole.buffers()]
        self._values = [(buffer, buffer.detach().clone()) for buffer in buffers]

    def __enter__(self) -> Self:
        return self

    def check(self) -> None:
        """Check that the buffers have kept their number, sizes and types."""
        for part, before in self._places:
            if _shapes(part._buffers) != _shapes(before):  # noqa: SLF001
                raise CannotPackError(f"the buffers of {type(part).__name__} change their size")

    def __exit__(self, *_: object) -> None:
        for part, before in self._places:
            part._buffers.clear()  # noqa: SLF001
            part._buffers.update(before)  # noqa: SLF001
        with torch.no_grad():
            for buffer, value in self._values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _shapes(buffers: Mapping[str, Tensor | None]) -> list[Any]:
    return [
        (name, None if buffer is None else (buffer.shape, buffer.dtype))
        for name, buffer in buffers.items()
    ]


class Recorder(Mode):  # type: ignore[no-untyped-call]
    """Records what torch computes from the given tensors; the last are the random keys."""

    def __init__(
        self, inputs: Sequence[Tensor], random: RandomNumbers, places: Places, wanted: str = ""
    ) -> None:
        """`random` numbers random operations; `places` finds the place of operation `wanted`."""
        super().__init__()
        self._places, self._wanted, self.place = places, wanted, ""
        self._operations: list[Operation] = []
        self._reason = ""
        self._inputs, self._random = len(inputs), random
        self._products = self._computed = 0
        # Tensors are compared by id, so every tensor is kept alive.
        self._kept: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._by_memory: dict[int, list[Tensor]] = {}
        for tensor in inputs:
            self._add(tensor)
        self._keys = Value(len(inputs) - 1)

    @property
    def reading(self) -> _Reading:
        """A mode to enter with the recorder: it detects reads of values without an operation."""
        return _Reading(self)

    def trace(self, results: Sequence[Tensor]) -> Trace:
        """The trace of these results.

        Raises:
            CannotPackError: it cannot be recorded.
        """
        if self._reason or self._random.reason:
            raise CannotPackError(self._reason or self._random.reason)
        numbers = [self._numbers.get(id(tensor)) for tensor in results]
        if None in numbers:
            raise CannotPackError("the loss or a gradient is not computed by torch's operations")
        return Trace(
            self._inputs,
            self._random.count,
            tuple(self._operations),
            tuple(number for number in numbers if number is not None),
            self._products,
            self._computed,
        )

    def changed(self, given: Tensor) -> bool:
        """Whether an input was changed in place."""
        number = self._numbers.get(id(given))
        return number is None or number >= self._inputs

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        name = _name_of(func)
        if name == self._wanted and not self.place:
            self.place = self._places.here()
        arguments = tuple(self._written(argument, name) for argument in args)
        options = tuple((key, self._written(kwargs[key], name)) for key in sorted(kwargs))
        changed = _changed(func, args, kwargs)
        found = func(*args, **kwargs)
        if is_random(func):
            arguments = (self._keys, self._random.last, *arguments)
        elif not values_in((arguments, options)):
            arguments = (self._keys, *arguments)
        many = isinstance(found, tuple | list)
        results = list(found) if many else [found]
        results += [tensor for tensor in changed if all(tensor is not one for one in results)]
        for tensor in changed:
            self._forget_views(tensor)
        numbers = tuple(self._new(result, name) for result in results)
        self._operations.append(Operation(name, arguments, options, numbers, many))
        self._products += _products(name, args, found)
        return found

    def _add(self, tensor: Tensor) -> int:
        # An operation in place returns its input: from here on that tensor is the result.
        number = len(self._kept)
        self._numbers[id(tensor)] = number
        self._kept.append(tensor)
        self._by_memory.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        return number

    def _new(self, result: Any, name: str) -> int:
        if result is None:  # a gradient that nobody asked for
            return -1
        if not isinstance(result, Tensor):
            self.read(name)
            return -1
        if result.untyped_storage().data_ptr() not in self._by_memory:  # not a view
            self._computed += result.numel()
        return self._add(result)

    def _forget_views(self, changed: Tensor) -> None:
        """Mark tensors that share memory with a changed one: the trace lacks their new values."""
        for tensor in self._by_memory.get(changed.untyped_storage().data_ptr(), ()):
            if tensor is not changed and tensor.numel():
                self._numbers.pop(id(tensor), None)

    def _written(self, value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            number = self._numbers.get(id(value))
            if number is None:
                self._refuse(f"it uses a tensor that is neither its own nor a sample ({name})")
            return Value(-1 if number is None else number)
        if isinstance(value, torch.Generator):
            self._refuse(f"it draws from a generator of its own ({name})")
        if isinstance(value, list | tuple):
            return tuple(self._written(item, name) for item in value)
        return value

    def read(self, how: str) -> None:
        """Note that values were read as Python numbers."""
        self._refuse(f"its step depends on the values of its data ({how})")

    def _refuse(self, reason: str) -> None:
        # Kept, not raised: user code is running and may swallow an exception.
        self._reason = self._reason or f"{reason} {self._places.here()}".strip()


class _Reading(TorchFunctionMode):
    """Detects `tolist` and the like, which read a tensor's memory without an operation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        name = getattr(func, "__name__", "")
        if name in _READ:
            self._recorder.read(name)
        return func(*args, **(kwargs or {}))


_READ = frozenset({"tolist", "numpy", "__array__", "__dlpack__"})


def values_in(found: Any) -> list[int]:
    """The numbers of the values in an operation's arguments."""
    if isinstance(found, Value):
        return [found.number]
    return [n for item in found for n in values_in(item)] if isinstance(found, tuple) else []


def _changed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that an operation changes in place."""
    if _name_of(func) == "aten.native_batch_norm.default":  # its signature does not show it
        return [tensor for tensor in args[3:5] if args[5] and tensor is not None]
    found = [
        args[place] if place < len(args) else kwargs.get(name)
        for place, name in _written_arguments(func)
    ]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


# Each replica's step is recorded, and torch makes these anew whenever they are asked for.


@functools.lru_cache(maxsize=1_000)
def _name_of(func: Any) -> str:
    return str(func)


@functools.lru_cache(maxsize=1_000)
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """The places and names of the arguments that an operation changes in place."""
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)  # noqa: SLF001
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _products(name: str, args: Sequence[Any], found: Any) -> int:
    """Multiplications in a matrix product or a convolution."""
    if name in {"aten.mm.default", "aten.addmm.default", "aten.bmm.default"}:
        return int(found.numel() * args[-2].shape[-1])
    if name == "aten.convolution.default":
        return int(found.numel() * args[1][0].numel())
    if name == "aten.convolution_backward.default":
        return int(args[0].numel() * args[2][0].numel() * sum(args[-1][:2]))
    if name.startswith("aten._scaled_dot_product_flash_attention_for_cpu"):
        query, key = args[:2] if len(args) < 6 else args[1:3]
        return int(query.numel() * key.shape[-2] * (2 if len(args) < 6 else 4))
    return 0
