"""Softmax and attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import later
from sweeper.train.rules.products import bmm
from sweeper.train.tape import CannotPackError

aten: Any = torch.ops.aten


def _softmax(name: str) -> Callable[..., Tensor]:
    operation = getattr(aten, name)

    def apply(x: Tensor, dim: int, half: bool) -> Tensor:
        found: Tensor = operation(x.contiguous(), later(dim), half)
        return found

    return apply


def _softmax_backward(name: str) -> Callable[..., Tensor]:
    operation = getattr(aten, name)

    def apply(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
        found: Tensor = operation(grad.contiguous(), output.contiguous(), later(dim), output.dtype)
        return found

    return apply


def _safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros where all is masked."""
    if dtype is not None:
        raise CannotPackError("its softmax changes the type")
    found: Tensor = aten._softmax(x.contiguous(), later(dim), False)  # noqa: FBT003, SLF001
    return found.masked_fill((x == -torch.inf).all(later(dim), keepdim=True), 0.0)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    causal: bool = False,  # noqa: FBT002 - torch's order
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The output, and the weights instead of torch's logarithms of their sums."""
    if dropout:
        raise CannotPackError("its attention draws random numbers")
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = bmm(query * factor, key.transpose(-2, -1))
    if causal:
        later_ones = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later_ones, -torch.inf)
    if attn_mask is not None:
        scores = scores + attn_mask.reshape(
            len(query), *[1] * (scores.ndim - attn_mask.ndim), *attn_mask.shape[1:]
        )
    weights = aten._softmax(scores, -1, False)  # noqa: FBT003, SLF001
    return bmm(weights, value), weights


def _attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _output: Tensor,
    weights: Tensor,
    _dropout: float,
    _causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    del attn_mask
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    of_weights = bmm(grad, value.transpose(-2, -1))
    of_scores = aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)  # noqa: SLF001
    of_scores = of_scores * factor
    return (
        bmm(of_scores, key),
        bmm(of_scores.transpose(-2, -1), query),
        bmm(weights.transpose(-2, -1), grad),
    )


_FLASH = "aten._scaled_dot_product_flash_attention_for_cpu"

RULES: Mapping[str, Callable[..., Any]] = {
    "aten._softmax.default": _softmax("_softmax"),
    "aten._softmax_backward_data.default": _softmax_backward("_softmax_backward_data"),
    "aten._log_softmax.default": _softmax("_log_softmax"),
    "aten._log_softmax_backward_data.default": _softmax_backward("_log_softmax_backward_data"),
    "aten._safe_softmax.default": _safe_softmax,
    f"{_FLASH}.default": _attention,
    f"{_FLASH}_backward.default": _attention_backward,
}
