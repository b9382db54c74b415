"""Rules for indexing: gather and scatter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import aligned, later, raised
from sweeper.train.vectorize.trace import CannotPackError

Indices = Sequence[Tensor | None]


def _dims(indices: Indices) -> list[int]:
    """A replica's dimensions that are indexed."""
    return [dim for dim, index in enumerate(indices) if index is not None]


def _first(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Move these dimensions of a replica to the front."""
    others = [dim for dim in range(x.ndim - 1) if dim not in dims]
    return x.permute(0, *(dim + 1 for dim in (*dims, *others)))


def _places(indices: Indices, sizes: Sequence[int]) -> Tensor:
    """Flat indices into the indexed dimensions."""
    tensors = [index for index in indices if index is not None]
    if any(index.dtype in {torch.bool, torch.uint8} for index in tensors):
        raise CannotPackError("it indexes by a mask, so the size of the result depends on values")
    places: Any = 0
    for index, size in zip(aligned(*tensors), sizes, strict=True):
        places = places * size + torch.where(index < 0, index + size, index)
    found: Tensor = places
    return found


def _moved(x: Tensor, indices: Indices, rank: int, *, back: bool = False) -> Tensor:
    """Move the indices' dimensions from the front to where torch has them, or back."""
    dims = _dims(indices)
    if dims != list(range(dims[0], dims[-1] + 1)):
        return x
    here, there = list(range(1, 1 + rank)), list(range(1 + dims[0], 1 + dims[0] + rank))
    return x.movedim(there, here) if back else x.movedim(here, there)


def _index(x: Tensor, indices: Indices) -> Tensor:
    dims = _dims(indices)
    sizes = [x.shape[dim + 1] for dim in dims]
    places = _places(indices, sizes)
    moved = _first(x, dims)
    rest = moved.shape[1 + len(dims) :]
    flat = moved.reshape(len(x), math.prod(sizes), math.prod(rest))
    chosen = places.reshape(len(x), -1, 1).expand(-1, -1, flat.shape[2])
    found = flat.gather(1, chosen).view(*places.shape, *rest)
    return _moved(found, indices, places.ndim - 1)


def _index_put(
    x: Tensor,
    indices: Indices,
    values: Tensor,
    accumulate: bool = False,  # noqa: FBT002 - torch's order
) -> Tensor:
    dims = _dims(indices)
    sizes = [x.shape[dim + 1] for dim in dims]
    places = _places(indices, sizes)
    moved = _first(x, dims)
    rest = moved.shape[1 + len(dims) :]
    rank = places.ndim - 1
    shape = _moved(x.new_empty(()).expand(*places.shape, *rest), indices, rank).shape
    given = _moved(raised(values, len(shape)).expand(shape), indices, rank, back=True)
    flat = moved.reshape(len(x), math.prod(sizes), math.prod(rest))
    chosen = places.reshape(len(x), -1, 1).expand(-1, -1, flat.shape[2])
    given = given.reshape(chosen.shape)
    put = flat.scatter_add(1, chosen, given) if accumulate else flat.scatter(1, chosen, given)
    others = [dim for dim in range(x.ndim - 1) if dim not in dims]
    order = [*dims, *others]
    back = [order.index(dim) + 1 for dim in range(x.ndim - 1)]
    return put.view(moved.shape).permute(0, *back).contiguous()


def _along(index: Tensor, x: Tensor, dim: int) -> Tensor:
    """An index along a dimension of x, expanded over the others."""
    shape = [1] * x.ndim
    shape[0], shape[dim] = len(x), index.numel() // len(index)
    sizes = list(x.shape)
    sizes[dim] = shape[dim]
    return index.reshape(shape).expand(sizes)


def _index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    dim = later(dim) % x.ndim
    return x.gather(dim, _along(index, x, dim))


def _index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    dim = later(dim) % x.ndim
    source = source if alpha == 1 else source * alpha
    return x.scatter_add(dim, _along(index, x, dim), source)


def _gather(x: Tensor, dim: int, index: Tensor, **_: object) -> Tensor:
    return x.gather(later(dim), index)


def _scatter(x: Tensor, dim: int, index: Tensor, source: Any) -> Tensor:
    return x.scatter(later(dim), index, source)


def _scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return x.scatter_add(later(dim), index, source)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.index.Tensor": _index,
    "aten.index_put.default": _index_put,
    "aten.index_put_.default": _index_put,
    "aten.index_select.default": _index_select,
    "aten.index_add.default": _index_add,
    "aten.gather.default": _gather,
    "aten.scatter.src": _scatter,
    "aten.scatter.value": _scatter,
    "aten.scatter_.value": _scatter,
    "aten.scatter_add.default": _scatter_add,
}
