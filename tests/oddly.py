"""A problem whose sets leave odd remainders, for models of every kind that packs have."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss

TRAINED, VALIDATED = 301, 83


class Rows(nn.Module):
    """The numbers of a sample as words that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Linear(2, 6), nn.Linear(6, 2)
        self.block = nn.TransformerEncoderLayer(6, 2, 8, 0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.block(self.words(x.unflatten(1, (4, 2)))).mean(1))


def without_bias() -> nn.Module:
    inner = nn.Linear(8, 13, bias=False), nn.Tanh(), nn.Linear(13, 5, bias=False), nn.Tanh()
    return nn.Sequential(*inner, nn.Linear(5, 2, bias=False))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 13), nn.ReLU(), nn.Linear(13, 2))


def convolutional() -> nn.Module:
    inner = nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten()
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *inner, nn.Linear(18, 2))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 13), nn.Dropout(0.3), nn.Tanh(), nn.Linear(13, 2))


KINDS = {
    "without bias": without_bias,
    "dense": dense,
    "convolutional": convolutional,
    "dropping": dropping,
    "attending": Rows,
}


def model(kind: str) -> nn.Module:
    return KINDS[kind]()


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Always the same x and y of both sets."""
    drawn = np.random.default_rng(0)
    y = drawn.integers(2, size=TRAINED + VALIDATED)
    x = drawn.normal(size=(len(y), 8)) + 0.5 * y[:, None]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def dataset() -> tuple[Dataset, Dataset]:
    data = TensorDataset(*samples())
    return TensorDataset(*data[:TRAINED]), TensorDataset(*data[TRAINED:])
