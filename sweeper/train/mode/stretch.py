"""The few training steps that every check of a point makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.train.data.samples import Data
from sweeper.train.packs.loop import keys_of
from sweeper.train.packs.members import Member
from sweeper.train.replica.streams import fork_rng
from sweeper.train.tuning.trials import Trial

CHECK_STEPS = 4
"""Steps over which packs are compared with eager training and with each other."""


def batches_of(data: Data, size: int) -> Iterator[tuple[Any, Any]]:
    """Endless batches of samples from the whole set, since data may be sorted by label."""
    samples = len(data.train)
    chosen = np.random.default_rng(0)
    while True:
        with fork_rng():
            places = chosen.choice(samples, min(size, samples), replace=False)
            yield next(iter(data.train.batches([places])))


def rates_of(trial: Trial) -> list[float]:
    """Learning rates of the steps, from a trial's lowest to its highest."""
    low, high = trial.lr_start, trial.lr_end
    return [float(rate) for rate in np.linspace(low, high, CHECK_STEPS)]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a few replicas are trained with for a few steps."""

    batches: list[tuple[Tensor, Tensor]]
    """For each step, stacked."""
    keys: list[Tensor]
    rates: list[float]

    @classmethod
    def of(
        cls, members: list[Member], kinds: list[int], batches: list[Any], rates: list[float]
    ) -> Stretch:
        """A stretch of members `kinds`, in this order; member k starts k batches ahead."""
        stacked = [
            (
                torch.stack([batches[place + kind][0] for kind in kinds]),
                torch.stack([batches[place + kind][1] for kind in kinds]),
            )
            for place in range(len(rates))
        ]
        streams = [members[kind].streams for kind in kinds]
        keys = list(keys_of(streams, members[0].trace, len(rates)))
        return cls(stacked, keys, rates)
