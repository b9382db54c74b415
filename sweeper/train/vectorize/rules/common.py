"""What rules are made of: dimensions beside the first, which counts replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WHOLE = 64
"""Numbers that fill whole vectors on every processor: the scalars left over at an end are computed
by other functions, whose last bits differ."""

VECTOR = 16
"""Numbers in the widest vector of a processor."""

NONE, MEAN = 0, 1
"""torch's codes for a loss's reduction."""


def later(dim: int) -> int:
    """A replica's dimension as one of the stack."""
    return dim + 1 if dim >= 0 else dim


def dims_of(x: Tensor, dims: Sequence[int] | None) -> tuple[int, ...]:
    """A replica's dimensions (none: all of them) as those of the stack."""
    return tuple(later(dim) for dim in dims) if dims else tuple(range(1, x.ndim))


def raised(x: Tensor, rank: int) -> Tensor:
    """With so many dimensions."""
    return x if x.ndim == rank else x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:])


def is_short(x: Tensor) -> bool:
    """Whether the last dimension is shorter than a vector."""
    return x.shape[-1] < VECTOR


def lies_turned(x: Tensor) -> bool:
    """Whether columns lie below each other in memory, where rows usually do."""
    return x.ndim > 2 and not x.is_contiguous() and x.mT.is_contiguous()


def aligned(*values: Any) -> list[Any]:
    """Tensors with as many dimensions, so that they are broadcast replica by replica."""
    rank = max(x.ndim for x in values if isinstance(x, Tensor))
    return [raised(x, rank) if isinstance(x, Tensor) else x for x in values]


def together(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on tensors that are broadcast to one shape."""
    return lambda *values: operation(*aligned(*values))


def in_whole_vectors(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An elementwise operation on tensors of one shape, so that no scalars are left over."""

    def apply(*values: Any, **options: Any) -> Tensor:
        first: Tensor = values[0]
        count = first.numel()
        rest = -count % WHOLE
        if len(values) == 1 and lies_turned(first):
            return apply(first.mT, **options).mT
        if not rest:
            tensors = [x.contiguous() if isinstance(x, Tensor) else x for x in values]
            return operation(*tensors, **options)
        padded = [
            torch.nn.functional.pad(x.reshape(-1), (0, rest)) if isinstance(x, Tensor) else x
            for x in values
        ]
        return operation(*padded, **options)[:count].view(first.shape)

    return apply


def total(x: Tensor, dims: Sequence[int] | None = None, *, keepdim: bool = False) -> Tensor:
    """The sum over a replica's dimensions, or over all."""
    if x.ndim == 1:
        return x
    # Nowhere one piece, since torch adds up in the order in which it lies.
    return (x if lies_turned(x) else x.contiguous()).sum(dims_of(x, dims), keepdim)
