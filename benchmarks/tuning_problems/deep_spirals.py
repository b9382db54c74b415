"""Two spirals, four hidden layers with BatchNorm, Adam."""

from torch import nn

from tuning_problems.data import Sets, dense, spirals

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = "adam"


def model() -> nn.Module:
    """A fresh one."""
    return dense(2, 24, 24, 24, 24, 2, norm=True)


def dataset() -> Sets:
    """See `data.spirals`."""
    return spirals()
