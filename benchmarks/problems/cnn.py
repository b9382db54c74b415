"""A small convolutional network with batch normalisation: handwritten digits."""

from torch import nn
from torch.utils.data import Dataset

from problems.digits import images, split

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


def dataset() -> tuple[Dataset, Dataset]:
    """1,437 and 360 images, shape (1, 8, 8)."""
    x, y = images()
    return split(x.unsqueeze(1), y)
