"""Iris: a hundred samples, inputs as they are, SGD."""

from torch import nn

from tuning_problems.data import Sets, dense, iris

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(4, 12, 3, inner=nn.Tanh)


def dataset() -> Sets:
    """See `data.iris`."""
    return iris()
