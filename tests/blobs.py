"""A problem that trains in milliseconds: two clouds of points in the plane."""

import dataclasses

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import sweeper

accuracy_style = "classification"
loss = nn.CrossEntropyLoss

QUICK = sweeper.HyperparameterSettings(
    method="ranges",
    lr_start=1e-3,
    lr_sweep_len=1.0,
    batch_start=4,
    batch_end=16,
    batch_pts=0,
    warmup_batch=16,
    cycle_epochs=2,
    cycles=2,
)
"""Settings that tune and train in a fraction of a second."""

LADDER = sweeper.HyperparameterSettings(tunings=2, probe_length=0.5, cycle_epochs=1, cycles=2)
"""As `QUICK`, by the other method."""

UNTUNED = dataclasses.replace(LADDER, lr=0.1, batch_size=8)
"""Nothing is tuned: for what is not about tuning, in half the time."""


def model(hidden: int = 4, dropout: float = 0.0, nonlinearity: type[nn.Module] = nn.Tanh):
    return nn.Sequential(
        nn.Linear(2, hidden), nonlinearity(), nn.Dropout(dropout), nn.Linear(hidden, 2)
    )


def dataset() -> tuple[Dataset, Dataset]:
    y = np.arange(96) % 2
    x = np.random.normal(size=(96, 2)) + 2 * y[:, None]  # noqa: NPY002 - seeded by the sweep
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    return TensorDataset(*data[:64]), TensorDataset(*data[64:])
