"""300 handwritten digits, two convolutions, SGD with momentum."""

from torch import nn

from tuning_problems.data import Sets, digits

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def dataset() -> Sets:
    """See `data.digits`."""
    return digits(300, (1, 8, 8))
