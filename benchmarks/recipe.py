"""What the comparisons train, told from one program to the other; without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What tuning found, and how long a trial is."""

    problem: str
    """A module's name."""
    lr_min: float
    lr_max: float
    batch_size: int
    cycle_epochs: int
    cycles: int
