"""Two spirals, two hidden layers of tanh, SGD with momentum."""

from torch import nn

from tuning_problems.data import Sets, dense, spirals

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return dense(2, 32, 32, 2, inner=nn.Tanh)


def dataset() -> Sets:
    """See `data.spirals`."""
    return spirals()
