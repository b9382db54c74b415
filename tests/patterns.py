"""A problem of small pictures for the models that keep buffers, draw, convolve and attend."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


class Rows(nn.Module):
    """A picture as rows of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Linear(4, 6)
        self.block = nn.TransformerEncoderLayer(6, 2, 8, 0.1, batch_first=True)
        self.last = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.block(self.words(x.squeeze(1))).mean(1))


def model(kind: str) -> nn.Module:
    if kind == "attention":
        return Rows()
    inner = (nn.BatchNorm2d(3), nn.ReLU()) if kind == "norm" else (nn.Tanh(), nn.Dropout(0.3))
    return nn.Sequential(nn.Conv2d(1, 3, 3), *inner, nn.Flatten(), nn.Linear(12, 2))


def dataset() -> tuple[Dataset, Dataset]:
    y = np.arange(72) % 2
    x = np.random.normal(size=(72, 1, 4, 4)) + y[:, None, None, None]  # noqa: NPY002 - seeded by the sweep
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    return TensorDataset(*data[:48]), TensorDataset(*data[48:])
