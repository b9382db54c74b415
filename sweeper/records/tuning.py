"""Where the tuning of a point stands, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sweeper.records.stages import TRIAL


@dataclass(frozen=True, slots=True)
class TunedSettings:
    """The result of tuning: the settings of a point's trials."""

    lr_min: float
    lr_max: float
    batch_size: int
    weight_decay: float | None = None
    """None: it was not tuned, as with the next."""
    momentum: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A stage of tuning has to run."""

    stage: str
    """Its name with its attempt (`"lr_range"`, `"lr_range.1"`)."""
    replicas: int
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tuned:
    """Trials may run: tuning has found their settings, or there is nothing to tune."""

    found: TunedSettings | None
    """None: the workload has nothing to tune."""
    payload: Mapping[str, Any]
    """The payload of a trial."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Tuning has failed."""

    stage: str
    """The stage that failed."""
    error: str


State: TypeAlias = Running | Tuned | Rejected


@dataclass(frozen=True, slots=True)
class Step:
    """Where a point's tuning stands, as stored: plain data, JSON.  `state` is its typed form."""

    stage: str
    """The stage's name with its attempt (`"lr_range"`, `"lr_range.1"`), or `"trial"` once tuned."""
    replicas: int = 0
    """How many probes the stage runs."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """The payload of the stage's replicas."""
    found: TunedSettings | None = None
    """What tuning has found; None: nothing yet, or there is nothing to tune."""
    error: str | None = None
    """Why tuning failed."""

    @property
    def is_tuned(self) -> bool:
        """Whether trials may run."""
        return self.stage == TRIAL and self.error is None

    @classmethod
    def of(cls, state: State) -> Step:
        """The stored form of `state`."""
        match state:
            case Running(stage, replicas, payload):
                return cls(stage, replicas, payload)
            case Tuned(found, payload):
                return cls(TRIAL, payload=payload, found=found)
            case Rejected(stage, error):
                return cls(stage, error=error)

    @property
    def state(self) -> State:
        """A stage to run, or how tuning ended."""
        if self.error is not None:
            return Rejected(self.stage, self.error)
        if self.is_tuned:
            return Tuned(self.found, self.payload)
        return Running(self.stage, self.replicas, self.payload)
