"""Helpers for rules; the first dimension of a stacked tensor counts replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WHOLE = 64
"""A multiple of every processor's vector length: numbers left over at the end are computed by
scalar functions, whose last bits differ."""

VECTOR = 16
"""Numbers in a processor's widest vector."""

NONE, MEAN = 0, 1
"""torch's codes for the reduction of a loss."""


def later(dim: int) -> int:
    """A replica's dimension as a dimension of the stack."""
    return dim + 1 if dim >= 0 else dim


def dims_of(x: Tensor, dims: Sequence[int] | None) -> tuple[int, ...]:
    """A replica's dimensions (none: all) as dimensions of the stack."""
    return tuple(later(dim) for dim in dims) if dims else tuple(range(1, x.ndim))


def raised(x: Tensor, rank: int) -> Tensor:
    """Insert dimensions of size 1 after the first, up to this rank."""
    return x if x.ndim == rank else x.reshape(len(x), *[1] * (rank - x.ndim), *x.shape[1:])


def is_short(x: Tensor) -> bool:
    """Whether the last dimension is shorter than a vector."""
    return x.shape[-1] < VECTOR


def lies_turned(x: Tensor) -> bool:
    """Whether matrices are laid out column by column in memory."""
    return x.ndim > 2 and not x.is_contiguous() and x.mT.is_contiguous()


def aligned(*values: Any) -> list[Any]:
    """Tensors raised to equal rank, so that they are broadcast replica by replica."""
    rank = max(x.ndim for x in values if isinstance(x, Tensor))
    return [raised(x, rank) if isinstance(x, Tensor) else x for x in values]


def together(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation on tensors broadcast to one shape."""
    return lambda *values: operation(*aligned(*values))


def in_whole_vectors(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An elementwise operation on tensors of one shape, padded to whole vectors."""

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
    """The sum over some of a replica's dimensions, or over all."""
    if x.ndim == 1:
        return x
    # In one of two layouts, since torch's order of additions depends on the layout.
    return (x if lies_turned(x) else x.contiguous()).sum(dims_of(x, dims), keepdim)
