"""Sums and means within a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import later, total

aten: Any = torch.ops.aten


def _sum(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return total(x, dims, keepdim=keepdim)


def mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    """Over a replica's dimensions, or over all."""
    dims = [dim % (x.ndim - 1) for dim in dims] if dims else range(x.ndim - 1)
    count = math.prod(x.shape[dim + 1] for dim in dims)
    return total(x, list(dims), keepdim=keepdim) / count


def _log_softmax(x: Tensor, dim: int, _half: bool) -> Tensor:
    found: Tensor = aten._log_softmax(x.contiguous(), later(dim), False)  # noqa: FBT003, SLF001
    return found


def _log_softmax_backward(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
    found: Tensor = aten._log_softmax_backward_data(  # noqa: SLF001
        grad.contiguous(), output, later(dim), output.dtype
    )
    return found


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.sum.dim_IntList": _sum,
    "aten.sum.default": _sum,
    "aten.mean.dim": mean,
    "aten.mean.default": mean,
    "aten._log_softmax.default": _log_softmax,
    "aten._log_softmax_backward_data.default": _log_softmax_backward,
}
