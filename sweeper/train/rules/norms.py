"""Normalisation over a batch or over a sample, in single roundings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sweeper.train.rules.common import total


def _of_channels(x: Tensor, rank: int) -> Tensor:
    """A number for each channel, shape (replicas, channels), as wide as a batch of samples."""
    return x.view(len(x), 1, x.shape[1], *[1] * (rank - 3))


def _sums(x: Tensor) -> Tensor:
    """Of each channel."""
    return total(x, [0, *range(2, x.ndim - 1)])


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:
    """The output, the batch's mean and inverse deviation, and the running ones if they change."""
    changed: tuple[Tensor, ...] = ()
    if training or running_mean is None or running_var is None:
        count = x.numel() // len(x) // x.shape[2]
        mean = _sums(x) / count
        centred = x - _of_channels(mean, x.ndim)
        var = _sums(centred * centred) / count
        if running_mean is not None and running_var is not None:
            unbiased = var * (count / (count - 1))
            changed = (
                running_mean * (1 - momentum) + mean * momentum,
                running_var * (1 - momentum) + unbiased * momentum,
            )
    else:
        mean, var = running_mean, running_var
        centred = x - _of_channels(mean, x.ndim)
    inverse = 1 / (var + eps).sqrt()
    output = centred * _of_channels(inverse if weight is None else inverse * weight, x.ndim)
    if bias is not None:
        output = output + _of_channels(bias, x.ndim)
    return output, mean, inverse, *changed


def _batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
    training: bool,
    eps: float,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    if not training and running_mean is not None and running_var is not None:
        mean, inverse = running_mean, 1 / (running_var + eps).sqrt()
    centred = x - _of_channels(mean, x.ndim)
    sums, dots = _sums(grad), _sums(grad * centred) * inverse
    scale = inverse if weight is None else inverse * weight
    inner = None
    if wanted[0]:
        inner = grad * _of_channels(scale, x.ndim)
        if training:
            count = x.numel() // len(x) // x.shape[2]
            inner = inner - _of_channels(scale * sums / count, x.ndim)
            inner = inner - centred * _of_channels(scale * inverse * dots / count, x.ndim)
    return inner, dots if wanted[1] else None, sums if wanted[2] else None


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_batch_norm_backward.default": _batch_norm_backward,
}
