"""One transformer block over the 16 patches of a handwritten digit."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from problems.digits import images, split

PATCH = 2
LENGTH = 16
WIDTH = 32
HEADS = 4

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


class Reader(nn.Module):
    """Patches, shape (batch, 16, 4), to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(LENGTH, WIDTH))
        self.block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, dim_feedforward=2 * WIDTH, dropout=0.0, batch_first=True
        )
        self.classify = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, shape (batch, 10)."""
        found: Tensor = self.classify(self.block(self.embed(x) + self.places).mean(1))
        return found


def model() -> nn.Module:
    """A fresh one."""
    return Reader()


def dataset() -> tuple[Dataset, Dataset]:
    """1,437 and 360 images as 16 patches of 4 pixels."""
    x, y = images()
    side = 8 // PATCH
    patches = x.reshape(-1, side, PATCH, side, PATCH).transpose(2, 3)
    return split(patches.reshape(-1, LENGTH, PATCH * PATCH), y)
