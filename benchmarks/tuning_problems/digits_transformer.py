"""240 handwritten digits as rows of pixels, a transformer block, AdamW."""

from torch import nn

from tuning_problems.data import Attending, Sets, rows

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = "adamw"


def model() -> nn.Module:
    """A fresh one."""
    return Attending(8, 8, 12, 10)


def dataset() -> Sets:
    """See `data.rows`."""
    return rows()
