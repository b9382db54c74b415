"""Handwritten digits, one hidden layer, SGD."""

from torch import nn

from tuning_problems.data import Sets, dense, digits

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(64, 32, 10)


def dataset() -> Sets:
    """See `data.digits`."""
    return digits()
