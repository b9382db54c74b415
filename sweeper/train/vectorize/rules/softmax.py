"""Rules for softmax and log-softmax.

torch's own functions do not use whole vectors on short rows, such as those of classes, unless the
layout is by columns: then they take a twentieth of the time at 10 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import in_whole_vectors, is_short, later
from sweeper.train.vectorize.trace import CannotPackError

_EXP, _LOG = in_whole_vectors(torch.exp), in_whole_vectors(torch.log)


def softmax(x: Tensor, dim: int) -> Tensor:
    """Softmax along a dimension of the stack."""
    powers = _EXP(x - x.amax(dim, keepdim=True))
    return powers / powers.sum(dim, keepdim=True)


def softmax_backward(grad: Tensor, output: Tensor, dim: int) -> Tensor:
    """The gradient by the input, from the softmax's gradient and value."""
    weighted = (grad * output).contiguous()
    return weighted - output * weighted.sum(dim, keepdim=True)


def _softmax(x: Tensor, dim: int, _half: bool) -> Tensor:
    return softmax(x.contiguous(), later(dim))


def _softmax_backward(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
    return softmax_backward(grad, output, later(dim))


def _safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax that is zero where a whole row is masked."""
    if dtype is not None:
        raise CannotPackError("its softmax changes the dtype")
    dim = later(dim)
    return softmax(x.contiguous(), dim).masked_fill((x == -torch.inf).all(dim, keepdim=True), 0.0)


def _log_softmax(x: Tensor, dim: int, _half: bool) -> Tensor:
    dim = later(dim)
    if x.ndim == 3 and dim == 2 and is_short(x):
        return torch.log_softmax(x.mT.contiguous(), 1).mT
    shifted = (x - x.amax(dim, keepdim=True)).contiguous()
    return shifted - _LOG(_EXP(shifted).sum(dim, keepdim=True))


def _log_softmax_backward(grad: Tensor, output: Tensor, dim: int, _dtype: torch.dtype) -> Tensor:
    return grad - _EXP(output) * grad.contiguous().sum(later(dim), keepdim=True)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten._softmax.default": _softmax,
    "aten._softmax_backward_data.default": _softmax_backward,
    "aten._safe_softmax.default": _safe_softmax,
    "aten._log_softmax.default": _log_softmax,
    "aten._log_softmax_backward_data.default": _log_softmax_backward,
}
