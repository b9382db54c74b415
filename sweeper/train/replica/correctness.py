"""Which validation samples a trial gets right, as its outcome stores it: one bit a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.records import CORRECT
from sweeper.train.data.samples import Data, PartSet

FIRST_TRIALS = 8
"""Of each point the trials below this number store it.  A few suffice: a sample's luck with single
trials falls as one over their number, and eight have trials of each of up to eight tunings."""

Judged = tuple[Tensor, Tensor]
"""Which samples of a batch are correct, and which count, as `Measure.judge` gives them."""


def is_stored(data: Data, number: int) -> bool:
    """Whether the trial of this number stores it; `data` are its own.

    Not where each trial splits the data anew: its validation samples are then its own.
    """
    return number < FIRST_TRIALS and not isinstance(data.val, PartSet)


def packed_bits(
    judged: Sequence[Judged], replicas: int, samples: int
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """For each of some replicas the array to store, by name.

    None is stored where the accuracy style judges no samples, or some of them do not count.

    Args:
        judged: what was found of each batch, all samples of the first replica first.
        replicas: how many replicas were evaluated together.
        samples: size of the validation set.
    """
    if not judged:
        return [{} for _ in range(replicas)]
    right, counts = (
        torch.cat([part.reshape(replicas, -1) for part in parts], dim=1)
        for parts in zip(*judged, strict=True)
    )
    if right.shape[1] != samples or not bool(counts.all()):
        return [{} for _ in range(replicas)]
    return [{CORRECT: row} for row in np.packbits(right.cpu().numpy(), axis=1)]
