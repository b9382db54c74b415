"""A program as a workload.

The driver does not import the program: a helper process reads it, or this one if there is no
helper.  A command is not imported at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sweeper.code.carried import COPIED
from sweeper.code.sources import read_source
from sweeper.errors import SettingsError
from sweeper.program.command.command import Command
from sweeper.program.objective.branches import root_of
from sweeper.program.objective.locate import ObjectiveRef
from sweeper.program.records.redirect import NONE
from sweeper.program.spec import ON_ERROR, RAISE, ProgramContext, ProgramSpec
from sweeper.records import (
    ROOT,
    Metric,
    Outcome,
    Params,
    Planned,
    Point,
    Step,
    Target,
    Tuned,
)
from sweeper.settings import SweepSettings
from sweeper.workload import Code, OpenWorkload, Planner, Source, TargetOptions

EXECUTE = "sweeper.program.job:execute"
"""The function that workers execute."""

PRELOAD = ("sweeper.program.job", "sweeper.program.reading")
"""Modules that workers and the helper process import before they begin."""


ENVIRONMENT = {"MKL_CBWR": "AUTO"}
"""Without it, on some processors a matrix product depends on where its operands lie in memory, and
so on the trials that ran before."""


class Place(Protocol):
    """Where the program is imported; functions get the number of a file first."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Call `"module:function"` there; exceptions are raised here."""

    def load(self, modules: Sequence[str]) -> None:
        """Import these modules ahead for workers; may do nothing."""

    def close(self) -> None:
        """End; no further calls follow."""


class ProgramWorkload:
    """See `Workload`."""

    def __init__(
        self,
        ref: ObjectiveRef | Command,
        place: Place,
        metrics: Sequence[Metric],
        on_error: str = RAISE,
        redirect: str = NONE,
        *,
        profile: bool = False,
    ) -> None:
        """The objective at `ref`, or a command; `metrics` are those that are declared.

        `redirect` says where a trial's output goes (see `redirect.CHOICES`), `profile` whether it
        is profiled.

        Raises:
            SettingsError: `on_error` is none of `ON_ERROR`.
        """
        if on_error not in ON_ERROR:
            choices = " or ".join(map(repr, ON_ERROR))
            raise SettingsError(f"on_error={on_error!r}: choose {choices}")
        self._ref, self._place, self._metrics = ref, place, tuple(metrics)
        self._on_error, self._redirect, self._profile = on_error, redirect, profile

    @functools.cached_property
    def spec(self) -> ProgramSpec:
        """What is known of the program; waits until an objective is imported.

        Raises:
            UsageError: it cannot be imported, or a command cannot be started.
            BackendError: the helper process cannot be started, or dies.
        """
        spec: ProgramSpec = self._place.call("sweeper.program.reading:read_spec", self._ref)
        return spec

    @property
    def name(self) -> str:
        """See `Workload`."""
        return self._ref.name

    @property
    def module(self) -> str:
        """See `Workload`."""
        return "" if isinstance(self._ref, Command) else self._ref.module.module

    def expect_tuning(self) -> None:
        """See `Workload`; nothing is tuned."""

    def open(self, seed: int, threads: int) -> OpenWorkload:
        """See `Workload`."""
        del seed, threads
        if self.spec.uses_torch:  # once, instead of once a worker
            self._place.load(("torch",))
        how = (self._on_error, self._redirect)
        return OpenProgram(self.spec, self._place, self._metrics, *how, profile=self._profile)


class OpenProgram:
    """See `OpenWorkload`."""

    def __init__(
        self,
        spec: ProgramSpec,
        place: Place,
        metrics: tuple[Metric, ...],
        on_error: str,
        redirect: str,
        *,
        profile: bool,
    ) -> None:
        self._spec, self._place, self._metrics = spec, place, metrics
        self._on_error, self._redirect, self._profile = on_error, redirect, profile

    @property
    def identity(self) -> Mapping[str, Any]:
        """The program's name stands under `problem`, as a problem's does."""
        ref = self._spec.ref
        own: dict[str, Any] = {"workload": "program", "problem": ref.name}
        if isinstance(ref, Command):
            own |= {"command": list(ref.argv), "patterns": dict(ref.metrics or {})}
        return own

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that are declared; trials may measure others."""
        return self._metrics

    @property
    def data_sha256(self) -> Sequence[str]:
        """See `OpenWorkload`; what a program reads is not known."""
        return ("",)

    @property
    def code(self) -> Code:
        """See `OpenWorkload`."""
        spec = self._spec
        own = next(one.sha256 for one in spec.sources if one.label == spec.own_label)
        why = "what a program does cannot be compared"
        return Code(spec.sources, spec.own_label, own, spec.stale, why)

    @property
    def facts(self) -> Mapping[str, Any]:
        """See `OpenWorkload`."""
        known = self._spec.takes.known
        return {
            "parameters": None if known is None else list(known),
            "metrics": [dataclasses.asdict(metric) for metric in self._metrics],
            **({"profile": True} if self._profile else {}),
        }

    def versions(self, numerics: int) -> Mapping[str, str]:
        """See `OpenWorkload`."""
        del numerics
        return {"python": platform.python_version(), "numpy": np.__version__}

    @property
    def notes(self) -> Sequence[str]:
        """See `OpenWorkload`."""
        ref = self._spec.ref
        if isinstance(ref, Command):
            return (f"each trial is one run of the command {ref.shown}",)
        return (
            self._about,
            *([f"no module has it, so {COPIED}"] if ref.carried is not None else []),
        )

    @property
    def _about(self) -> str:
        name = self._spec.ref.name
        if self._spec.is_class:
            return f"each trial is one run of the class {name}; {self._sharing}"
        kind = "generator" if self._spec.yields else "function"
        return f"each trial is one call of the {kind} {name}"

    @property
    def _sharing(self) -> str:
        shared = self._spec.takes.shared
        agree = f"trials that agree on {', '.join(shared)}" if shared else "all trials of a worker"
        return f"{agree} share its setup"

    def check_params(self, params: Params, settings: SweepSettings) -> None:
        """See `OpenWorkload`."""
        del settings
        if isinstance(self._spec.ref, Command):
            self._spec.ref.check(params)
        else:
            self._spec.takes.arguments(params)

    def planner(self, settings: SweepSettings, seed: int) -> Planner:
        """See `OpenWorkload`."""
        del settings, seed
        takes, ref = self._spec.takes, self._spec.ref
        if not self._spec.is_class or isinstance(ref, Command):
            return ProgramPlan()
        return ProgramPlan(functools.partial(root_of, takes, ref))

    def check_steps(self, payloads: Iterable[Mapping[str, Any]], *, allow: bool) -> None:
        """See `OpenWorkload`; a program's steps say nothing."""

    def target(self, options: TargetOptions) -> Target:
        """See `OpenWorkload`."""
        context = ProgramContext(
            self._spec.ref,
            self._spec.takes,
            tuple((source.path, source.sha256) for source in self._files),
            seed=options.seed,
            devices=options.devices,
            metrics=tuple(metric.name for metric in self._metrics),
            on_error=self._on_error,
            checkpoints=options.checkpoints,
            folder=str(Path(options.model_path).parent),
            uses_torch=self._spec.uses_torch,
            redirect=self._redirect,
            profile=self._profile,
            shared=options.logs,
        )
        return Target(EXECUTE, context, None, PRELOAD, ENVIRONMENT)

    @property
    def _files(self) -> Sequence[Source]:
        """The sources that are files: an objective that is carried is none."""
        spec = self._spec
        if isinstance(spec.ref, Command) or spec.ref.carried is None:
            return spec.sources
        return [source for source in spec.sources if source.label != spec.own_label]

    def in_this_process(self, numerics: int) -> contextlib.AbstractContextManager[None]:
        """See `OpenWorkload`."""
        from sweeper.program.inline import own_generators

        del numerics
        return own_generators()

    def take_fingerprints(self, points: Sequence[tuple[str, str]]) -> Sequence[str | None]:
        """See `OpenWorkload`; a program has none."""
        return [None for _ in points]

    def is_comparable(self, fingerprint: str | None) -> bool:
        """See `OpenWorkload`."""
        del fingerprint
        return False

    def is_same(self, fingerprint: str | None, now: str | None) -> bool:
        """See `OpenWorkload`."""
        del fingerprint, now
        return False

    def read_source(self, path: Path, folder: Path) -> Source:
        """See `OpenWorkload`."""
        return read_source(path, folder)

    def release(self) -> None:
        """End the helper process."""
        self._place.close()


class ProgramPlan:
    """See `Planner`: nothing is tuned, so the first step is that of trials."""

    tunings = 1

    def __init__(self, root_of: Callable[[Params], str] | None = None) -> None:
        """`root_of` gives the root of a point's trials; None: they share nothing."""
        self._root_of = root_of

    def first(self, point: Point, *, check: bool) -> Planned:
        """A point's first step."""
        del check
        payload = {} if self._root_of is None else {ROOT: self._root_of(point.params)}
        return Planned(point.signature, Step.of(Tuned(None, payload)))

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """See `Planner`; no step of a program is followed by another."""
        raise AssertionError(f"{point.signature}: {step.stage} has no next step: {outcomes}")

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """The iterations of a trial; without a budget, one call."""
        del step
        return float(budget or 1)

    def steps_after(self, step: Step) -> float:
        """See `Planner`."""
        del step
        return 0.0

    def in_packs(self, step: Step) -> bool:
        """See `Planner`."""
        del step
        return False
