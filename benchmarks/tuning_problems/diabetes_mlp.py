"""Diabetes: scaled targets that hardly depend on the inputs, SGD."""

from torch import nn

from tuning_problems.data import Sets, dense, diabetes

accuracy_style = "inv-loss"
loss = nn.MSELoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(10, 24, 1)


def dataset() -> Sets:
    """See `data.diabetes`."""
    return diabetes()
