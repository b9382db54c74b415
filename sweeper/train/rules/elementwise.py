"""Arithmetic and activations, number by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import aligned, in_whole_vectors, together

aten: Any = torch.ops.aten


def _add(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    # Two roundings wherever a number stands: torch joins them in whole vectors only.
    x, y = aligned(x, y if alpha == 1 else y * alpha)
    return torch.add(x, y)


def _sub(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    x, y = aligned(x, y if alpha == 1 else y * alpha)
    return torch.sub(x, y)


def _prelu_backward(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = aligned(x, weight)
    return aten._prelu_kernel_backward(x, weight, grad)  # type: ignore[no-any-return]  # noqa: SLF001


_EXACT: Mapping[str, Callable[..., Any]] = {
    "aten.add.Tensor": _add,
    "aten.add_.Tensor": _add,
    "aten.sub.Tensor": _sub,
    "aten.mul.Tensor": together(torch.mul),
    "aten.div.Tensor": together(torch.div),
    "aten.div.Scalar": torch.div,
    "aten.div_.Scalar": torch.div,
    "aten.neg.default": torch.neg,
    "aten.relu.default": torch.relu,
    "aten.relu_.default": torch.relu,
    "aten.threshold_backward.default": aten.threshold_backward,
    "aten.hardtanh.default": aten.hardtanh,
    "aten.hardtanh_backward.default": aten.hardtanh_backward,
    "aten.leaky_relu.default": aten.leaky_relu,
    "aten.leaky_relu_backward.default": aten.leaky_relu_backward,
    "aten._prelu_kernel.default": together(aten._prelu_kernel),  # noqa: SLF001
    "aten._prelu_kernel_backward.default": _prelu_backward,
}
"""Exact to the last bit, wherever a number stands."""

_APPROXIMATED = {
    f"aten.{name}.default": in_whole_vectors(getattr(aten, name))
    for activation in ("tanh", "sigmoid", "silu", "gelu", "elu", "softplus")
    for name in (activation, f"{activation}_backward")
}
"""By approximations of which torch has two."""

RULES = {**_EXACT, **_APPROXIMATED}
