"""What is swept, as the engine sees it: a problem, which sweeper trains, or a program."""

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
    """Its path, from the folder of the workload's own file."""
    path: str
    sha256: str
    text: bytes
    """What it said, compressed by zlib; empty for a file that is too large."""


@dataclass(frozen=True, slots=True)
class Code:
    """The source files of a workload."""

    sources: tuple[Source, ...]
    """The workload's own file, and those that it imports."""
    own_label: str
    """The own file's, among the sources."""
    own_sha256: str
    stale: tuple[str, ...] = ()
    """Of the sources, those that this process has imported as they were before: their labels."""
    incomparable: str = ""
    """Why no point's behaviour can be compared with what it was; empty where it can."""

    @property
    def own(self) -> Source:
        """The workload's own file."""
        return next(source for source in self.sources if source.label == self.own_label)


class Planner(Protocol):
    """How points are tuned: outcomes of a stage in, the next stage out."""

    @property
    def tunings(self) -> int:
        """How many times each point is tuned: trial n is trained with tuning n % tunings."""

    def first(self, point: Point, *, check: bool) -> Planned:
        """A point's first step."""

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas all have outcomes."""

    def steps_after(self, step: Step) -> float:
        """Training steps along the path behind a stage: later stages and one trial, roughly."""


class Workload(Protocol):
    """A workload that has been found.  What it consists of may still be on its way."""

    @property
    def name(self) -> str:
        """Its name: of the default folder, and in every point's signature.

        Raises:
            ProblemError: it cannot be read, or is not as it must be.
        """

    @property
    def module(self) -> str:
        """The module whose own classes and functions may be parameters."""

    def expect_tuning(self) -> None:
        """Begin to prepare what only a sweep needs that has points to tune; may do nothing."""

    def open(self, seed: int, threads: int) -> OpenWorkload:
        """Read what trials share, such as data, with as many `threads` as a trial has.

        Raises:
            ProblemError: it cannot be read.
        """


class OpenWorkload(Protocol):
    """A workload with all that its trials share."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What makes a folder its own, beside settings and seed: plain data."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What each of its trials comes to."""

    @property
    def data_sha256(self) -> Sequence[str]:
        """The checksum of its data; then those that earlier releases had of the same data."""

    @property
    def code(self) -> Code:
        """Its source files."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What readers of the folder need to know of it: plain data, by the key of `meta`."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What the last bits of results depend on, beside its code: versions by name."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the results should know; the first is said when the sweep begins."""

    def check_params(self, params: Params) -> None:
        """Whether a point may have these parameters, as far as that is known before it runs.

        Raises:
            ParamError: an unknown or missing parameter; the message lists the known ones.
        """

    def planner(self, settings: SweepSettings, seed: int) -> Planner:
        """How its points are tuned."""

    def check_steps(self, payloads: Iterable[Mapping[str, Any]], *, allow: bool) -> None:
        """See that the steps at which a folder's points stand can go on as they began.

        Raises:
            ChangedCodeError: one cannot, and it is not allowed to `allow` for that.
        """

    def target(
        self,
        *,
        seed: int,
        threads: int,
        numerics: int,
        model_path: str,
        curve_samples: int,
        save_models: bool,
        allow_changed_code: bool,
    ) -> Target:
        """What workers execute, with which context, descriptors and environment."""

    def in_this_process(self, target: Target) -> contextlib.AbstractContextManager[None]:
        """While jobs run in the driver's own process: as in a worker; afterwards as before."""

    def take_fingerprints(self, points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        """How points behave, of which these are the signatures and encoded parameters.

        None stands for one that raises.
        """

    def is_comparable(self, fingerprint: str | None) -> bool:
        """Whether a fingerprint that a folder keeps could be taken again as it was."""

    def is_same(self, fingerprint: str | None, now: str | None) -> bool:
        """Whether two fingerprints are of the same behaviour."""

    def read_source(self, path: Path, folder: Path) -> Source:
        """A file as it is, labelled by its path from `folder`."""

    def release(self) -> None:
        """Let go of what served to read it; no fingerprints are taken from here on."""
