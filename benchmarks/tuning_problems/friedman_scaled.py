"""Friedman #1, scaled targets, two hidden layers, SGD."""

from torch import nn

from tuning_problems.data import Sets, dense, friedman

accuracy_style = "inv-loss"
loss = nn.MSELoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(10, 32, 32, 1)


def dataset() -> Sets:
    """See `data.friedman`."""
    return friedman(scaled=True)
