"""Rules for convolutions: replicas become groups of one convolution, or matrix products.

For groups of a single channel torch's library chooses its algorithm by their number, and it is slow
for two or three channels; for these, windows are unfolded into columns (im2col).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.train.vectorize.rules.common import total
from sweeper.train.vectorize.trace import CannotPackError

aten: Any = torch.ops.aten

FEW_CHANNELS = 3
"""Channels of a group up to which im2col is used: measured on one core, at 8 × 8 to 28 × 28
positions and batches of 32."""

Sizes = Sequence[int]


def _joined(x: Tensor) -> Tensor:
    """Channels of all replicas concatenated: shape (samples, replicas × channels, …)."""
    return x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _parted(x: Tensor, replicas: int) -> Tensor:
    return x.view(len(x), replicas, -1, *x.shape[2:]).transpose(0, 1)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    _more: Sizes,
    groups: int,
) -> Tensor:
    if transposed or x.ndim != weight.ndim:
        raise CannotPackError("it has a transposed convolution, or one without a batch")
    if weight.shape[2] > FEW_CHANNELS:
        found: Tensor = aten.convolution(
            _joined(x),
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            stride,
            padding,
            dilation,
            False,  # noqa: FBT003 - torch's order
            [0] * len(stride),
            groups * len(x),
        )
        return _parted(found, len(x))
    windows = _windows(x, weight.shape[3:], stride, padding, dilation)
    kernels = weight.reshape(len(x) * groups, weight.shape[1] // groups, -1)
    columns = windows.reshape(len(kernels), kernels.shape[2], -1)
    if bias is None:
        found = torch.bmm(kernels, columns)
    else:
        found = torch.baddbmm(bias.reshape(len(kernels), -1, 1), kernels, columns)
    places = windows.shape[-len(stride) :]
    return found.view(len(x), weight.shape[1], x.shape[1], *places).transpose(1, 2)


def _windows(x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    """The windows of x, shape (replicas, channels, *kernel, samples, *positions)."""
    rank = len(kernel)
    if any(padding):
        x = aten.constant_pad_nd(x, [side for size in reversed(padding) for side in (size, size)])
    for dim, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), 3):
        x = x.unfold(dim, gap * (size - 1) + 1, step)[..., ::gap]
    positions = range(3, 3 + rank)
    return x.permute(0, 2, *range(3 + rank, 3 + 2 * rank), 1, *positions)


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sizes | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    _transposed: bool,
    _more: Sizes,
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    replicas = len(x)
    of_bias = total(grad, [0, *range(2, grad.ndim - 1)]) if wanted[2] else None
    if weight.shape[2] > FEW_CHANNELS:
        of_x, of_weight, _ = aten.convolution_backward(
            _joined(grad),
            _joined(x),
            weight.flatten(0, 1),
            None if bias_sizes is None else [weight.shape[1] * replicas],
            stride,
            padding,
            dilation,
            False,  # noqa: FBT003 - torch's order
            [0] * len(stride),
            groups * replicas,
            [*wanted[:2], False],
        )
        return (
            _parted(of_x, replicas) if wanted[0] else None,
            of_weight.view(weight.shape) if wanted[1] else None,
            of_bias,
        )
    of_x = of_weight = None
    kernels = weight.reshape(replicas * groups, weight.shape[1] // groups, -1)
    rows = grad.transpose(1, 2).reshape(*kernels.shape[:2], -1)
    if wanted[1]:
        windows = _windows(x, weight.shape[3:], stride, padding, dilation)
        columns = windows.reshape(len(kernels), kernels.shape[2], -1)
        of_weight = torch.bmm(rows, columns.transpose(1, 2)).view(weight.shape)
    if wanted[0]:
        columns = torch.bmm(kernels.transpose(1, 2), rows)
        of_x = _folded(columns, x, weight.shape[3:], stride, padding, dilation)
    return of_x, of_weight, of_bias


def _folded(
    columns: Tensor, x: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Tensor:
    """Sum overlapping windows back into the shape of x (col2im), one kernel place after another."""
    sides = [size + 2 * side for size, side in zip(x.shape[3:], padding, strict=True)]
    found = x.new_zeros((*x.shape[:3], *sides))
    places = [
        (size - gap * (width - 1) - 1) // step + 1
        for size, width, step, gap in zip(sides, kernel, stride, dilation, strict=True)
    ]
    parts = columns.view(len(x), x.shape[2], -1, x.shape[1], *places).transpose(1, 3)
    for number, offsets in enumerate(itertools.product(*map(range, kernel))):
        area = found
        for dim, (offset, step, gap, count) in enumerate(
            zip(offsets, stride, dilation, places, strict=True), 3
        ):
            first = offset * gap
            area = aten.slice.Tensor(area, dim, first, first + step * (count - 1) + 1, step)
        area += parts[:, :, number]
    for dim, (side, size) in enumerate(zip(padding, x.shape[3:], strict=True), 3):
        found = found.narrow(dim, side, size)
    return found


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_backward,
}
