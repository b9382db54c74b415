"""Rules for attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.matmul import bmm
from sweeper.train.vectorize.rules.softmax import softmax, softmax_backward
from sweeper.train.vectorize.trace import CannotPackError


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
    """The output, and the attention weights in place of torch's log-sum-exp."""
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
    weights = softmax(scores, -1)
    if attn_mask is not None:
        # A fully masked row gives zeros, as in torch: a sample of padding alone, say.
        weights = weights.masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0.0)
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
    of_scores = softmax_backward(of_weights, weights, -1) * factor
    return (
        bmm(of_scores, key),
        bmm(of_scores.transpose(-2, -1), query),
        bmm(weights.transpose(-2, -1), grad),
    )


_FLASH = "aten._scaled_dot_product_flash_attention_for_cpu"

RULES: Mapping[str, Callable[..., Any]] = {
    f"{_FLASH}.default": _attention,
    f"{_FLASH}_backward.default": _attention_backward,
}
