"""400 handwritten digits, six residual layers with LayerNorm and dropout, AdamW."""

from torch import nn

from tuning_problems.data import Residual, Sets, digits

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
optimizer = "adamw"


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        nn.Linear(64, 32),
        *(
            Residual(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.1))
            for _ in range(6)
        ),
        nn.Linear(32, 10),
    )


def dataset() -> Sets:
    """See `data.digits`."""
    return digits(400)
