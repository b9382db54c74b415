"""Rules for less common activations and elementwise functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import aligned, in_whole_vectors, later, together

aten: Any = torch.ops.aten

_EXP, _LOG, _LOG1P, _SIGMOID = map(
    in_whole_vectors, (torch.exp, torch.log, torch.log1p, torch.sigmoid)
)


def _approximated(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An approximated function of tensors, which are broadcast, and numbers."""
    whole = in_whole_vectors(operation)

    def apply(*values: Any) -> Tensor:
        values = tuple(aligned(*values))
        shapes = [x.shape for x in values if isinstance(x, Tensor)]
        shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        return whole(*(x.expand(shape) if isinstance(x, Tensor) else x for x in values))

    return apply


def _scalar_power(base: float, exponent: Tensor) -> Tensor:
    return in_whole_vectors(lambda x: torch.pow(base, x))(exponent)


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and what the backward pass needs."""
    powers = _EXP(-x.abs())
    return x.clamp(max=0) - _LOG1P(powers), powers


def _log_sigmoid_backward(grad: Tensor, x: Tensor, powers: Tensor) -> Tensor:
    share = powers / (1 + powers)
    return grad * torch.where(x < 0, 1 - share, share)


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    one, gate = x.chunk(2, later(dim))
    return one * _SIGMOID(gate)


def _glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    dim = later(dim)
    one, gate = x.chunk(2, dim)
    opened = _SIGMOID(gate)
    return torch.cat([grad * opened, grad * one * (opened * (1 - opened))], dim)


def _logaddexp(x: Tensor, y: Tensor) -> Tensor:
    x, y = aligned(x, y)
    larger = torch.maximum(x, y)
    found = larger + _LOG1P(_EXP(-(x - y).abs()))
    return torch.where(x == y, larger + 0.6931471805599453, found)


def _xlogy(x: Tensor, y: Tensor) -> Tensor:
    x, y = aligned(x, y)
    return torch.where((x == 0) & ~y.isnan(), 0.0, x * _LOG(y))


def _lerp(x: Tensor, y: Tensor, weight: Any) -> Tensor:
    x, y, weight = aligned(x, y, weight)
    found: Tensor = x + (y - x) * weight
    return found


def _addcmul(x: Tensor, one: Tensor, other: Tensor, *, value: float = 1) -> Tensor:
    x, one, other = aligned(x, one, other)
    return torch.add(x, one * other * value)


def _addcdiv(x: Tensor, one: Tensor, other: Tensor, *, value: float = 1) -> Tensor:
    x, one, other = aligned(x, one, other)
    return torch.add(x, one / other * value)


def _clamp(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x, low, high = aligned(x, low, high)
    return torch.clamp(x, low, high)


RULES: Mapping[str, Callable[..., Any]] = {
    **{
        f"aten.{name}.default": in_whole_vectors(getattr(aten, name))
        for activation in ("hardswish", "hardsigmoid", "mish")
        for name in (activation, f"{activation}_backward")
    },
    "aten.celu.default": in_whole_vectors(aten.celu),
    "aten.log_sigmoid_forward.default": _log_sigmoid,
    "aten.log_sigmoid_backward.default": _log_sigmoid_backward,
    "aten.glu.default": _glu,
    "aten.glu_backward.default": _glu_backward,
    "aten.hardshrink.default": aten.hardshrink,
    "aten.hardshrink_backward.default": aten.hardshrink_backward,
    "aten.softshrink.default": aten.softshrink,
    "aten.softshrink_backward.default": aten.softshrink_backward,
    "aten.threshold.default": aten.threshold,
    **{
        f"aten.{name}.default": in_whole_vectors(getattr(torch, name))
        for name in (
            *("sin", "cos", "tan", "sinh", "cosh", "asin", "acos", "atan", "asinh"),
            *("erf", "expm1", "exp2", "log2", "log10"),
        )
    },
    "aten.exp_.default": in_whole_vectors(torch.exp),
    "aten.atan2.default": _approximated(torch.atan2),
    "aten.pow.Tensor_Tensor": _approximated(torch.pow),
    "aten.pow.Scalar": _scalar_power,
    "aten.remainder.Scalar": _approximated(torch.remainder),
    "aten.logaddexp.default": _logaddexp,
    "aten.xlogy.Tensor": _xlogy,
    "aten.lerp.Scalar": _lerp,
    "aten.lerp.Tensor": _lerp,
    "aten.addcmul.default": _addcmul,
    "aten.addcdiv.default": _addcdiv,
    "aten.clamp.Tensor": _clamp,
    "aten.clamp_min_.Tensor": together(torch.maximum),
    "aten.clamp_min_.default": torch.clamp_min,
    "aten.clamp_.default": torch.clamp,
    "aten.sqrt_.default": torch.sqrt,
    "aten.neg_.default": torch.neg,
    **{
        f"aten.{name}.default": getattr(torch, name)
        for name in ("floor", "ceil", "round", "trunc", "sign", "isnan", "nan_to_num")
    },
    "aten.logical_and.default": together(torch.logical_and),
    "aten.logical_or.default": together(torch.logical_or),
    "aten.logical_or_.default": together(torch.logical_or),
}
