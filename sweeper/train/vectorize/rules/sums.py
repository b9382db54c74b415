"""Rules for sums, means and other reductions within a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import dims_of, in_whole_vectors, later, total

_EXP, _LOG = in_whole_vectors(torch.exp), in_whole_vectors(torch.log)
_POW = in_whole_vectors(torch.pow)


def _sum(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return total(x, dims, keepdim=keepdim)


def mean(x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    """The mean over some of a replica's dimensions, or over all."""
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
    if order == 2:
        return total(x * x, dims, keepdim=keepdim).sqrt()
    if order == 1:
        return total(x.abs(), dims, keepdim=keepdim)
    if math.isinf(order):
        sizes = x.abs()
        return (sizes.amax if order > 0 else sizes.amin)(dims_of(x, dims), keepdim)
    if order == 0:
        return total((x != 0).to(x.dtype), dims, keepdim=keepdim)
    return _POW(total(_POW(x.abs(), order), dims, keepdim=keepdim), 1 / order)


def _old_norm(
    x: Tensor,
    order: float | None = None,
    dims: Sequence[int] = (),
    keepdim: bool = False,  # noqa: FBT002 - torch's order
) -> Tensor:
    return _norm(x, 2 if order is None else order, dims, keepdim)


def _with_mean(spread: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def both(
        x: Tensor,
        dims: Sequence[int] | None = None,
        *,
        correction: float = 1,
        keepdim: bool = False,
    ) -> tuple[Tensor, Tensor]:
        return spread(x, dims, correction=correction, keepdim=keepdim), mean(x, dims, keepdim)

    return both


def _logsumexp(x: Tensor, dims: Sequence[int], keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    largest = x.amax(dims_of(x, dims), keepdim=True)
    largest = largest.masked_fill(largest.isinf(), 0.0)
    found = _LOG(total(_EXP(x - largest), dims, keepdim=True)) + largest
    return found if keepdim else found.squeeze(dims_of(x, dims))


def _along(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation along one dimension of a replica."""

    def apply(x: Tensor, dim: int = -1, *more: Any, **_: object) -> Any:
        return operation(x.contiguous(), later(dim), *more)

    return apply


def _top(
    x: Tensor,
    count: int,
    dim: int = -1,
    largest: bool = True,  # noqa: FBT002 - torch's order
    ordered: bool = True,  # noqa: FBT002 - torch's order
) -> Any:
    return x.contiguous().topk(count, later(dim), largest, ordered)


def _amin(x: Tensor, dims: Sequence[int] = (), keepdim: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return x.amin(dims_of(x, dims), keepdim)


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
    "aten.norm.ScalarOpt_dim": _old_norm,
    "aten.var_mean.correction": _with_mean(_var),
    "aten.std_mean.correction": _with_mean(_std),
    "aten.logsumexp.default": _logsumexp,
    "aten.cumsum.default": _along(torch.cumsum),
    "aten.cumprod.default": _along(torch.cumprod),
    "aten.prod.dim_int": _along(torch.prod),
    "aten.max.dim": _along(torch.max),
    "aten.min.dim": _along(torch.min),
    "aten.any.dim": _along(torch.any),
    "aten.sort.default": _along(torch.sort),
    "aten.topk.default": _top,
    "aten.max.default": _amax,
    "aten.min.default": _amin,
    "aten.amax.default": _amax,
    "aten.amin.default": _amin,
}
