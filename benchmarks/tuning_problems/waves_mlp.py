"""Two sines over one input, two hidden layers of tanh, Adam."""

from torch import nn

from tuning_problems.data import Sets, dense, waves

accuracy_style = "inv-loss"
loss = nn.MSELoss
optimizer = "adam"


def model() -> nn.Module:
    """A fresh one."""
    return dense(1, 32, 32, 1, inner=nn.Tanh)


def dataset() -> Sets:
    """See `data.waves`."""
    return waves()
