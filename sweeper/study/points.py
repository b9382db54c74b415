"""The state of points: their ids, tuning and trials, and what was told of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sweeper.records import (
    CHECK,
    TRIAL,
    Decision,
    Failure,
    GaveUp,
    Outcome,
    Planned,
    Point,
    Recorded,
    RecordedTrials,
    Step,
)
from sweeper.study.failures import Retries, Stopping
from sweeper.study.progress import Tracker
from sweeper.workload import Planner

Ended: TypeAlias = tuple[float, ...] | Failure
"""The result of a trial: its metrics in the workload's order, or its failure."""

Measure: TypeAlias = Callable[[Mapping[str, float]], tuple[float, ...]]
"""Gives an outcome's metrics in the workload's order."""


@dataclass(slots=True, eq=False)
class PointState:
    """The state of one point."""

    point: Point
    id: int
    order: int
    """Its index in the order of asking."""
    step: Step
    measure: Measure
    probes: dict[int, Outcome] = field(default_factory=dict)
    """Outcomes of the current stage of tuning."""
    trials: dict[int, Ended] = field(default_factory=dict)
    """By trial number, including trials not asked for yet."""
    asked: int = 0
    completed: int = 0
    """How many of the asked trials are in `trials`."""
    released: str = ""
    """The stage released last."""
    trials_released: int = 0
    hparams_told: bool = False
    told: int = 0
    """Trials below this number were told."""
    failure_told: int = -1
    """How many trials had been asked for when the failure was told."""
    phase: str = "waiting"
    seconds_per_step: float = math.nan

    @property
    def is_tuning(self) -> bool:
        """Whether its tuning has neither succeeded nor failed."""
        return self.step.found is None and self.step.error is None

    @property
    def is_probed(self) -> bool:
        """Whether all probes of the current stage of tuning have outcomes."""
        return len(self.probes) == self.step.replicas

    def restore(self, trials: RecordedTrials) -> None:
        """Take in the trials stored in the folder."""
        self.trials = dict(trials.ended)
        steps = self.step.payload.get("steps", 0)
        if steps:
            self.seconds_per_step = trials.seconds / steps

    def keep(self, outcome: Outcome) -> bool:
        """Take in an outcome; False if it is already known, or of a stage that is over."""
        known: Mapping[int, Any] = self.trials
        if outcome.stage != TRIAL:
            known = self.probes
            if outcome.stage != self.step.stage or not self.is_tuning:
                return False
        if outcome.number in known:
            return False
        steps = self.step.payload.get("steps", 0)
        if outcome.failure is None and steps:
            self.seconds_per_step = (outcome.ended - outcome.started) / steps
        if outcome.stage != TRIAL:
            self.probes[outcome.number] = outcome
        elif outcome.failure is not None:
            self.trials[outcome.number] = outcome.failure
        else:
            self.trials[outcome.number] = self.measure(outcome.metrics)
        return True

    def advance(self, step: Step) -> None:
        """Continue its tuning with `step`."""
        self.step = step
        self.probes = {}

    def release(self) -> tuple[int, ...] | None:
        """Replicas of the stage `released` that now have to run; None: nothing new."""
        before = self.released
        if self.is_tuning:
            if before == self.step.stage:
                return None
            self.released = self.step.stage
            return tuple(n for n in range(self.step.replicas) if n not in self.probes)
        self.released = TRIAL
        numbers: tuple[int, ...] = ()
        if self.step.error is None:
            new = range(self.trials_released, self.asked)
            self.trials_released = self.asked
            numbers = tuple([n for n in new if n not in self.trials])
        # If tuning was released, the queue must be told that no trials follow.
        return None if not numbers and before in ("", TRIAL) else numbers

    def complete_until(self) -> int:
        """The first asked trial that was not told and has not ended; `asked` if all have."""
        until = self.told
        while until < self.asked and until in self.trials:
            until += 1
        return until

    def tell_failure(self) -> bool:
        """Whether to tell the selector now that tuning failed: once for all that it asked."""
        if self.failure_told >= self.asked:
            return False
        self.failure_told = self.asked
        return True

    def tell_hparams(self) -> bool:
        """Whether to tell the selector the tuned settings now: once."""
        if self.hparams_told:
            return False
        self.hparams_told = True
        return True

    def tell_trials(self, until: int) -> range:
        """Trials below `until` to tell now."""
        numbers = range(self.told, until)
        self.told = max(until, self.told)
        return numbers


class Points:
    """All points, by signature, and which of them have changed."""

    def __init__(
        self,
        planner: Planner,
        metrics: Sequence[str],
        recorded: Recorded,
        retries: Retries,
        stopping: Stopping,
        tracker: Tracker,
    ) -> None:
        self._planner = planner
        self._measure: Measure = operator.itemgetter(*metrics)
        self._recorded = recorded
        self._retries = retries
        self._stopping = stopping
        self._tracker = tracker
        self._ids = dict(recorded.ids)
        self._states: dict[str, PointState] = {}
        self._changed: dict[str, PointState] = {}

    def __getitem__(self, signature: str) -> PointState:
        return self._states[signature]

    def get(self, signature: str) -> PointState | None:
        """A point that was asked for, or None."""
        return self._states.get(signature)

    @property
    def changed(self) -> list[PointState]:
        """Points with something to release or tell, in the order of their changes."""
        return list(self._changed.values())

    def take_changed(self) -> list[PointState]:
        """As `changed`, and clear it."""
        changed = self.changed
        self._changed.clear()
        return changed

    def ask(self, point: Point, trials: int) -> tuple[PointState, list[Decision]]:
        """Add `trials` trials of a point, which may be new; returns the decisions."""
        state = self._states.get(point.signature)
        planned: list[Decision] = []
        if state is None:
            state, planned = self._add(point)
        begin, state.asked = state.asked, state.asked + trials
        if state.phase != "failed":
            self._tracker.ask(trials)
            known = state.trials
            self.complete(state, [known[n] for n in range(begin, state.asked) if n in known])
        self.settle(state)
        return state, planned

    def _add(self, point: Point) -> tuple[PointState, list[Decision]]:
        recorded = self._recorded
        signature = point.signature
        step = recorded.steps.get(signature)
        planned: list[Decision] = []
        first = not self._states
        # If the check has not succeeded, the next new point is checked.
        if step is None or (step.stage == CHECK and not first):
            decision = self._planner.first(point, check=first and self._is_unchecked())
            planned, step = [decision], decision.step
        point_id = self._ids.setdefault(signature, len(self._ids))
        state = PointState(point, point_id, len(self._states), step, self._measure)
        self._states[signature] = state
        self._tracker.add_point()
        if signature in recorded.trials:
            trials = recorded.trials[signature]
            state.restore(trials)
            self._stopping.note_known(trials.ended.values())
        for outcome in recorded.probes.get(signature, ()):
            state.keep(outcome)
        for outcome in self._retries.given_up(signature):
            if state.keep(outcome):
                planned.append(GaveUp(outcome))
        if state.is_tuning and state.is_probed:
            planned.append(self.advance(state))
        return state, planned

    def _is_unchecked(self) -> bool:
        """Whether the folder has no successful check of the problem."""
        steps = self._recorded.steps
        return not steps or any(known.stage == CHECK for known in steps.values())

    def start(self, state: PointState) -> None:
        """Note that a job of the point has started."""
        if state.phase == "waiting":
            self._enter(state, "tuning")

    def advance(self, state: PointState) -> Planned:
        """Plan the step after the one whose probes have all ended; call `settle` afterwards."""
        outcomes = [state.probes[number] for number in sorted(state.probes)]
        planned = self._planner.next(state.point, state.step, outcomes)
        state.advance(planned.step)
        return planned

    def complete(self, state: PointState, ended: Sequence[Ended]) -> None:
        """Count asked trials that have ended."""
        state.completed += len(ended)
        self._tracker.complete(state.point, ended)

    def settle(self, state: PointState) -> None:
        """Mark the point as changed, and move it to the phase of its state."""
        self._changed[state.point.signature] = state
        step = state.step
        if step.error is not None and state.phase != "failed":
            self._enter(state, "failed")
            self._tracker.ask(state.completed - state.asked)
        elif step.found is not None:
            self._enter(state, "done" if state.completed >= state.asked else "training")

    def _enter(self, state: PointState, phase: str) -> None:
        self._tracker.move_point(state.phase, phase)
        state.phase = phase
