"""Breast cancer, five hidden layers without any normalisation, SGD with momentum."""

from torch import nn

from tuning_problems.data import Sets, cancer, dense

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return dense(30, 24, 24, 24, 24, 24, 2)


def dataset() -> Sets:
    """See `data.cancer`."""
    return cancer()
