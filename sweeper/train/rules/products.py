"""Products of matrices, and what looks up their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import is_short, raised
from sweeper.train.tape import CannotPackError

aten: Any = torch.ops.aten


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    bias = raised(bias, 3)
    if is_short(weight):
        # Columns below each other: whatever is done number by number has whole vectors.
        return torch.baddbmm(bias.mT, weight.mT, x.mT).mT
    return torch.baddbmm(bias, x, weight)


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """Of matrices in the last two dimensions; all others are equal."""
    found = torch.bmm(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
    return found.view(*x.shape[:-1], y.shape[-1])


def _rows(indices: Tensor, count: int) -> Tensor:
    """Numbers of rows where those of all replicas lie below each other."""
    first = torch.arange(len(indices)) * count
    return indices + raised(first, indices.ndim)


def _embedding(weight: Tensor, indices: Tensor, _padding: int = -1, *unusual: bool) -> Tensor:
    if any(unusual):
        raise CannotPackError("the gradients of its embedding are scaled or sparse")
    rows = _rows(indices, weight.shape[1])
    return (
        weight.reshape(-1, weight.shape[-1])
        .index_select(0, rows.reshape(-1))
        .view(*indices.shape, weight.shape[-1])
    )


def _embedding_backward(
    grad: Tensor, indices: Tensor, count: int, padding: int, scaled: bool
) -> Tensor:
    if scaled:
        raise CannotPackError("the gradients of its embedding are scaled")
    rows = _rows(indices, count)
    found: Tensor = aten.embedding_dense_backward(
        grad,
        rows,
        len(grad) * count,
        -1,
        False,  # noqa: FBT003
    )
    found = found.view(len(grad), count, -1)
    if padding >= 0:
        found[:, padding] = 0
    return found


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.addmm.default": _addmm,
    "aten.mm.default": torch.bmm,
    "aten.bmm.default": bmm,
    "aten.embedding.default": _embedding,
    "aten.embedding_dense_backward.default": _embedding_backward,
}
