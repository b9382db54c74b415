"""Which optimizer suits the handwritten digits, each tuned in the same way?

    python examples/optimizers.py
    python -m sweeper run examples/optimizers.py     # the same, with options

Optimizer, weight decay and label smoothing are parameters of a point like any other: each goes to
the function that takes it.  The last point is what one might have set by hand.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import sweeper

accuracy_style = "classification"
points = [
    {"opt": "sgd"},
    {"opt": "adam"},
    {"opt": "adamw", "weight_decay": 0.1},
    {"opt": "sgd", "label_smoothing": 0.1},
    {"opt": "adam", "lr": 1e-3, "batch_size": 32},
]
trials = 6


def model() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def loss(label_smoothing: float = 0.0) -> nn.Module:
    """Cross entropy, with labels that may be smoothed."""
    return nn.CrossEntropyLoss(label_smoothing=label_smoothing)


def optimizer(opt: str, weight_decay: float = 0.0) -> dict[str, Any]:
    """An optimizer of torch; the learning rate is tuned."""
    return {"name": opt, "weight_decay": weight_decay}


def dataset() -> TensorDataset:
    """1797 images of 8 × 8 pixels, as numbers from 0 to 1; sweeper splits them."""
    x, y = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y))


if __name__ == "__main__":
    selector = sweeper.FixedSweep.with_fixed_trials(points, trials)
    results = sweeper.sweep(__name__, selector, hparams="fastest", folder="out/optimizers")
    print(results.summary())
