"""Handwritten digits, four or five hidden layers of ReLU with dropout, SGD.

The space `width=16:128 depth=4,5 dropout=0:0.5`; `points` are thirty of it, drawn once at random.
"""

from torch import nn

from tuning_problems.data import Sets, digits

accuracy_style = "classification"
loss = nn.CrossEntropyLoss

DRAWN = (
    (49, 5, 0.343),
    (103, 4, 0.326),
    (101, 4, 0.435),
    (98, 4, 0.065),
    (84, 4, 0.372),
    (19, 5, 0.063),
    (103, 4, 0.496),
    (122, 4, 0.042),
    (117, 5, 0.413),
    (111, 5, 0.475),
    (117, 5, 0.178),
    (45, 5, 0.449),
    (86, 5, 0.335),
    (71, 5, 0.328),
    (60, 5, 0.345),
    (86, 4, 0.22),
    (109, 5, 0.268),
    (53, 4, 0.09),
    (61, 5, 0.186),
    (49, 5, 0.198),
    (32, 5, 0.275),
    (88, 4, 0.443),
    (105, 5, 0.066),
    (71, 5, 0.195),
    (108, 5, 0.466),
    (21, 4, 0.071),
    (119, 5, 0.32),
    (36, 5, 0.368),
    (48, 5, 0.102),
    (125, 5, 0.26),
)
points = [{"width": width, "depth": depth, "dropout": dropout} for width, depth, dropout in DRAWN]


def model(width: int = 64, depth: int = 4, dropout: float = 0.2) -> nn.Module:
    """So many hidden layers, all of the same width."""
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += [nn.Linear(width if number else 64, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def dataset() -> Sets:
    """See `data.digits`."""
    return digits()
