"""Another look at the same numbers, and numbers out of nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import later, raised


def _t(x: Tensor) -> Tensor:
    return x.transpose(1, 2) if x.ndim == 3 else x


def _reshape(x: Tensor, size: Sequence[int]) -> Tensor:
    return x.reshape(len(x), *size)


def _expand(x: Tensor, size: Sequence[int]) -> Tensor:
    return raised(x, len(size) + 1).expand(len(x), *size)


def _squeeze(x: Tensor, dims: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(map(later, dims)))


def _clone(x: Tensor, **_: object) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _copied(x: Tensor, source: Tensor, _wait: bool = False) -> Tensor:  # noqa: FBT002 - torch's order
    return raised(source, x.ndim).expand_as(x).to(x.dtype, copy=True)


def _empty_like(x: Tensor, **_: object) -> Tensor:
    return torch.empty_like(x)


def _new_empty(x: Tensor, size: Sequence[int], **_: object) -> Tensor:
    return x.new_empty((len(x), *size))


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.t.default": _t,
    "aten.transpose.int": lambda x, one, other: x.transpose(later(one), later(other)),
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.expand.default": _expand,
    "aten.unsqueeze.default": lambda x, dim: x.unsqueeze(later(dim)),
    "aten.squeeze.dim": lambda x, dim: x.squeeze(later(dim)),
    "aten.detach.default": lambda x: x,
    "aten.ones_like.default": lambda x, **_: torch.ones_like(x),
    "aten.empty_like.default": _empty_like,
    "aten.new_empty.default": _new_empty,
}
