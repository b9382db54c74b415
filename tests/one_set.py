"""A problem of one set that sweeper splits: five classes of unequal size, hard to tell."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

import sweeper
from blobs import QUICK

__all__ = ["QUICK"]

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
validation: float | sweeper.KFold = 0.2

_generator = torch.Generator().manual_seed(1)
Y = torch.arange(103) % 10 // 4  # classes of 4, 4 and 2 of ten
X = torch.randn(103, 2, generator=_generator) + Y[:, None]


def model(hidden: int = 4, dropout: float = 0.0):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 3))


def dataset():
    return TensorDataset(X, Y)
