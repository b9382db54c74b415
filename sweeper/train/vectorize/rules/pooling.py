"""Rules for pooling, one map of one sample of one replica at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten

_ORDERS = ((0, 1, 2), (1, 0, 2), (0, 2, 1))
"""Orders in which replicas, samples and channels may be laid out in memory."""


def _over_maps(operation: Callable[..., Any], tensors: int = 1) -> Callable[..., Any]:
    """An operation on maps, applied for all replicas; its last argument may be maps, too."""

    def apply(*values: Any, **options: Any) -> Any:
        first = values[tensors - 1]
        rest = range(3, first.ndim)
        lies = [order for order in _ORDERS if first.permute(*order, *rest).is_contiguous()]
        order = (lies or _ORDERS)[0]

        def flat(x: Any) -> Any:
            if isinstance(x, Tensor):
                return x.permute(*order, *rest).reshape(-1, first.shape[order[2]], *x.shape[3:])
            return x

        def back(x: Tensor) -> Tensor:
            whole = x.view(*(first.shape[dim] for dim in order), *x.shape[2:])
            return whole.permute(*(order.index(dim) for dim in range(3)), *rest)

        found = operation(*map(flat, values), **options)
        return tuple(map(back, found)) if isinstance(found, tuple) else back(found)

    return apply


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.max_pool2d_with_indices.default": _over_maps(aten.max_pool2d_with_indices),
    "aten.max_pool2d_with_indices_backward.default": _over_maps(
        aten.max_pool2d_with_indices_backward, 2
    ),
    "aten.avg_pool2d.default": _over_maps(aten.avg_pool2d),
    "aten.avg_pool2d_backward.default": _over_maps(aten.avg_pool2d_backward, 2),
    "aten._adaptive_avg_pool2d.default": _over_maps(aten._adaptive_avg_pool2d),  # noqa: SLF001
    "aten._adaptive_avg_pool2d_backward.default": _over_maps(
        aten._adaptive_avg_pool2d_backward,  # noqa: SLF001
        2,
    ),
}
