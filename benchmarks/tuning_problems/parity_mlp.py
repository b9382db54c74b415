"""The parity of three of twelve signs, AdamW."""

from torch import nn

from tuning_problems.data import Sets, dense, parity

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = "adamw"


def model() -> nn.Module:
    """A fresh one."""
    return dense(12, 48, 2)


def dataset() -> Sets:
    """See `data.parity`."""
    return parity()
