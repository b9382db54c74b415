"""Breast cancer, with metrics of its own."""

import torch
from ignite.metrics import Accuracy
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
metrics = {
    "f1": lambda output, y: f1_score(y, output.argmax(1)),
    "cost": (lambda output, y: ((output.argmax(1) != y) * (1 + y)).float().mean(), "minimize"),
    "right": Accuracy,
}


def model(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 2))


def dataset() -> tuple[TensorDataset, TensorDataset]:
    x, y = map(torch.tensor, load_breast_cancer(return_X_y=True))
    x = ((x - x.mean(0)) / x.std(0)).float()
    train = torch.arange(len(x)) % 5 != 0
    return TensorDataset(x[train], y[train]), TensorDataset(x[~train], y[~train])
