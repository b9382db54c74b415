"""A problem whose loss and optimizer have parameters, too: two clouds of points in the plane."""

from typing import Any

from torch import nn

from tests.blobs import dataset

__all__ = ["accuracy_style", "dataset", "loss", "model", "optimizer"]

accuracy_style = "classification"


def model(hidden: int = 4, dropout: float = 0.0):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Dropout(dropout), nn.Linear(hidden, 2))


def loss(label_smoothing: float = 0.0, reduction: str = "mean"):
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing, reduction=reduction)


def optimizer(opt: str = "sgd", weight_decay: float = 0.0) -> dict[str, Any]:
    return {"name": opt, "weight_decay": weight_decay}
