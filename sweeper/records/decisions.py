"""What the study decides, and what a folder has recorded of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from sweeper.records.outcomes import Failure, Outcome
from sweeper.records.points import Parent, Point
from sweeper.records.stages import trial_stage
from sweeper.records.tuning import Step


class Asked(NamedTuple):
    """The selector was asked; `point` is None if it answered that it waits."""

    point: Point | None
    trials: int = 0
    id: int = -1
    """The number of the point's folder, from 0 in the order of first asking."""
    budget: int | None = None
    """The budget of these trials; None: the workload's own length."""
    group: str = ""
    """The selector's label for them."""
    parent: Parent | None = None
    """The trial that they begin from."""
    lineage: str = ""
    """Their lineage: what `parent` stands for, as part of their identity."""

    @property
    def stage(self) -> str:
        """The stage of these trials."""
        return trial_stage(self.budget, self.lineage)


class Told(NamedTuple):
    """The selector was told of one point: settings found, trials completed, or a failure.

    Without trial numbers: an ask was complete, and nothing of it was left to tell.
    """

    point: str
    what: Literal["hparams", "trials", "failed"]
    numbers: tuple[int, ...] = ()
    budget: int | None = None
    """The budget of these trials."""
    lineage: str = ""
    """Their lineage."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A point's tuning took a step."""

    point: str
    step: Step
    """The stage to run next, or how tuning ended."""
    after: str = ""
    """The stage that ended; empty for a point's first step."""
    choice: Mapping[str, Any] = field(default_factory=dict)
    """What the stage decided, and why: plain data."""
    arrays: bytes = b""
    """The curves behind the decision, an `.npz`."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A replica has used up its tries: its outcome is that failure."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Refused:
    """The selector asked for a point whose parameters do not fit; it is not trained."""

    encoded: str
    """The stored encoding of its parameters (see `sweeper.signature`)."""
    message: str
    """Why."""


SPARE = "spare"
"""The kind of the events that say which trials were released as spare ones (see `Spared`)."""


@dataclass(frozen=True, slots=True)
class Spared:
    """A spare trial was released, which nobody has asked for: it counts once it has ended."""

    point: str
    stage: str
    number: int


Decision: TypeAlias = Asked | Told | Planned | GaveUp | Refused | Spared


@dataclass(frozen=True, slots=True)
class RecordedTrials:
    """The results of a point's trials, only what a study needs: there may be a million."""

    ended: dict[int, tuple[float, ...] | Failure] = field(default_factory=dict)
    """By trial number, in order: the metrics in the order in which the store was asked for them.
    The study takes it over, and adds to it."""
    seconds: float = math.nan
    """Seconds that the last trial without a failure took."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a folder has recorded, from which the study resumes."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    """By signature: where the point's tuning stands."""
    trials: Mapping[str, RecordedTrials] = field(default_factory=dict)
    """By signature, where there are any: trials without a budget."""
    staged: Mapping[str, Mapping[str, RecordedTrials]] = field(default_factory=dict)
    """By signature and stage, where there are any: trials with a budget or a parent."""
    probes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    """By signature, where there are any: the probes of the current stage of tuning."""
    tries: Mapping[tuple[str, str, int], tuple[Failure, ...]] = field(default_factory=dict)
    """By signature, stage and number: how workers died while running the replica."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """By signature: the number of a point's folder."""
    log: tuple[Asked | Told, ...] = ()
    """What this selector asked and was told, in order."""
