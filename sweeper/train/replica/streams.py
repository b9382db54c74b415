"""A replica's random streams, and the global generators of torch, numpy and Python.

Every stream is spawned from the sweep's seed; nothing reads the clock.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from sweeper.signature import STREAMS, lineage_numbers, seed_sequence
from sweeper.train.tuning.names import STAGE_CODES, split_stage


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of one replica."""

    seed: int
    """The sweep's seed."""
    signature: str
    stage: str
    number: int

    def sequence(self, stream: str) -> np.random.SeedSequence:
        """The root of a stream: `"init"`, `"order"`, `"inside"` or `"evaluation"`."""
        base, attempt = split_stage(self.stage)
        which = (STAGE_CODES[base], attempt, self.number, STREAMS[stream])
        # One that begins from another must not see its parent's order of the data again.
        return seed_sequence(self.seed, self.signature, *which, *lineage_numbers(self.stage))

    def generator(self, stream: str) -> np.random.Generator:
        """A new generator at the start of the stream."""
        return np.random.default_rng(self.sequence(stream))

    def seed_globals(self, stream: str) -> None:
        """Seed the global generators that a model or a dataset may draw from."""
        seed_globals(self.sequence(stream))

    @property
    def trial_seed(self) -> int:
        """One seed per replica, for a user's own generators."""
        return int(self.sequence("init").generate_state(1, np.uint64)[0] >> np.uint64(1))

    @property
    def key(self) -> int:
        """The key that is hashed for random numbers in a pack; no generator uses these bits."""
        return int(self.sequence("inside").generate_state(5, np.uint64)[4])


def seed_globals(sequence: np.random.SeedSequence) -> None:
    """Seed the global generators of torch, numpy and random, each differently."""
    words = sequence.generate_state(8, np.uint32)
    seed = int(words[0]) << 32 | int(words[1])
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed formats the call stack for each kind of device there might be
        torch.default_generator.manual_seed(seed)
    np.random.seed(words[2:6])
    random.seed(int(words[6]) << 32 | int(words[7]))


_States: TypeAlias = tuple[torch.Tensor, Any, Any]


def _states() -> _States:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _restore(states: _States) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def written_globals() -> dict[str, Any]:
    """The states of the global generators, as tensors and texts."""
    own, (kind, keys, *numbers), python = _states()
    return {
        "torch": own,
        "numpy": json.dumps([kind, keys.tolist(), *numbers]),
        "python": json.dumps(python),
    }


def restore_globals(states: Mapping[str, Any]) -> None:
    """Set the global generators to states that `written_globals` gave."""
    kind, keys, *numbers = json.loads(states["numpy"])
    version, words, gauss = json.loads(states["python"])
    numpy = (kind, np.array(keys, dtype=np.uint32), *numbers)
    _restore((states["torch"], numpy, (version, tuple(words), gauss)))


def _differ(one: _States, other: _States) -> bool:
    return (
        not torch.equal(one[0], other[0])
        or one[2] != other[2]
        or not all(map(np.array_equal, one[1], other[1]))
    )


@contextlib.contextmanager
def fork_rng() -> Iterator[None]:
    """Restore the global generators on exit."""
    states = _states()
    try:
        yield
    finally:
        _restore(states)


class RngFork:
    """As `fork_rng`, entered many times: if the first block draws nothing, none is taken to.

    Reading and writing numpy's state alone takes as long as a small training step.
    """

    def __init__(self, *, every: bool = False) -> None:
        """`every`: each block is taken to draw, whatever the first does."""
        self.draws: bool | None = True if every else None
        """Whether blocks draw; None before the first."""

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """As `fork_rng`."""
        if self.draws is False:
            yield
            return
        before = _states()
        try:
            yield
        finally:
            if self.draws is None:
                self.draws = _differ(before, _states())
            _restore(before)


def dataset_seed(seed: int) -> np.random.SeedSequence:
    """The seed of the problem's `dataset()`: depends on the sweep's seed alone."""
    return np.random.SeedSequence(seed)


def split_seed(seed: int, number: int) -> np.random.SeedSequence:
    """The seed of the split of trials with this number, for all points."""
    return np.random.SeedSequence(seed, spawn_key=(_SPLIT, number))


_SPLIT = 1


def reading_seed(seed: int, reading: int) -> np.random.SeedSequence:
    """The seed of one reading of all samples."""
    return np.random.SeedSequence(seed, spawn_key=(reading,))
