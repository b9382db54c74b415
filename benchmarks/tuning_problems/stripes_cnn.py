"""Stripes in noise by their direction, convolutions, SGD."""

from torch import nn

from tuning_problems.data import Sets, stripes

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def dataset() -> Sets:
    """See `data.stripes`."""
    return stripes()
