"""A small real problem.

Its points train in every way that is quick: in packs, dense and convolutional with norms and
dropout, and eager, since a model that looks at its numbers cannot be packed.  The data is drawn
from the sweep's seed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


class Looking(nn.Sequential):
    """What it computes depends on what it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.mean().item() > 0 else -x)


def model(kind: str, width: int) -> nn.Module:
    if kind == "norm":
        inner = (nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())
        return nn.Sequential(*inner, nn.Linear(4 * width, 2))
    outer = Looking if kind == "plain" else nn.Sequential
    return outer(
        nn.Flatten(), nn.Linear(16, width), nn.Tanh(), nn.Dropout(0.2), nn.Linear(width, 2)
    )


def dataset() -> tuple[Dataset, Dataset]:
    y = np.arange(96) % 2
    x = np.random.normal(size=(96, 1, 4, 4)) + y[:, None, None, None]  # noqa: NPY002 - seeded by the sweep
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    return TensorDataset(*data[:64]), TensorDataset(*data[64:])
