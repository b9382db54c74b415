"""Rules for elementwise arithmetic and activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import aligned, in_whole_vectors, together

aten: Any = torch.ops.aten


def _add(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    # Two roundings for every number: torch fuses them, but in whole vectors only.
    x, y = aligned(x, y if alpha == 1 else y * alpha)
    return torch.add(x, y)


def _sub(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    x, y = aligned(x, y if alpha == 1 else y * alpha)
    return torch.sub(x, y)


def _rsub(x: Tensor, y: Any, alpha: float = 1) -> Tensor:
    x, y = aligned(x * alpha, y)
    found: Tensor = y - x
    return found


def _power(x: Tensor, exponent: float) -> Tensor:
    """Powers by products and roots where possible: their rounding does not depend on the place."""
    if exponent not in _POWERS:
        return _POW(x, exponent)
    return _POWERS[exponent](x)


_POW = in_whole_vectors(torch.pow)

_POWERS: Mapping[float, Callable[[Tensor], Tensor]] = {
    0: torch.ones_like,
    1: torch.clone,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    4: lambda x: (x * x) * (x * x),
    0.5: torch.sqrt,
    1.5: lambda x: x * x.sqrt(),
    -0.5: lambda x: 1 / x.sqrt(),
    -1: lambda x: 1 / x,
    -2: lambda x: 1 / (x * x),
}


def _filled(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    x, mask, value = aligned(x, mask, value)
    return torch.where(mask, value, x) if isinstance(value, Tensor) else x.masked_fill(mask, value)


def _prelu_backward(x: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = aligned(x, weight)
    return aten._prelu_kernel_backward(x, weight, grad)  # type: ignore[no-any-return]  # noqa: SLF001


_EXACT: Mapping[str, Callable[..., Any]] = {
    **{
        f"aten.{name}{place}.{kind}": rule
        for name, rule in (
            ("add", _add),
            ("sub", _sub),
            ("mul", together(torch.mul)),
            ("div", together(torch.div)),
        )
        for place, kind in (("", "Tensor"), ("", "Scalar"), ("_", "Tensor"), ("_", "Scalar"))
        if (name, place, kind) != ("sub", "_", "Scalar")  # torch never comes to it
    },
    "aten.rsub.Scalar": _rsub,
    "aten.neg.default": torch.neg,
    "aten.abs.default": torch.abs,
    "aten.sgn.default": torch.sgn,
    "aten.sqrt.default": torch.sqrt,
    "aten.rsqrt.default": lambda x: 1 / x.sqrt(),
    "aten.reciprocal.default": lambda x: 1 / x,
    "aten.pow.Tensor_Scalar": _power,
    "aten.pow_.Scalar": _power,
    "aten.clamp.default": torch.clamp,
    "aten.clamp_min.default": torch.clamp_min,
    "aten.maximum.default": together(torch.maximum),
    "aten.minimum.default": together(torch.minimum),
    "aten.where.self": together(torch.where),
    "aten.masked_fill.Scalar": _filled,
    "aten.masked_fill.Tensor": _filled,
    "aten.masked_fill_.Scalar": _filled,
    **{
        f"aten.{name}.{kind}": together(getattr(torch, name))
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for kind in ("Scalar", "Tensor")
    },
    "aten.bitwise_not.default": torch.bitwise_not,
    "aten.logical_not.default": torch.logical_not,
    "aten.bitwise_and.Tensor": together(torch.bitwise_and),
    "aten.bitwise_or.Tensor": together(torch.bitwise_or),
    "aten.bitwise_and_.Tensor": together(torch.bitwise_and),
    "aten.logical_and_.default": together(torch.logical_and),
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
"""Correctly rounded: the same bits at every place."""

_APPROXIMATED = {
    f"aten.{name}.default": in_whole_vectors(getattr(aten, name))
    for activation in ("tanh", "sigmoid", "silu", "gelu", "elu", "softplus")
    for name in (activation, f"{activation}_backward")
} | {
    f"aten.{name}.default": in_whole_vectors(getattr(torch, name.removesuffix("_")))
    for name in ("exp", "log", "log1p", "tanh_", "sigmoid_")
}
"""Approximated, by one function in vectors and another for scalars."""

RULES = {**_EXACT, **_APPROXIMATED}
