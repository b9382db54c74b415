"""Wine: a hundred samples, SGD with momentum."""

from torch import nn

from tuning_problems.data import Sets, dense, wine

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return dense(13, 16, 3)


def dataset() -> Sets:
    """See `data.wine`."""
    return wine()
