"""Friedman #1, scaled targets, five hidden layers with BatchNorm, AdamW."""

from torch import nn

from tuning_problems.data import Sets, dense, friedman

accuracy_style = "inv-loss"
loss = nn.MSELoss
optimizer = "adamw"


def model() -> nn.Module:
    """A fresh one."""
    return dense(10, 32, 32, 32, 32, 32, 1, norm=True)


def dataset() -> Sets:
    """See `data.friedman`."""
    return friedman(500, scaled=True)
