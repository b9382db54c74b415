"""784-128-10: one hidden layer on as many features as the images of MNIST have pixels."""

import torch
from torch import nn
from torch.utils.data import Dataset

from problems.digits import split

SAMPLES = 1797
FEATURES = 784
CLASSES = 10
NOISE = 8.0

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def dataset() -> tuple[Dataset, Dataset]:
    """Made up: a centre a class, and so much noise that no model gets all of them right."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    noise = torch.randn(SAMPLES, FEATURES, generator=generator)
    return split((centres[y] + NOISE * noise) / NOISE, y)
