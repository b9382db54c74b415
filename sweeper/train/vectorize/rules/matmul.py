"""Rules for matrix products and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import is_short, raised, total
from sweeper.train.vectorize.trace import CannotPackError

aten: Any = torch.ops.aten


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    bias = raised(bias, 3)
    if is_short(weight):
        # Laid out by columns, so that later elementwise operations work on whole vectors.
        return torch.baddbmm(bias.mT, weight.mT, x.mT).mT
    return torch.baddbmm(bias, x, weight)


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product over the last two dimensions; all others are equal."""
    found = torch.bmm(x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:]))
    return found.view(*x.shape[:-1], y.shape[-1])


def _rows(indices: Tensor, count: int) -> Tensor:
    """Row indices into the concatenated rows of all replicas."""
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


_SUM, _MEAN = 0, 1
"""torch's codes for the reduction of a bag."""


def _embedding_bag(
    weight: Tensor,
    indices: Tensor,
    starts: Tensor,
    scaled: bool = False,  # noqa: FBT002 - torch's order
    mode: int = _SUM,
    sparse: bool = False,  # noqa: FBT002 - torch's order
    weights: Tensor | None = None,
    ended: bool = False,  # noqa: FBT002 - torch's order
    padding: int = -1,
) -> tuple[Tensor, ...]:
    """Sums or means of rows, the bag of each row, the rows of each bag, and an empty tensor."""
    if scaled or sparse or ended or weights is not None or mode not in {_SUM, _MEAN}:
        raise CannotPackError("its embedding bags are sparse, weighted, or neither sums nor means")
    places = torch.arange(indices.shape[1])
    bags = (starts.unsqueeze(2) <= places).sum(1) - 1
    counts = (indices != padding).to(weight.dtype)
    rows = _embedding(weight, indices) * counts.unsqueeze(2)
    empty = weight.new_zeros((*starts.shape, weight.shape[-1]))
    found = empty.scatter_add(1, bags.unsqueeze(2).expand_as(rows), rows)
    sizes = weight.new_zeros(starts.shape).scatter_add(1, bags, counts)
    if mode == _MEAN:
        found = found / sizes.clamp(min=1).unsqueeze(2)
    return found, bags, sizes, sizes


def _embedding_bag_backward(
    grad: Tensor,
    indices: Tensor,
    _starts: Tensor,
    bags: Tensor,
    sizes: Tensor,
    _largest: Tensor,
    count: int,
    _scaled: bool,
    mode: int,
    _sparse: bool,
    _weights: None,
    padding: int = -1,
) -> Tensor:
    if mode == _MEAN:
        grad = grad / sizes.clamp(min=1).unsqueeze(2)
    rows = grad.gather(1, bags.unsqueeze(2).expand(*bags.shape, grad.shape[-1]))
    return _embedding_backward(rows, indices, count, padding, scaled=False)


def _baddbmm(bias: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = bmm(x, y)
    product = product if alpha == 1 else product * alpha
    return raised(bias if beta == 1 else bias * beta, x.ndim) + product


def _mv(x: Tensor, vector: Tensor) -> Tensor:
    return torch.bmm(x, vector.unsqueeze(2)).squeeze(2)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.addmm.default": _addmm,
    "aten.mm.default": torch.bmm,
    "aten.bmm.default": bmm,
    "aten.baddbmm.default": _baddbmm,
    "aten.mv.default": _mv,
    "aten.dot.default": lambda x, y: total(x * y),
    "aten._embedding_bag.default": _embedding_bag,
    "aten._embedding_bag_backward.default": _embedding_bag_backward,
    "aten.embedding.default": _embedding,
    "aten.embedding_dense_backward.default": _embedding_backward,
}
