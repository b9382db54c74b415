"""What comes back from workers: outcomes, failures, and a backend's messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica has no result."""

    kind: Literal["exception", "crash", "memory", "disk", "timeout", "changed", "stopped"]
    """`disk`: it is full.  `timeout`: stopped after `trial_timeout`.  `changed`: the problem's
    module has changed.  `stopped`: the worker was ended through no fault of the replica; this does
    not count as a try."""
    message: str
    """One line: what happened."""
    detail: str = ""
    """The traceback, or the likely cause and where to look."""


USAGE = "usage"
"""The name of the text of an `Outcome` that says what it used, as JSON (see `Usage`): stored apart
from its arrays."""


class Usage(NamedTuple):
    """What a trial of a program used, and where it ran."""

    started: float
    ended: float
    cpu_seconds: float
    """Of its process and of child processes that have ended."""
    peak_bytes: int
    """Peak resident memory of its process and children together, as far as it was seen."""
    host: str
    cores: tuple[int, ...]
    """The logical CPUs that it was bound to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one replica: its metrics, arrays and texts, or its failure."""

    point: str
    stage: str
    number: int
    started: float
    ended: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    arrays: bytes = b""
    """An `.npz` without pickled objects, or empty."""
    failure: Failure | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    """By name, one text or a list of texts.  Folders store them among the arrays."""

    def __reduce__(self) -> tuple[Any, ...]:
        # As for `Job`.
        when = (self.started, self.ended)
        what = (self.metrics, self.arrays, self.failure, self.info)
        return Outcome, (self.point, self.stage, self.number, *when, *what)


RETRYABLE = frozenset({"memory", "disk"})
"""Failures that a worker survives and that may not recur: each counts as a try, as a death does."""

NOT_ITS_FAULT = frozenset({"stopped", "disk"})
"""Failures that are not the replica's fault: on resume they do not count as tries."""


def give_up(point: str, stage: str, number: int, cause: Failure, tries: int) -> Outcome:
    """The outcome of a replica that is given up after `tries` tries."""
    message = f"{cause.message}, {tries} times" if tries > 1 else cause.message
    failure = dataclasses.replace(cause, message=message)
    return Outcome(point, stage, number, 0.0, 0.0, failure=failure)


@dataclass(frozen=True, slots=True)
class Died:
    """A backend's message: the worker of this slot has died."""

    slot: int
    cause: Failure


@dataclass(frozen=True, slots=True)
class Result:
    """A backend's message: a replica of the job in this slot has ended."""

    slot: int
    outcome: Outcome


Message: TypeAlias = Died | Result
