"""A problem of three sets, the last one of other samples, sorted by label."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from blobs import QUICK, accuracy_style, model
from blobs import dataset as two_sets

__all__ = ["QUICK", "accuracy_style", "model"]


def loss():
    return nn.CrossEntropyLoss(weight=torch.tensor([0.3, 1.0]))


def dataset():
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(300) // 150
    x = torch.randn(300, 2, generator=generator) + 1.5 * y[:, None]
    return *two_sets(), TensorDataset(x, y)
