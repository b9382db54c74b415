"""Rules for upsampling, padding and unfolding of images, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten


def _over_samples(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation on samples, applied to the samples of all replicas."""

    def apply(*values: Any, **options: Any) -> Any:
        replicas = next(len(x) for x in values if isinstance(x, Tensor))
        flat = [x.flatten(0, 1).contiguous() if isinstance(x, Tensor) else x for x in values]
        found = operation(*flat, **options)
        if isinstance(found, tuple):
            return tuple(part.view(replicas, -1, *part.shape[1:]) for part in found)
        return found.view(replicas, -1, *found.shape[1:])

    return apply


def _enlarged_backward(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The backward pass of an operation that is given the size of the input."""

    def apply(grad: Tensor, size: Sequence[int], before: Sequence[int], *more: Any) -> Tensor:
        flat = grad.flatten(0, 1).contiguous()
        found = operation(flat, size, [len(flat), *before[1:]], *more)
        return found.view(len(grad), -1, *found.shape[1:])

    return apply


_ENLARGING = ("nearest1d", "nearest2d", "linear1d", "bilinear2d", "bicubic2d")
_PADDING = (
    *("reflection_pad1d", "reflection_pad2d"),
    *("replication_pad1d", "replication_pad2d"),
)

RULES: Mapping[str, Callable[..., Any]] = {
    **{
        f"aten.upsample_{name}.default": _over_samples(getattr(aten, f"upsample_{name}"))
        for name in _ENLARGING
    },
    **{
        f"aten.upsample_{name}_backward.default": _enlarged_backward(
            getattr(aten, f"upsample_{name}_backward")
        )
        for name in _ENLARGING
    },
    **{
        f"aten.{name}.default": _over_samples(getattr(aten, name))
        for padding in _PADDING
        for name in (padding, f"{padding}_backward")
    },
    **{
        f"aten.{name}.default": _over_samples(getattr(aten, name))
        for name in ("channel_shuffle", "im2col", "col2im")
    },
    "aten.adaptive_max_pool2d.default": _over_samples(aten.adaptive_max_pool2d),
    "aten.adaptive_max_pool2d_backward.default": _over_samples(aten.adaptive_max_pool2d_backward),
}
