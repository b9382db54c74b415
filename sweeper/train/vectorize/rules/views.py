"""Rules for views, concatenation, copies and factory functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import later, raised

aten: Any = torch.ops.aten


def _t(x: Tensor) -> Tensor:
    return x.mT if x.ndim == 3 else x


def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(len(x), *size)


def _expand(x: Tensor, size: Sequence[int]) -> Tensor:
    return raised(x, len(size) + 1).expand(len(x), *size)


def _squeeze(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.squeeze([later(dim) for dim in dims])


def _squeeze_all(x: Tensor) -> Tensor:
    return x.squeeze([dim for dim in range(1, x.ndim) if x.shape[dim] == 1])


def _permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    rank = x.ndim - 1
    return x.permute(0, *(dim % rank + 1 for dim in dims))


def _clone(x: Tensor, **_: object) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _copied(x: Tensor, source: Tensor, _wait: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return raised(source, x.ndim).expand_as(x).to(x.dtype, copy=True)


def _to(x: Tensor, *, dtype: torch.dtype | None = None, **_: object) -> Tensor:
    return x.to(dtype or x.dtype, copy=True)


def _slice(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    found: Tensor = aten.slice.Tensor(x, later(dim), start, end, step)
    return found


def _slice_backward(
    grad: Tensor, size: Sequence[int], dim: int, start: int, end: int, step: int
) -> Tensor:
    found = grad.new_zeros((len(grad), *size))
    _slice(found, dim, start, end, step).copy_(grad)
    return found


def _select_backward(grad: Tensor, size: Sequence[int], dim: int, index: int) -> Tensor:
    found = grad.new_zeros((len(grad), *size))
    found.select(later(dim), index).copy_(grad)
    return found


def _cat(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.cat(list(parts), later(dim))


def _stack(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return torch.stack(list(parts), later(dim))


def _roll(x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        return x.flatten(1).roll(shifts[0], 1).view(x.shape)
    return x.roll(list(shifts), [later(dim) for dim in dims])


def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    return raised(x, len(times) + 1).repeat(1, *times)


def _diagonal(x: Tensor, offset: int = 0, one: int = 0, other: int = 1) -> Tensor:
    return x.diagonal(offset, later(one), later(other))


def _diagonal_backward(
    grad: Tensor, size: Sequence[int], offset: int, one: int, other: int
) -> Tensor:
    found = grad.new_zeros((len(grad), *size))
    _diagonal(found, offset, one, other).copy_(grad)
    return found


def _unfold_backward(grad: Tensor, size: Sequence[int], dim: int, length: int, step: int) -> Tensor:
    found: Tensor = aten.unfold_backward(grad, [len(grad), *size], later(dim), length, step)
    return found


def _put_everywhere(x: Tensor, value: Any) -> Tensor:
    value = raised(value, x.ndim) if isinstance(value, Tensor) else value
    found: Tensor = torch.zeros_like(x) + value
    return found


def _line(
    keys: Tensor, start: float, end: float, steps: int, *, dtype: Any = None, **_: object
) -> Tensor:
    return torch.linspace(start, end, steps, dtype=dtype).expand(len(keys), -1)


def _identity(keys: Tensor, *size: int, dtype: torch.dtype | None = None, **_: object) -> Tensor:
    return torch.eye(*size, dtype=dtype).expand(len(keys), -1, -1)


def _filled(value: float | None = None) -> Callable[..., Tensor]:
    """A tensor filled with one value."""

    def make(keys: Tensor, size: Sequence[int], *given: float, **options: Any) -> Tensor:
        fill = given[0] if value is None else value
        return torch.full((len(keys), *size), fill, dtype=options.get("dtype"))

    return make


def _range(keys: Tensor, *bounds: float, dtype: torch.dtype | None = None, **_: object) -> Tensor:
    return torch.arange(*bounds, dtype=dtype).expand(len(keys), -1)


def _scalar(keys: Tensor, value: float, *, dtype: torch.dtype | None = None, **_: object) -> Tensor:
    return torch.full((len(keys),), value, dtype=dtype)


def _like(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A factory function of another tensor's shape, and its dtype by default."""

    def made(x: Tensor, *, dtype: torch.dtype | None = None, **_: object) -> Tensor:
        return make(x, dtype=dtype)

    return made


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A factory function with a size of its own."""

    def made(
        x: Tensor, size: Sequence[int], *, dtype: torch.dtype | None = None, **_: object
    ) -> Tensor:
        return make((len(x), *size), dtype=dtype or x.dtype)

    return made


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.t.default": _t,
    "aten.transpose.int": lambda x, one, other: x.transpose(later(one), later(other)),
    "aten.permute.default": _permute,
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.expand.default": _expand,
    "aten.unsqueeze.default": lambda x, dim: x.unsqueeze(later(dim)),
    "aten.squeeze.default": _squeeze_all,
    "aten.squeeze.dim": lambda x, dim: x.squeeze(later(dim)),
    "aten.squeeze.dims": _squeeze,
    "aten.detach.default": lambda x: x,
    "aten.alias.default": lambda x: x,
    "aten.diagonal.default": _diagonal,
    "aten.diagonal_backward.default": _diagonal_backward,
    "aten.unfold.default": lambda x, dim, size, step: x.unfold(later(dim), size, step),
    "aten.unfold_backward.default": _unfold_backward,
    # Parts.
    "aten.select.int": lambda x, dim, index: x.select(later(dim), index),
    "aten.select_backward.default": _select_backward,
    "aten.slice.Tensor": _slice,
    "aten.slice_backward.default": _slice_backward,
    "aten.split.Tensor": lambda x, size, dim=0: x.split(size, later(dim)),
    "aten.split_with_sizes.default": lambda x, sizes, dim=0: x.split(list(sizes), later(dim)),
    "aten.unbind.int": lambda x, dim=0: x.unbind(later(dim)),
    "aten.cat.default": _cat,
    "aten.stack.default": _stack,
    "aten.constant_pad_nd.default": lambda x, sides, value=0: aten.constant_pad_nd(x, sides, value),
    "aten.triu.default": torch.triu,
    "aten.tril.default": torch.tril,
    # In another order.
    "aten.flip.default": lambda x, dims: x.flip([later(dim) for dim in dims]),
    "aten.roll.default": _roll,
    "aten.pixel_shuffle.default": lambda x, size: aten.pixel_shuffle(x.contiguous(), size),
    "aten.pixel_unshuffle.default": lambda x, size: aten.pixel_unshuffle(x.contiguous(), size),
    # Copies.
    "aten.repeat.default": _repeat,
    "aten.fill.Scalar": _put_everywhere,
    "aten.fill_.Scalar": _put_everywhere,
    "aten.clone.default": _clone,
    "aten.copy_.default": _copied,
    "aten._to_copy.default": _to,
    # Factory functions.
    "aten.ones_like.default": _like(torch.ones_like),
    "aten.zeros_like.default": _like(torch.zeros_like),
    "aten.empty_like.default": _like(torch.empty_like),
    "aten.new_empty.default": _new(torch.empty),
    "aten.new_zeros.default": _new(torch.zeros),
    "aten.zeros.default": _filled(0.0),
    "aten.ones.default": _filled(1.0),
    "aten.full.default": _filled(),
    "aten.empty.memory_format": _filled(0.0),
    "aten.eye.default": _identity,
    "aten.linspace.default": _line,
    "aten.arange.default": _range,
    "aten.arange.start": _range,
    "aten.arange.start_step": _range,
    "aten.scalar_tensor.default": _scalar,
}
