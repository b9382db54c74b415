"""What workers are given: work as the study releases it, and the jobs cut from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["tuning", "trial"]
"""A job's purpose: all that `run/` knows of it."""

ROOT = "root"
"""The key, in the payload of a step, of what its replicas share with others (see `Work.root`)."""


@dataclass(frozen=True, slots=True)
class Work:
    """Replicas of one point and stage, released together and not yet divided into jobs.

    Work of kind `"trial"` says that the point's tuning is over; without numbers, that no trials
    follow.
    """

    point: str
    order: int
    """The point's place in the order of asking, from 0."""
    kind: Kind
    stage: str
    numbers: tuple[int, ...]
    payload: Mapping[str, Any] = field(default_factory=dict)
    """For the executor; opaque to `run/`."""
    expected: float | None = None
    """Expected seconds per replica; None: not known yet."""
    after: float | None = None
    """Expected seconds of the longest path after a replica: the remaining stages of tuning and one
    trial; None: not known yet."""
    most_cores: int | None = None
    """Maximum number of cores that jobs of this work may own at once; None: no limit."""
    together: int | None = None
    """Maximum number of replicas per job of this work; None: the queue's default.  No result
    depends on it."""
    width: int = 1
    """The cores, and compute threads, of each job."""
    root: str = ""
    """What its replicas share with others of the same root, so that a worker that has run one has
    less to do for the next; empty: nothing.  No result depends on it."""


@dataclass(frozen=True, slots=True)
class Job:
    """Some replicas of one work, run in one worker: one after the other, or as a pack."""

    id: int
    point: str
    kind: Kind
    stage: str
    numbers: tuple[int, ...]
    payload: Mapping[str, Any] = field(default_factory=dict)
    expected: float | None = None
    width: int = 1
    """Its cores, and compute threads."""
    root: str = ""
    """As `Work.root`."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default of a dataclass with slots takes several times as long, for every job.
        values = (self.id, self.point, self.kind, self.stage, self.numbers, self.payload)
        return Job, (*values, self.expected, self.width, self.root)


@dataclass(frozen=True, slots=True)
class Start:
    """The scheduler's decision: this job, in that slot, now."""

    job: Job
    slot: int
    """The slot whose worker runs it."""
    others: tuple[int, ...] = ()
    """Further slots whose cores the job owns, while their workers are idle."""
    devices: tuple[str, ...] = ()
    """Identifiers of the devices that the worker may use; empty: devices are not dealt out."""


@dataclass(frozen=True, slots=True)
class Target:
    """What workers execute, as names and values that are opaque to `run/`.

    `execute` is `"module:function"`; the function is called as `execute(context, fd, job)` and
    yields an `Outcome` for each of the job's replicas as it ends.  `fd` is a file descriptor that
    all workers share (training data), or None.  `preload` lists the modules that the fork server
    imports before it forks the first worker.
    """

    execute: str
    context: Any = None
    fd: int | None = None
    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables set from a worker's start on, unless the driver's environment sets
    them."""
