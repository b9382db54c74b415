"""A problem whose sets are larger than an evaluation batch and sorted by their labels."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

name = "whole_sets"
accuracy_style = "classification"

_generator = torch.Generator().manual_seed(0)
X = torch.randn(1500, 4, generator=_generator)
Y = (X[:, 0] + 0.7 * torch.randn(1500, generator=_generator) > 1.0).long()
Y[torch.arange(1500) % 3 == 0] = -100
ORDER = Y[200:].argsort()


class Scaled(nn.Module):
    """A loss with a parameter of its own, which behaves otherwise in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-1.0))

    def forward(self, output, y):
        smoothing = 0.1 if self.training else 0.0
        scaled = output * self.log_scale.exp()
        return nn.functional.cross_entropy(scaled, y, label_smoothing=smoothing)


LOSSES = {
    "weighted": lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.05, 1.0])),
    "rooted": lambda: lambda output, y: nn.functional.cross_entropy(output, y).sqrt(),
    "scaled": Scaled,
}


def loss():
    return LOSSES[used]()


used = "weighted"


def dataset():
    return TensorDataset(X[:200], Y[:200]), TensorDataset(X[200:][ORDER], Y[200:][ORDER])


def model(hidden: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))
