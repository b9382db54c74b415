"""Trials that begin from others: what they take from their parent.

They take weights, buffers and the state of the optimiser.  Rates, weight decay and all else are
those of their own point, and their random streams are their own.  A parent is read from the
checkpoint of its end, whatever its execution mode and that of the trials that begin from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.train.vectorize.optimizers import Optimizer
from sweeper.train.vectorize.trace import CannotPackError, trained


class ParentError(Exception):
    """A trial cannot begin from its parent."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """A trial at its end, for others to begin from."""

    optimizer: str
    """The name of its optimiser."""
    steps: int
    """Steps that its optimiser has made, those of its own parents included."""
    tensors: Mapping[str, Tensor]
    """Its parameters and buffers by name (see `named_tensors`)."""
    states: Mapping[str, Mapping[str, Any]]
    """By name of a parameter: the optimiser's state of it, by torch's names."""

    def payload(self) -> dict[str, Any]:
        """As it is saved: `Inheritance(**payload)` reads it."""
        return {name: getattr(self, name) for name in self.__slots__}


def named_tensors(full: nn.Module, model: nn.Module, loss: Any) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of both models and the loss, each once, by name."""
    seen: set[int] = set()
    for part, whole in (("full", full), ("model", model), ("loss", loss)):
        if not isinstance(whole, nn.Module):
            continue
        for name, tensor in (*whole.named_parameters(), *whole.named_buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{part}.{name}", tensor


def take_tensors(inherited: Inheritance, optimizer: str, own: Mapping[str, Tensor]) -> None:
    """Set a trial's tensors, by name, to those of its parent; `optimizer` is the name of its own.

    Frozen parameters and buffers may be shared with other models: they are written only if they
    differ.

    Raises:
        ParentError: the optimiser is another one, or a tensor has another shape or type.
    """
    if optimizer != inherited.optimizer:
        raise ParentError(
            f"its optimiser is {optimizer}, its parent's is {inherited.optimizer}: a trial begins "
            "from one with the same optimiser, whose state it takes"
        )
    known = inherited.tensors
    for name in (*own, *known):
        ours, theirs = _kind(own.get(name)), _kind(known.get(name))
        if ours != theirs:
            raise ParentError(
                f"{name.partition('.')[2]} is {ours}, in its parent {theirs}: a trial begins from "
                "one whose tensors have the same names, shapes and types"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.requires_grad or not torch.equal(tensor, known[name]):
                tensor.copy_(known[name])


def _kind(tensor: Tensor | None) -> str:
    if tensor is None:
        return "not there"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


# -- one trial after the other --------------------------------------------------------------------


def states_of(
    optimizer: torch.optim.Optimizer, own: Mapping[str, Tensor]
) -> dict[str, Mapping[str, Any]]:
    """An optimiser's states, by name of their parameter in `own`."""
    names = {id(tensor): name for name, tensor in own.items()}
    return {names[id(parameter)]: state for parameter, state in optimizer.state.items()}


def take_states(
    inherited: Inheritance, optimizer: torch.optim.Optimizer, own: Mapping[str, Tensor]
) -> None:
    """Set an optimiser's states to those of the parent; its settings stay its own."""
    names = {id(tensor): name for name, tensor in own.items()}
    states: dict[int, dict[str, Any]] = {}
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for place, parameter in enumerate(parameters):
        found = inherited.states.get(names[id(parameter)])
        if found is not None:
            states[place] = {key: _copied(value) for key, value in found.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


# -- packs ----------------------------------------------------------------------------------------


def stacked_states(
    optimizer: Optimizer, names: Sequence[str], states: Sequence[Tensor], steps: int
) -> Mapping[str, Mapping[str, Any]]:
    """As `states_of`, of one member of a pack; `names` are of its trained parameters, in order."""
    found: dict[str, dict[str, Any]] = {}
    for (place, key), state in zip(optimizer.torch_states(len(names)), states, strict=True):
        found.setdefault(names[place], {})[key] = state
    for place, scalars in optimizer.torch_scalars(len(names), steps):
        own = {key: torch.tensor(value, dtype=torch.float32) for key, value in scalars.items()}
        found.setdefault(names[place], {}).update(own)
    return found


def unstacked_states(
    inherited: Inheritance, optimizer: Optimizer, names: Sequence[str]
) -> list[Tensor]:
    """The parent's states in the order of `Optimizer.start`.

    Raises:
        CannotPackError: it has other states than a pack keeps, or a parameter that its optimiser
            has not updated in every step.
    """
    for place, scalars in optimizer.torch_scalars(len(names), inherited.steps):
        for key, value in scalars.items():
            known = inherited.states.get(names[place], {}).get(key)
            if known is None or float(known) != float(torch.tensor(value, dtype=torch.float32)):
                raise CannotPackError(f"the {key} of its parent's optimiser is not that of a pack")
    try:
        return [
            inherited.states[names[place]][key] for place, key in optimizer.torch_states(len(names))
        ]
    except KeyError as error:
        raise CannotPackError(f"its parent's optimiser keeps no {error.args[0]}") from None


def trained_names(full: nn.Module, model: nn.Module, loss: Any) -> list[str]:
    """The names of a model's trained parameters, in the order of packs."""
    names = {id(tensor): name for name, tensor in named_tensors(full, model, loss)}
    return [names[id(parameter)] for parameter in trained(model)]
