"""Losses: one number a replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import MEAN, NONE, aligned, raised, total
from sweeper.train.rules.sums import mean
from sweeper.train.tape import CannotPackError

aten: Any = torch.ops.aten


def _nll(x: Tensor, y: Tensor, weight: None, reduction: int, ignored: int) -> tuple[Tensor, Tensor]:
    """Losses of shape (replicas,), and how many samples count."""
    _only_mean_of_rows(x, weight, reduction)
    flat, labels = x.reshape(-1, x.shape[-1]), y.reshape(-1)
    each, _ = aten.nll_loss_forward(flat, labels, None, NONE, ignored)
    counted = (y != ignored).sum(1).to(x.dtype)
    return each.view(y.shape).sum(1) / counted, counted


def _nll_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    weight: None,
    reduction: int,
    ignored: int,
    counted: Tensor,
) -> Tensor:
    _only_mean_of_rows(x, weight, reduction)
    flat, labels = x.reshape(-1, x.shape[-1]), y.reshape(-1)
    each = (grad / counted).unsqueeze(1).expand(y.shape).reshape(-1)
    whole = each.new_empty(())
    found: Tensor = aten.nll_loss_backward(each, flat, labels, None, NONE, ignored, whole)
    return found.view(x.shape)


def _only_mean_of_rows(x: Tensor, weight: None, reduction: int) -> None:
    if x.ndim != 3 or weight is not None or reduction != MEAN:
        raise CannotPackError("its cross entropy is not a plain mean over the samples of a batch")


def _mse(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    x, y = aligned(x, y)
    difference = x - y
    squares = difference * difference
    return squares if reduction == NONE else _reduced(squares, reduction)


def _reduced(x: Tensor, reduction: int) -> Tensor:
    return mean(x) if reduction == MEAN else total(x)


def _mse_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    x, y = aligned(x, y)
    difference = x - y
    scale = 2 / math.prod(difference.shape[1:]) if reduction == MEAN else 2.0
    return difference * scale * raised(grad, difference.ndim)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.nll_loss_forward.default": _nll,
    "aten.nll_loss_backward.default": _nll_backward,
    "aten.mse_loss.default": _mse,
    "aten.mse_loss_backward.default": _mse_backward,
}
