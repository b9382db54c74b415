"""A problem whose native step `test_compiled` makes once, for trials by hand and for sweeps."""

from __future__ import annotations

from torch import nn
from torch.utils.data import TensorDataset

import sweeper
from test_probes import data_of

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = {"name": "adamw", "weight_decay": 0.1}

BATCH = 13
"""Samples of a batch: a step of another shape would be compiled anew."""

HPARAMS = sweeper.HyperparameterSettings(lr=0.01, batch_size=BATCH, cycle_epochs=1, cycles=2)
"""Nothing is tuned, so that no step is needed but that of trials."""


def model() -> nn.Module:
    """What could depend on the place: odd sizes, approximations, random numbers and buffers."""
    return nn.Sequential(
        nn.Linear(3, 7, bias=False), nn.BatchNorm1d(7), nn.SiLU(), nn.Dropout(0.3), nn.Linear(7, 2)
    )


def dataset() -> tuple[TensorDataset, TensorDataset]:
    train, val = (TensorDataset(part.x, part.y) for part in (data_of().train, data_of().val))
    return train, val
