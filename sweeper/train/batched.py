"""A tape, run for many replicas at once: every tensor gets a leading dimension that counts them.

An operation is allowed by having a rule in `train/rules/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from sweeper.train.rules import RULES
from sweeper.train.tape import CannotPackError, Operation, Tape, Value, values_in

Step = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""From the tape's inputs to its results, each with a leading dimension that counts replicas."""


def batched(tape: Tape) -> Step:
    """The tape as one function for any number of replicas from two on.

    Raises:
        CannotPackError: an operation has no rule.
    """
    operations = _needed(tape)
    unknown = sorted({op.name for op in operations} - RULES.keys())
    if unknown:
        raise CannotPackError(f"it computes {', '.join(map(_shown, unknown))}")
    return _compiled(tape, operations)


def _shown(name: str) -> str:
    return name.removeprefix("aten.").removesuffix(".default")


def _needed(tape: Tape) -> list[Operation]:
    """What the results depend on."""
    wanted = set(tape.results)
    kept: list[Operation] = []
    for operation in reversed(tape.operations):
        if wanted & set(operation.results):
            kept.append(operation)
            wanted.update(values_in((operation.arguments, operation.options)))
    return kept[::-1]


def _compiled(tape: Tape, operations: list[Operation]) -> Step:
    """The operations as one Python function, since a loop over them would cost as much as they."""
    names = _Names(tape, operations)
    lines = [f"def step(inputs):\n  {''.join(f'v{n}, ' for n in range(tape.inputs))} = inputs"]
    last = {n: place for place, op in enumerate(operations) for n in names.read(op)}
    ends = {names.of(n) for n in tape.results}
    for place, operation in enumerate(operations):
        if operation.results[0] in names.same:
            continue
        arguments = [names.text(argument) for argument in operation.arguments]
        arguments += [f"{key}={names.text(value)}" for key, value in operation.options]
        kept = [f"v{n}" if n in last or n in ends else "_" for n in operation.results]
        results = f"{', '.join(kept)}{',' * (operation.many and len(kept) == 1)}"
        rule = names.constant(RULES[operation.name])
        lines.append(f"  {results} = {rule}({', '.join(arguments)})")
        over = [n for n in names.read(operation) if last[n] == place and n not in ends]
        lines += [f"  v{n} = None" for n in over if n >= tape.inputs]
    ending = ", ".join(f"v{names.of(n)}" for n in tape.results)
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
        return {self.of(n) for n in values_in((operation.arguments, operation.options))}

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
