"""3,000 samples of three shells, AdamW."""

from torch import nn

from tuning_problems.data import Sets, dense, shells

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = "adamw"


def model() -> nn.Module:
    """A fresh one."""
    return dense(6, 32, 3)


def dataset() -> Sets:
    """See `data.shells`."""
    return shells()
