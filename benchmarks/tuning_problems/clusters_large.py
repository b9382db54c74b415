"""4,000 samples of four classes in clusters, BatchNorm, SGD with momentum."""

from torch import nn

from tuning_problems.data import Sets, clusters, dense

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return dense(20, 32, 4, norm=True)


def dataset() -> Sets:
    """See `data.clusters`."""
    return clusters()
