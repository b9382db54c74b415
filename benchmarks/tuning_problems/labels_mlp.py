"""Five labels a sample, Adam."""

from torch import nn

from tuning_problems.data import Sets, dense, labels

accuracy_style = "multiclass"
loss = nn.BCEWithLogitsLoss
optimizer = "adam"


def model() -> nn.Module:
    """A fresh one."""
    return dense(20, 32, 5)


def dataset() -> Sets:
    """See `data.labels`."""
    return labels()
