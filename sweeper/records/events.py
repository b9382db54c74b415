"""What happens while a sweep runs: the events of the main loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sweeper.records.jobs import Job
from sweeper.records.outcomes import Failure, Outcome


@dataclass(frozen=True, slots=True)
class Started:
    """A job was handed to a worker."""

    time: float
    job: Job
    slot: int
    others: tuple[int, ...] = ()
    """Further slots that it takes."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One replica has its outcome."""

    time: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lost:
    """These replicas of a job have no outcome: their worker died, or memory or disk was full.

    For the first this counts as a try; the others were never begun.
    """

    time: float
    job: Job
    numbers: tuple[int, ...]
    cause: Failure


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened for a while; points may have come from elsewhere."""

    time: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The user, or the system, asked to stop."""

    time: float
    signal: int


Event: TypeAlias = Started | Finished | Lost | Tick | Interrupted
