"""Five labels a sample, four hidden layers with dropout, SGD."""

from torch import nn

from tuning_problems.data import Sets, labels

accuracy_style = "multiclass"
loss = nn.BCEWithLogitsLoss


def model() -> nn.Module:
    """A fresh one."""
    return nn.Sequential(
        *(
            nn.Sequential(nn.Linear(20 if first else 40, 40), nn.ReLU(), nn.Dropout(0.1))
            for first in (True, False, False, False)
        ),
        nn.Linear(40, 5),
    )


def dataset() -> Sets:
    """See `data.labels`."""
    return labels(500)
