"""Sums and means within a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import in_whole_vectors, later, total

_exp, _log = in_whole_vectors(torch.exp), in_whole_vectors(torch.log)


def _sum(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return total(x, dims, keepdim=keepdim)


def mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    """Over a replica's dimensions, or over all."""
    dims = [dim % (x.ndim - 1) for dim in dims] if dims else range(x.ndim - 1)
    count = math.prod(x.shape[dim + 1] for dim in dims)
    return total(x, list(dims), keepdim=keepdim) / count


def _log_softmax(x: Tensor, dim: int, _half: bool) -> Tensor:
    # From simple operations: torch's own leaves its vectors where a row is short, as classes are.
    dim = later(dim)
    shifted = x - x.amax(dim, keepdim=True)
    sums = _exp(shifted).sum(dim, keepdim=True)
    return shifted - _log(sums)


def _log_softmax_backward(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
    sums = grad.contiguous().sum(later(dim), keepdim=True)
    return grad - _exp(output) * sums


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.sum.dim_IntList": _sum,
    "aten.sum.default": _sum,
    "aten.mean.dim": mean,
    "aten.mean.default": mean,
    "aten._log_softmax.default": _log_softmax,
    "aten._log_softmax_backward_data.default": _log_softmax_backward,
}
