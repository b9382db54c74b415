"""Two moons, one hidden layer of tanh, SGD."""

from torch import nn

from tuning_problems.data import Sets, dense, moons

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return dense(2, 16, 2, inner=nn.Tanh)


def dataset() -> Sets:
    """See `data.moons`."""
    return moons()
