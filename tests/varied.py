"""A problem whose every function has parameters: two clouds of points in the plane."""

import itertools
from typing import Any

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset

from tests import blobs

accuracy_style = "classification"
_CALLS = itertools.count()


def model(hidden: int = 4, dropout: float = 0.0):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 2))


def loss(label_smoothing: float = 0.0, reduction: str = "mean"):
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction=reduction)


def optimizer(opt: str = "sgd", weight_decay: float = 0.0) -> dict[str, Any]:
    return {"name": opt, "weight_decay": weight_decay}


class Moved(Dataset):
    """Samples moved by what `by` gives for each access."""

    def __init__(self, samples, by):
        self.samples, self.by = samples, by

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, place):
        x, y = self.samples[place]
        return x + self.by(), y


def dataset(
    copies: int = 1,
    jitter: float = 0.0,
    left_out: int = 0,
    shift: float = 0.0,
    *,
    drifting: bool = False,
    joined: bool = False,
):
    train, val = blobs.dataset()
    if jitter:
        train = Moved(train, lambda: jitter * torch.randn(2))
    if shift:
        train = Moved(train, lambda: shift)
    if drifting:
        number = next(_CALLS)
        train = Moved(train, lambda: number)
    train = ConcatDataset([train] * copies)
    val = Subset(val, range(len(val) - left_out))
    return ConcatDataset([train, val]) if joined else (train, val)
