"""Rules for losses: one number per replica."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import (
    MEAN,
    NONE,
    aligned,
    in_whole_vectors,
    raised,
    total,
)
from sweeper.train.vectorize.rules.sums import mean
from sweeper.train.vectorize.trace import CannotPackError

_EXP, _LOG, _LOG1P = map(in_whole_vectors, (torch.exp, torch.log, torch.log1p))

CROSS_ENTROPY, CROSS_ENTROPY_BACKWARD = "sweeper.cross_entropy", "sweeper.cross_entropy_backward"
"""The loss of a log-softmax, and the backward pass through both, which reuses its labels."""

# -- classes --------------------------------------------------------------------------------------


def _check_nll(x: Tensor) -> None:
    if x.ndim < 3:
        raise CannotPackError("its cross entropy is computed without a batch dimension")


def _labels(
    x: Tensor, y: Tensor, ignored: int | None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Valid labels and their weights, both with a dimension for the classes.

    A label weighs 1, or the weight of its class, and 0 if ignored.  If `ignored` is None, none is;
    without class weights the weights are then None.
    """
    y = y.unsqueeze(2)
    counts = None
    if ignored is not None:
        seen = y != ignored
        y, counts = y * seen, seen.to(x.dtype)
    if weight is not None:
        weights = weight.gather(1, y.flatten(1)).view(y.shape)
        counts = weights if counts is None else weights * counts
    return y, counts


def _nll(
    x: Tensor, y: Tensor, weight: Tensor | None, reduction: int, ignored: int
) -> tuple[Tensor, Tensor | float]:
    """Losses of shape (replicas,), and the total weight of the samples."""
    return _cross_entropy(x, y, weight, reduction, ignored)[:2]


def _cross_entropy(
    x: Tensor, y: Tensor, weight: Tensor | None, reduction: int, ignored: int | None
) -> tuple[Tensor, Tensor | float, Tensor, Tensor | None]:
    """As `_nll`, then the labels and their weights; see `_labels`."""
    _check_nll(x)
    labels, counts = _labels(x, y, ignored, weight)
    counted = float(labels[0].numel()) if counts is None else total(counts)
    each = _counting(x.gather(2, labels), counts)
    if reduction == NONE:
        loss = -each.squeeze(2)
    else:
        loss = -total(each) / counted if reduction == MEAN else -total(each)
    return loss, counted, labels, counts


def _nll_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignored: int,
    counted: Tensor,
) -> Tensor:
    _check_nll(x)
    labels, counts = _labels(x, y, ignored, weight)
    each = _of_each(grad, counted, reduction, labels, counts)
    return torch.zeros_like(x).scatter_(2, labels, -each)


def _of_each(
    grad: Tensor, counted: Tensor | float, reduction: int, labels: Tensor, counts: Tensor | None
) -> Tensor:
    """The gradient of each sample's loss: 0 if no sample counts, as in torch."""
    if counts is not None:  # avoids 0 / 0 if a whole batch is ignored
        counted = counted + (counted == 0)
    each = grad / counted if reduction == MEAN else grad
    each = each.unsqueeze(2) if reduction == NONE else raised(each, labels.ndim)
    return _counting(each, counts).expand_as(labels)


def _counting(each: Tensor, counts: Tensor | None) -> Tensor:
    return each if counts is None else each * counts


def _cross_entropy_backward(
    grad: Tensor,
    x: Tensor,
    reduction: int,
    counted: Tensor | float,
    labels: Tensor,
    counts: Tensor | None,
) -> Tensor:
    """The gradient of `_cross_entropy` by the logits; x is their log-softmax."""
    each = _of_each(grad, counted, reduction, labels, counts)
    return (_EXP(x) * each).scatter_add_(2, labels, -each)


# -- numbers --------------------------------------------------------------------------------------


def _reduced(x: Tensor, reduction: int) -> Tensor:
    if reduction == NONE:
        return x
    return mean(x) if reduction == MEAN else total(x)


def _spread(grad: Tensor, like: Tensor, reduction: int) -> Tensor:
    """The gradient of each number before the reduction."""
    if reduction == MEAN:
        grad = grad / math.prod(like.shape[1:])
    return raised(grad, like.ndim)


def _mse(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    x, y = aligned(x, y)
    difference = x - y
    return _reduced(difference * difference, reduction)


def _mse_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    x, y = aligned(x, y)
    difference = x - y
    return difference * 2.0 * _spread(grad, difference, reduction)


def _bounded(x: Tensor, bound: float) -> Tensor:
    return x.clamp(-bound, bound)


def _huber(x: Tensor, y: Tensor, reduction: int = MEAN, delta: float = 1.0) -> Tensor:
    """Quadratic up to a distance of delta, linear beyond."""
    x, y = aligned(x, y)
    difference = x - y
    near = _bounded(difference, delta)
    return _reduced(near * (difference - near * 0.5), reduction)


def _huber_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int, delta: float) -> Tensor:
    x, y = aligned(x, y)
    difference = x - y
    return _bounded(difference, delta) * _spread(grad, difference, reduction)


def _smooth_l1(x: Tensor, y: Tensor, reduction: int = MEAN, beta: float = 1.0) -> Tensor:
    return _huber(x, y, reduction, beta) / beta


def _smooth_l1_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int, beta: float) -> Tensor:
    return _huber_backward(grad, x, y, reduction, beta) / beta


def _binary_with_logits(
    x: Tensor,
    y: Tensor,
    weight: Tensor | None = None,
    positive: Tensor | None = None,
    reduction: int = MEAN,
) -> Tensor:
    """Binary cross entropy of logits."""
    x, y, weight, positive = aligned(x, y, weight, positive)
    logs = _LOG1P(_EXP(-x.abs()))
    if positive is None:
        found = x.relu() - x * y + logs
    else:
        found = (1 - y) * x + ((positive - 1) * y + 1) * (logs + (-x).relu())
    return _reduced(found if weight is None else found * weight, reduction)


def _binary(x: Tensor, y: Tensor, weight: Tensor | None = None, reduction: int = MEAN) -> Tensor:
    """Binary cross entropy of probabilities, with logarithms clamped as in torch."""
    x, y, weight = aligned(x, y, weight)
    found = (y - 1) * _LOG1P(-x).clamp(min=-100) - y * _LOG(x).clamp(min=-100)
    return _reduced(found if weight is None else found * weight, reduction)


def _binary_backward(
    grad: Tensor, x: Tensor, y: Tensor, weight: Tensor | None = None, reduction: int = MEAN
) -> Tensor:
    x, y, weight = aligned(x, y, weight)
    found = (x - y) / ((1 - x) * x).clamp(min=1e-12)
    found = found if weight is None else found * weight
    return found * _spread(grad, found, reduction)


def _soft_margin(x: Tensor, y: Tensor, reduction: int = MEAN) -> Tensor:
    x, y = aligned(x, y)
    return _reduced(_LOG1P(_EXP(-(y * x))), reduction)


def _soft_margin_backward(grad: Tensor, x: Tensor, y: Tensor, reduction: int) -> Tensor:
    x, y = aligned(x, y)
    powers = _EXP(-(y * x))
    found = -y * powers / (1 + powers)
    return found * _spread(grad, found, reduction)


def _margins(
    x: Tensor, y: Tensor, margin: float, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Margin violations, labels, and weights of their classes; the classes are last."""
    labels = y.unsqueeze(-1)
    over = (x - x.gather(-1, labels) + margin).clamp(min=0)
    weights: Tensor | float = 1.0
    if weight is not None:
        weights = weight.gather(1, y.flatten(1)).view(labels.shape)
    return over.scatter(-1, labels, 0.0), labels, weights


def _multi_margin(
    x: Tensor,
    y: Tensor,
    power: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: int = MEAN,
) -> Tensor:
    """The loss of other classes whose scores come near that of the label."""
    over, _, weights = _margins(x, y, margin, weight)
    each = over if power == 1 else over * over
    dims = [each.ndim - 2]
    return _reduced(total(each * weights, dims) / x.shape[-1], reduction)


def _multi_margin_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    power: int,
    margin: float,
    weight: Tensor | None = None,
    reduction: int = MEAN,
) -> Tensor:
    over, labels, weights = _margins(x, y, margin, weight)
    each = (over > 0).to(x.dtype) if power == 1 else over * 2
    each = each * weights / x.shape[-1]
    own = total(each, [each.ndim - 2], keepdim=True)
    return each.scatter(-1, labels, -own) * _spread(grad, labels, reduction)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.nll_loss_forward.default": _nll,
    "aten.nll_loss_backward.default": _nll_backward,
    "aten.nll_loss2d_forward.default": _nll,
    "aten.nll_loss2d_backward.default": _nll_backward,
    CROSS_ENTROPY: _cross_entropy,
    CROSS_ENTROPY_BACKWARD: _cross_entropy_backward,
    "aten.mse_loss.default": _mse,
    "aten.mse_loss_backward.default": _mse_backward,
    "aten.huber_loss.default": _huber,
    "aten.huber_loss_backward.default": _huber_backward,
    "aten.smooth_l1_loss.default": _smooth_l1,
    "aten.smooth_l1_loss_backward.default": _smooth_l1_backward,
    "aten.binary_cross_entropy_with_logits.default": _binary_with_logits,
    "aten.binary_cross_entropy.default": _binary,
    "aten.binary_cross_entropy_backward.default": _binary_backward,
    "aten.soft_margin_loss.default": _soft_margin,
    "aten.soft_margin_loss_backward.default": _soft_margin_backward,
    "aten.multi_margin_loss.default": _multi_margin,
    "aten.multi_margin_loss_backward.default": _multi_margin_backward,
}
