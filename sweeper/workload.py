"""The protocol of workloads: what the engine needs of a problem (or program) to sweep it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sweeper.records import Metric, Outcome, Params, Planned, Point, Step, Target
from sweeper.settings import SweepSettings


@dataclass(frozen=True, slots=True)
class Source:
    """A source file as it was when the workload was read."""

    label: str
    """Its path, relative to the folder of the workload's own file."""
    path: str
    sha256: str
    text: bytes
    """Its text, compressed by zlib; empty for a file that is too large."""


@dataclass(frozen=True, slots=True)
class Code:
    """The source files of a workload."""

    sources: tuple[Source, ...]
    """The workload's own file, and those that it imports."""
    own_label: str
    """The label of the own file."""
    own_sha256: str
    stale: tuple[str, ...] = ()
    """Labels of sources of which this process has imported an earlier version."""
    incomparable: str = ""
    """Why no point's behaviour can be compared with its earlier behaviour; empty if it can."""

    @property
    def own(self) -> Source:
        """The workload's own file."""
        return next(source for source in self.sources if source.label == self.own_label)


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What the engine says of the trials of a sweep; a workload takes what concerns it."""

    seed: int
    threads: int
    numerics: int
    model_path: str
    """The path of a trial's weights, with placeholders for `id` and `number`."""
    checkpoints: str
    """The folder in which trials are saved."""
    logs: str
    """The folder of what workers print."""
    checkpoint_every: float
    """Seconds after which a trial is saved."""
    curve_samples: int
    save_models: bool
    allow_changed_code: bool
    devices: int = 0
    """How many devices each trial gets."""
    keep_ends: bool = False
    """Whether each trial's end is saved, too, for others to begin from it."""


class Planner(Protocol):
    """Plans the tuning of points: outcomes of a stage in, the next stage out."""

    @property
    def tunings(self) -> int:
        """How many times each point is tuned: trial n is trained with tuning n % tunings."""

    def first(self, point: Point, *, check: bool) -> Planned:
        """A point's first step."""

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas all have outcomes."""

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """Training steps of one of the step's replicas, with this budget if it is a trial."""

    def steps_after(self, step: Step) -> float:
        """Training steps along the path after a stage: later stages and one trial, roughly."""

    def in_packs(self, step: Step) -> bool:
        """Whether replicas of the step may be trained together."""


class Workload(Protocol):
    """A workload that has been found, but may still be loading."""

    @property
    def name(self) -> str:
        """Its name, used for the default folder and in every point's signature.

        Raises:
            ProblemError: it cannot be read, or is invalid.
        """

    @property
    def module(self) -> str:
        """The module whose own classes and functions may be parameters."""

    def expect_tuning(self) -> None:
        """Start preparing what is needed only if there are points to tune; may do nothing."""

    def open(self, seed: int, threads: int) -> OpenWorkload:
        """Read what trials share, such as data, with `threads` threads, as in a trial.

        Raises:
            ProblemError: it cannot be read.
        """


class OpenWorkload(Protocol):
    """A workload with the data that its trials share.

    A façade: all that the engine asks of a workload, so it has many methods, each of them short.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a folder's identity has besides settings and seed: plain data."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that each of its trials measures."""

    @property
    def data_sha256(self) -> Sequence[str]:
        """The checksum of its data, then the checksums that earlier releases gave the same data."""

    @property
    def code(self) -> Code:
        """Its source files."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts to store for readers of the folder: plain data, by key of `meta`."""

    def versions(self, numerics: int) -> Mapping[str, str]:
        """What the last bits of results depend on besides its code: versions by name."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks for readers of the results; the first is shown when the sweep begins."""

    def check_params(self, params: Params, settings: SweepSettings) -> None:
        """Check that a point may have these parameters, as far as can be known before it runs.

        Raises:
            ParamError: an unknown or missing parameter (the message lists the known ones), or a
                setting with a value that it may not have beside the sweep's settings.
        """

    def planner(self, settings: SweepSettings, seed: int) -> Planner:
        """The planner that tunes its points."""

    def check_steps(self, payloads: Iterable[Mapping[str, Any]], *, allow: bool) -> None:
        """Check that a folder's points can continue from their current steps as they began.

        Raises:
            ChangedCodeError: one cannot, and `allow` is False.
        """

    def target(self, options: TargetOptions) -> Target:
        """What workers execute, with its context, descriptors and environment."""

    def in_this_process(self, numerics: int) -> contextlib.AbstractContextManager[None]:
        """Context in which the driver's process computes as a worker does; restores it on exit."""

    def take_fingerprints(self, points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        """The fingerprints of points, given their signatures and encoded parameters.

        None stands for a point that raises.
        """

    def is_comparable(self, fingerprint: str | None) -> bool:
        """Whether a stored fingerprint can be taken again in the same way."""

    def is_same(self, fingerprint: str | None, now: str | None) -> bool:
        """Whether two fingerprints show the same behaviour."""

    def read_source(self, path: Path, folder: Path) -> Source:
        """A file's current state, labelled by its path relative to `folder`."""

    def release(self) -> None:
        """Free what was needed to read it; no fingerprints can be taken afterwards."""
