"""300 handwritten digits, a residual block with BatchNorm, SGD with momentum."""

from torch import nn

from tuning_problems.data import Residual, Sets, digits

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "sgd", "momentum": 0.9}


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        ),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def dataset() -> Sets:
    """See `data.digits`."""
    return digits(300, (1, 8, 8))
