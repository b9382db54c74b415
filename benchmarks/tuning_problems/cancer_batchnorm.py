"""Breast cancer, BatchNorm, SGD."""

from torch import nn

from tuning_problems.data import Sets, cancer, dense

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(30, 32, 2, norm=True)


def dataset() -> Sets:
    """See `data.cancer`."""
    return cancer()
