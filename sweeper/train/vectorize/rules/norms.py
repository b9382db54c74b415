"""Rules for batch, layer, group and weight normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import raised, total

aten: Any = torch.ops.aten

Wanted = Sequence[bool]


# -- over a batch: torch takes each channel by itself, so replicas become channels -----------------


def _channels_first(x: Tensor) -> bool:
    """Whether each channel's samples are, or should be, contiguous: then they are one long sample.

    For channels of single numbers torch takes several channels at once, and treats those left over
    differently.
    """
    return x.ndim == 3 or x.transpose(1, 2).is_contiguous()


def _joined(x: Tensor, first: bool) -> Tensor:
    """Channels of all replicas concatenated: shape (samples, replicas × channels, …)."""
    if first:
        return x.transpose(1, 2).reshape(1, len(x) * x.shape[2], -1)
    return x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _parted(x: Tensor, like: Tensor, first: bool) -> Tensor:
    if first:
        return x.view(like.transpose(1, 2).shape).transpose(1, 2)
    return x.view(like.transpose(0, 1).shape).transpose(0, 1)


def _flat(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.reshape(-1)


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
    """The output, the batch's mean and inverse deviation, and running statistics if they change."""
    first = _channels_first(x)
    running = [_flat(value) for value in (running_mean, running_var)]
    if training:  # torch changes them in place
        running = [None if value is None else value.clone() for value in running]
    output, mean, inverse = aten.native_batch_norm(
        _joined(x, first), _flat(weight), _flat(bias), *running, training, momentum, eps
    )
    changed = [value.view(len(x), -1) for value in running if value is not None and training]
    return _parted(output, x, first), mean.view(len(x), -1), inverse.view(len(x), -1), *changed


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
    wanted: Wanted,
) -> tuple[Tensor | None, ...]:
    first = _channels_first(x)
    flat = map(_flat, (weight, running_mean, running_var, mean, inverse))
    of_x, of_weight, of_bias = aten.native_batch_norm_backward(
        _joined(grad, first), _joined(x, first), *flat, training, eps, wanted
    )
    return (
        _parted(of_x, x, first) if wanted[0] else None,
        of_weight.view(len(x), -1) if wanted[1] else None,
        of_bias.view(len(x), -1) if wanted[2] else None,
    )


# -- over a sample: torch takes each by itself; weight and bias are applied separately -------------


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _layer_norm(
    x: Tensor, sizes: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    ones, zeros = x.new_ones(sizes), x.new_zeros(sizes)  # torch is slower without any
    output, mean, inverse = aten.native_layer_norm(x.contiguous(), sizes, ones, zeros, eps)
    learnt = [None if value is None else raised(value, x.ndim) for value in (weight, bias)]
    return _scaled(output, *learnt), mean, inverse


def _layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    sizes: Sequence[int],
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    _bias: Tensor | None,
    wanted: Wanted,
) -> tuple[Tensor | None, ...]:
    of_x = None
    if wanted[0]:
        inner = grad if weight is None else grad * raised(weight, x.ndim)
        of_x, _, _ = aten.native_layer_norm_backward(
            inner.contiguous(),
            x.contiguous(),
            sizes,
            mean,
            inverse,
            None,
            None,
            [True, False, False],
        )
    rows = list(range(x.ndim - 1 - len(sizes)))
    of_weight = total(grad * ((x - mean) * inverse), rows) if wanted[1] else None
    return of_x, of_weight, total(grad, rows) if wanted[2] else None


def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    samples: int,
    channels: int,
    positions: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, ...]:
    count = len(x) * samples
    output, mean, inverse = aten.native_group_norm(
        x.reshape(count, *x.shape[2:]), None, None, count, channels, positions, groups, eps
    )
    shape = (len(x), 1, channels, *[1] * (x.ndim - 3))
    learnt = [None if value is None else value.view(shape) for value in (weight, bias)]
    parts = (value.view(len(x), samples, groups) for value in (mean, inverse))
    return _scaled(output.view(x.shape), *learnt), *parts


def _group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    samples: int,
    channels: int,
    positions: int,
    groups: int,
    wanted: Wanted,
) -> tuple[Tensor | None, ...]:
    count, of_x = len(x) * samples, None
    if wanted[0]:
        inner = grad
        if weight is not None:
            inner = grad * weight.view(len(x), 1, channels, *[1] * (x.ndim - 3))
        flat = [value.reshape(count, *x.shape[2:]) for value in (inner, x)]
        stats = [value.reshape(count, groups) for value in (mean, inverse)]
        of_x, _, _ = aten.native_group_norm_backward(
            *flat, *stats, None, count, channels, positions, groups, [True, False, False]
        )
        of_x = of_x.view(x.shape)
    dims = [0, *range(2, x.ndim - 1)]
    of_weight = None
    if wanted[1]:
        shape = (len(x), samples, groups, -1)
        parts = (value.unsqueeze(3) for value in (mean, inverse))
        centred = x.reshape(shape) - next(parts)
        of_weight = total(grad * (centred * next(parts)).view(x.shape), dims)
    return of_x, of_weight, total(grad, dims) if wanted[2] else None


# -- weights --------------------------------------------------------------------------------------


def _others(x: Tensor, dim: int) -> list[int]:
    """All of a replica's dimensions but one."""
    return [other for other in range(x.ndim - 1) if other != dim % (x.ndim - 1)]


def _weight_norm(direction: Tensor, size: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """The weight of this direction and norm, and the norms of `direction`."""
    norms = total(direction * direction, _others(direction, dim), keepdim=True).sqrt()
    return direction * (size / norms), norms


def _weight_norm_backward(
    grad: Tensor, direction: Tensor, size: Tensor, norms: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    along = total(grad * direction, _others(direction, dim), keepdim=True) / norms
    return (size / norms) * (grad - direction * (along / norms)), along


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.native_batch_norm.default": _batch_norm,
    "aten.native_batch_norm_backward.default": _batch_norm_backward,
    "aten._weight_norm_interface.default": _weight_norm,
    "aten._weight_norm_interface_backward.default": _weight_norm_backward,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
    "aten.native_group_norm.default": _group_norm,
    "aten.native_group_norm_backward.default": _group_norm_backward,
}
