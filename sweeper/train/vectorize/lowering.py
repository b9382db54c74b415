"""Runs a trace for many replicas at once: every tensor gets a leading dimension of replicas.

An operation is allowed if it has a rule in `train/vectorize/rules/`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules import RULES
from sweeper.train.vectorize.rules.losses import CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD
from sweeper.train.vectorize.trace import CannotPackError, Operation, Trace, Value, values_in

_AT_ONCE = 1 << 20
"""Labels that are checked at once."""

StackedFunction = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""Maps the trace's inputs to its results, each with a leading dimension of replicas."""


class UnknownOperationsError(CannotPackError):
    """Operations without a rule, each with its place in the code if known."""

    def __init__(self, places: Mapping[str, str]) -> None:
        shown = [f"{_shown(name)}{where and f' {where}'}" for name, where in places.items()]
        super().__init__(f"it computes {', '.join(shown)}; packs have no rule for that")
        self.names = list(places)


def batched(
    trace: Trace,
    labels: Tensor | None = None,
    instead: Mapping[str, Callable[..., Any]] | None = None,
) -> StackedFunction:
    """The trace as one function for two or more replicas.

    `labels` are all labels of the data, if known: if none of them is ignored, cross entropy takes a
    faster path with the same bits.  Rules in `instead` replace those in `RULES`.

    Raises:
        UnknownOperationsError: an operation has no rule.
    """
    rules = {**RULES, **instead} if instead else RULES
    operations = operations_of(trace)
    unknown = sorted({op.name for op in operations} - rules.keys())
    if unknown:
        raise UnknownOperationsError(dict.fromkeys(unknown, ""))
    if labels is not None:
        operations = [_counting_all(op, Value(trace.inputs - 2), labels) for op in operations]
    return _compiled(trace, operations, rules)


def operations_of(trace: Trace) -> list[Operation]:
    """The operations that are run: those that the results depend on, some of them fused."""
    return _joined(_needed(trace), trace.results)


def _counting_all(operation: Operation, given: Value, labels: Tensor) -> Operation:
    """The operation told that every label counts, if it is a loss of `given` that ignores none."""
    if operation.name != CROSS_ENTROPY or operation.arguments[1] != given:
        return operation
    *others, left_out = operation.arguments
    # In parts, since labels may take much of the memory.
    parts = torch.split(labels.flatten(), _AT_ONCE)
    counts = not any((part == left_out).any() for part in parts)
    return replace(operation, arguments=(*others, None)) if counts else operation


def _shown(name: str) -> str:
    return name.removeprefix("aten.").removesuffix(".default")


def _needed(trace: Trace) -> list[Operation]:
    """The operations that the results depend on."""
    wanted = set(trace.results)
    kept: list[Operation] = []
    for operation in reversed(trace.operations):
        if wanted & set(operation.results):
            kept.append(operation)
            wanted.update(_read(operation))
    return kept[::-1]


_OF_SOFTMAX = "aten._log_softmax_backward_data.default"
_OF_LOSS = {"aten.nll_loss_backward.default", "aten.nll_loss2d_backward.default"}


def _joined(operations: list[Operation], results: Collection[int]) -> list[Operation]:
    """Fuse the two operations of cross entropy's backward pass if nothing else reads their link.

    That avoids a gradient that is zero for all classes but one, and reuses the labels that the
    loss has prepared.
    """
    looks = Counter([*results, *(n for op in operations for n in _read(op))])
    maker = {n: op for op in operations for n in op.results}
    unused = itertools.count(1 + max(maker, default=0))
    instead: dict[int, list[Operation]] = {}
    for operation in operations:
        if operation.name != _OF_SOFTMAX or operation.arguments[2] != 1:
            continue
        middle, logs = _read(operation)
        back = maker.get(middle)
        if back is None or back.name not in _OF_LOSS or looks[middle] > 1:
            continue
        grad, x, *_, reduction, _, counted = back.arguments
        loss = maker[counted.number]
        if _origin(logs, maker) != x.number or loss.results[0] in instead:
            continue
        labels, counts = Value(next(unused)), Value(next(unused))
        shared = (*loss.results, labels.number, counts.number)
        joined = (grad, x, reduction, counted, labels, counts)
        instead[loss.results[0]] = [replace(loss, name=CROSS_ENTROPY, results=shared)]
        instead[middle] = []
        instead[operation.results[0]] = [
            replace(operation, name=CROSS_ENTROPY_BACKWARD, arguments=joined)
        ]
    return [new for op in operations for new in instead.get(op.results[0], [op])]


def _origin(value: int, maker: Mapping[int, Operation]) -> int:
    """The value that this one was detached from."""
    while value in maker and maker[value].name == "aten.detach.default":
        (value,) = _read(maker[value])
    return value


def _read(operation: Operation) -> list[int]:
    return values_in((operation.arguments, operation.options))


def _compiled(
    trace: Trace, operations: list[Operation], rules: Mapping[str, Callable[..., Any]]
) -> StackedFunction:
    """The operations as one Python function: a loop over them would double the cost."""
    names = _Names(operations)
    lines = [f"def step(inputs):\n  {''.join(f'v{n}, ' for n in range(trace.inputs))} = inputs"]
    last = {n: place for place, op in enumerate(operations) for n in names.read(op)}
    ends = {names.of(n) for n in trace.results}
    for place, operation in enumerate(operations):
        if operation.results[0] in names.same or not {*operation.results} & {*last, *ends}:
            continue
        arguments = [names.text(argument) for argument in operation.arguments]
        arguments += [f"{key}={names.text(value)}" for key, value in operation.options]
        kept = [f"v{n}" if n in last or n in ends else "_" for n in operation.results]
        results = f"{', '.join(kept)}{',' * (operation.many and len(kept) == 1)}"
        rule = names.constant(rules[operation.name])
        lines.append(f"  {results} = {rule}({', '.join(arguments)})")
        over = [n for n in names.read(operation) if last[n] == place and n not in ends]
        lines += [f"  v{n} = None" for n in over if n >= trace.inputs]
    ending = ", ".join(f"v{names.of(n)}" for n in trace.results)
    lines.append(f"  return ({ending},)")
    exec("\n".join(lines), names.space)  # noqa: S102 - names and numbers only, written just above
    step: StackedFunction = names.space["step"]
    return step


class _Names:
    """Names of values and constants in the compiled function."""

    def __init__(self, operations: list[Operation]) -> None:
        self.space: dict[str, Any] = {}
        self.same: dict[int, int] = {}
        turned: dict[int, int] = {}
        for operation in operations:
            result = operation.results[0]
            if operation.name == "aten.detach.default":
                self.same[result] = self.of(operation.arguments[0].number)
            elif operation.name == "aten.t.default":
                source = self.of(operation.arguments[0].number)
                if source in turned:  # transposed twice
                    self.same[result] = turned[source]
                else:
                    turned[result] = source

    def of(self, number: int) -> int:
        return self.same.get(number, number)

    def read(self, operation: Operation) -> set[int]:
        if operation.results[0] in self.same:
            return set()
        return {self.of(n) for n in _read(operation)}

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
