"""What the driver tells its workers; made without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.train.loading import ProblemRef

if TYPE_CHECKING:
    from sweeper.train.data import DataRef


@dataclass(frozen=True, slots=True)
class TrainContext:
    """What every job of a sweep shares."""

    problem: ProblemRef
    source_sha256: str
    """Of the problem's module as the driver read it."""
    data: DataRef
    seed: int
    threads: int
    curve_samples: int
    save_models: bool
    model_path: str
    """Where a trial's weights go, with places for `id` and `number`."""
