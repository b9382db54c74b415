"""The plan of points that differ in more than their model.

A point may fix settings, and have an optimizer and data of its own.  What the plan must know of it
first is found by the stage `describe`, which trains nothing.  All else is planned by the method of
the settings, with the point's own settings:

    check -> describe -> way -> ladder -> …

`describe` is left out for points that have nothing of their own and something to tune.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeper.errors import SettingsError
from sweeper.records import CHECK, DESCRIBE, Outcome, Planned, Point, Rejected, Step
from sweeper.settings import HyperparameterSettings, SweepSettings
from sweeper.signature import without_aliases
from sweeper.train.problem.routing import Routes
from sweeper.train.tuning.own import Own
from sweeper.train.tuning.plans.range_plan import BASE_BATCH
from sweeper.train.tuning.stages import Describe, step_of
from sweeper.train.tuning.trials import in_packs, steps_of
from sweeper.workload import Planner

OWN = ("loss", "optimizer", "dataset")
"""The functions whose parameters make a point one that is described."""


def with_fixed(settings: SweepSettings, fixed: Mapping[str, Any]) -> SweepSettings:
    """The sweep's settings with those that a point fixes, by name.

    Raises:
        SettingsError: a value breaks its rule.
    """
    if not fixed:
        return settings
    changes = dict(fixed)
    if fixed.get("epochs") is not None:
        changes["cycle_epochs"] = None
    return replace(settings, hparams=replace(settings.hparams, **changes))


def is_untuned(hparams: HyperparameterSettings) -> bool:
    """Whether rate and batch size are both given, and no option is tuned: nothing is left."""
    return hparams.lr is not None and hparams.batch_size is not None and not hparams.options


def check_given(hparams: HyperparameterSettings) -> None:
    """Check that a point's rate and batch size are given, if they are not tuned.

    Raises:
        SettingsError: one is neither.
    """
    for name in ("lr", "batch_size"):
        if name not in hparams.tune and getattr(hparams, name) is None:
            raise SettingsError(
                f"tune={hparams.tune!r}: {name} must be tuned or given: name it in tune, or give "
                f"{name}=, for all points or as a parameter of each"
            )


@dataclass(frozen=True, slots=True)
class PointPlan:
    """The tuning of every point of one sweep, each with what is its own."""

    routes: Routes
    settings: SweepSettings
    """The sweep's."""
    method: Callable[[SweepSettings, Own], Planner]
    """Makes the plan of a point with these settings."""

    @property
    def tunings(self) -> int:
        """How often each point is tuned."""
        return self.method(self.settings, Own()).tunings

    def first(self, point: Point, *, check: bool) -> Planned:
        """The first step of a point; `check` for the first point of the sweep."""
        settings = self._settings(point)
        untuned = is_untuned(settings.hparams)
        if not check and (untuned or self._has_own(point)):
            told = Describe(BASE_BATCH, untuned, settings.hparams.options or None)
            return Planned(point.signature, step_of(DESCRIBE, 1, told))
        return self.method(settings, Own()).first(point, check=check)

    def next(self, point: Point, step: Step, outcomes: Sequence[Outcome]) -> Planned:
        """The step after `step`, whose replicas' outcomes are all here, in order of number."""
        if step.stage == DESCRIBE:
            return self._after_describe(point, outcomes[0])
        own = Own.read(step.payload)
        planned = self.method(self._settings(point), own).next(point, step, outcomes)
        if step.stage == CHECK and planned.step.error is None:
            return replace(planned, step=self.first(point, check=False).step)
        return replace(planned, step=own.carried_by(planned.step))

    def steps_of(self, step: Step, budget: int | None = None) -> float:
        """Training steps of one of the step's replicas; NaN if nothing is trained."""
        return steps_of(step, budget)

    def in_packs(self, step: Step) -> bool:
        """Whether some of the step's replicas are trained in packs."""
        return in_packs(step)

    def steps_after(self, step: Step) -> float:
        """Estimated training steps after a stage, with the sweep's settings."""
        return self.method(self.settings, Own.read(step.payload)).steps_after(step)

    def _after_describe(self, point: Point, outcome: Outcome) -> Planned:
        if outcome.failure is not None:
            error = Rejected(DESCRIBE, f"{DESCRIBE}: {outcome.failure.message}")
            return Planned(point.signature, Step.of(error), DESCRIBE)
        own = Own.found(outcome)
        begun = self.method(self._settings(point), own).first(point, check=False).step
        return Planned(point.signature, own.carried_by(begun), DESCRIBE, own.payload())

    def _settings(self, point: Point) -> SweepSettings:
        return with_fixed(self.settings, self.routes.settings(without_aliases(point.params)))

    def _has_own(self, point: Point) -> bool:
        return any(self.routes.arguments(function, point.params) for function in OWN)
