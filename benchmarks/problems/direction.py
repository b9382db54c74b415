"""Where does a step on a grid lead: up, left, down, right, or two of them?

The toy task of ignite-simple's examples: every whole step (x, y) of at most 30 each way, 3,721 in
all, of which a tenth validates; a label a direction.  One hidden layer of 128, whose nonlinearity
is swept.  Both sweeps import this very module, and it draws nothing from their generators.
"""

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

REACH = 30
HIDDEN = 128
POINTS = (("Tanh",), ("ReLU",), ("PReLU",))

accuracy_style = "multiclass"
loss = nn.SmoothL1Loss


def model(nonlinearity: str) -> nn.Module:
    """2-128-4; `nonlinearity` is the name of a module of torch.nn."""
    return nn.Sequential(nn.Linear(2, HIDDEN), getattr(nn, nonlinearity)(), nn.Linear(HIDDEN, 4))


def dataset() -> tuple[Dataset, Dataset]:
    """Nine tenths to train on, one tenth to validate on; always the same split."""
    along = torch.arange(-REACH, REACH + 1, dtype=torch.float32)
    steps = torch.cartesian_prod(along, along)
    x, y = steps.unbind(1)
    labels = torch.stack([y < 0, x < 0, y > 0, x > 0], dim=1).float()
    order = torch.randperm(len(steps), generator=torch.Generator().manual_seed(0))
    steps, labels = steps[order], labels[order]
    cut = len(steps) * 9 // 10
    return TensorDataset(steps[:cut], labels[:cut]), TensorDataset(steps[cut:], labels[cut:])
