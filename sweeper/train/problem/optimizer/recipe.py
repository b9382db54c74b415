"""How gradients become an update: optimiser, parameter groups and clipping, as plain data.

It is all that a pack's step needs to know of the optimiser.  Its `repr` is part of a native step's
key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Options = tuple[tuple[str, Any], ...]
"""An optimiser's options, sorted by name."""


@dataclass(frozen=True, slots=True)
class Clipping:
    """Gradient clipping: of the norm of all gradients, or of each number."""

    norm: float | None = None
    """The largest norm of all gradients together."""
    value: float | None = None
    """The largest absolute value of a number."""

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of all parameters of an optimiser, as torch does."""
        if self.norm is None and self.value is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.norm)
        if self.value is not None:
            nn.utils.clip_grad_value_(parameters, self.value)


def read_bound(name: str, value: Any) -> float | None:
    """Read a clipping bound of a problem.

    Raises:
        ValueError: it is no positive number.
    """
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}; expected a positive number, such as 1.0")
    return float(value)


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters with the same update settings."""

    options: Options = ()
    """Options beside the learning rate."""
    parameters: tuple[int, ...] | None = None
    """Their places among the trained parameters; None: all."""
    scale: float = 1.0
    """Factor of their learning rate, relative to the tuned one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the parameters of a model are updated."""

    name: str
    """The optimiser's name: lower-case for those of torch."""
    groups: tuple[Group, ...] = (Group(),)
    clipping: Clipping = field(default_factory=Clipping)

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> Recipe:
        """A recipe that updates all parameters alike."""
        return cls(name, (Group(ordered(options)),))


def ordered(options: Mapping[str, Any]) -> Options:
    """Options sorted by name, with lists as tuples."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in sorted(options.items())
    )
