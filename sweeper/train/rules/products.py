"""Products of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sweeper.train.rules.common import raised


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.baddbmm(raised(bias, 3), x, weight)


RULES: Mapping[str, Callable[..., Any]] = {
    "aten.addmm.default": _addmm,
    "aten.mm.default": torch.bmm,
}
