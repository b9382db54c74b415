"""Sums and means within a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sweeper.train.rules.common import dims_of, total
from sweeper.train.tape import CannotPackError


def _sum(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return total(x, dims, keepdim=keepdim)


def mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    """Over a replica's dimensions, or over all."""
    dims = [dim % (x.ndim - 1) for dim in dims] if dims else range(x.ndim - 1)
    count = math.prod(x.shape[dim + 1] for dim in dims)
    return total(x, list(dims), keepdim=keepdim) / count


def _var(
    x: Tensor, dims: Sequence[int] | None = None, *, correction: float = 1, keepdim: bool = False
) -> Tensor:
    dims = [dim % (x.ndim - 1) for dim in dims] if dims else list(range(x.ndim - 1))
    count = math.prod(x.shape[dim + 1] for dim in dims)
    centred = x - mean(x, dims, keepdim=True)
    return total(centred * centred, dims, keepdim=keepdim) / (count - correction)


def _std(x: Tensor, *dims: Any, **options: Any) -> Tensor:
    return _var(x, *dims, **options).sqrt()


def _norm(
    x: Tensor,
    order: float = 2,
    dims: Sequence[int] | None = None,
    keepdim: bool = False,  # noqa: FBT002 - torch's order
) -> Tensor:
    if order != 2:
        raise CannotPackError(f"it computes a norm of order {order}")
    return total(x * x, dims, keepdim=keepdim).sqrt()


def _amax(x: Tensor, dims: Sequence[int] = (), keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return x.amax(dims_of(x, dims), keepdim)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.sum.dim_IntList": _sum,
    "aten.sum.default": _sum,
    "aten.mean.dim": mean,
    "aten.mean.default": mean,
    "aten.var.correction": _var,
    "aten.std.correction": _std,
    "aten.linalg_vector_norm.default": _norm,
    "aten.amax.default": _amax,
}
