"""Handwritten digits: how much do a wider hidden layer, and its nonlinearity, really help?

The 1,797 images of 8×8 pixels that scikit-learn ships.  `make demo` sweeps `points`; by hand:

    python -m sweeper run examples.digits --grid hidden=8,32 --grid nonlinearity=Tanh,ReLU
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset, TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss

points = [
    {"hidden": hidden, "nonlinearity": nonlinearity}
    for hidden in (8, 32)
    for nonlinearity in ("Tanh", "ReLU")
]
trials = 8


def model(hidden: int = 32, nonlinearity: str = "ReLU") -> nn.Module:
    """One hidden layer; `nonlinearity` is the name of a module of torch.nn."""
    activation: nn.Module = getattr(nn, nonlinearity)()
    return nn.Sequential(nn.Linear(64, hidden), activation, nn.Linear(hidden, 10))


def dataset() -> tuple[Dataset, Dataset]:
    """Four fifths to train on, one fifth to validate on, shuffled (under the sweep's seed)."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.permutation(len(images))  # noqa: NPY002 - the sweep has seeded it
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order], dtype=torch.int64)
    cut = len(x) * 4 // 5
    return TensorDataset(x[:cut], y[:cut]), TensorDataset(x[cut:], y[cut:])
