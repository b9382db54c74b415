"""All points: which there are, their ids, and what changes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeper.records import (
    CHECK,
    FINAL,
    TRIAL,
    Decision,
    GaveUp,
    Planned,
    Point,
    Recorded,
    trial_stage,
)
from sweeper.search import Ask
from sweeper.study.failures import Retries, Stopping
from sweeper.study.measures import Measures
from sweeper.study.progress import Tracker
from sweeper.study.state import Ended, Measure, Origin, PointState, Series, lineage_from
from sweeper.study.stop_when import StopRule
from sweeper.workload import Planner


class Points:
    """All points, by signature, and which of them have changed."""

    def __init__(
        self,
        planner: Planner,
        measures: Measures,
        recorded: Recorded,
        retries: Retries,
        stopping: Stopping,
        tracker: Tracker,
        stop_rule: StopRule,
    ) -> None:
        self._planner = planner
        self._measure: Measure = measures.read
        self._recorded = recorded
        self._retries = retries
        self._stopping = stopping
        self._tracker = tracker
        self._stop_rule = stop_rule
        self._ids = dict(recorded.ids)
        self._states: dict[str, PointState] = {}
        self._changed: dict[str, PointState] = {}
        self.judged_group = ""
        """The group whose trials are compared in the end: `"final"`, or else the newest."""

    def __getitem__(self, signature: str) -> PointState:
        return self._states[signature]

    def get(self, signature: str) -> PointState | None:
        """A point that was asked for, or None."""
        return self._states.get(signature)

    def __iter__(self) -> Iterator[PointState]:
        return iter(self._states.values())

    @property
    def changed(self) -> list[PointState]:
        """Points with something to release or tell, in the order of their changes."""
        return list(self._changed.values())

    def take_changed(self) -> list[PointState]:
        """As `changed`, and clear it."""
        changed = self.changed
        self._changed.clear()
        return changed

    def ask(
        self, point: Point, ask: Ask, origin: Origin | None = None
    ) -> tuple[PointState, Series, list[Decision]]:
        """Add trials of a point, which may be new; returns the decisions.

        They begin from `origin`, if there is one.
        """
        trials, stage = ask.trials, trial_stage(ask.budget, lineage_from(origin))
        state = self._states.get(point.signature)
        planned: list[Decision] = []
        if state is None:
            state, planned = self._add(point)
        series = state.series_of(stage)
        series.origin = origin
        if ask.group not in series.groups and self.judged_group != FINAL:
            self.judged_group = ask.group
        begin = series.ask(trials, ask.group)
        state.asked += trials
        if state.phase != "failed":
            self._tracker.ask(point, trials)
            known = series.trials
            ended = [known[n] for n in range(begin, series.asked) if n in known]
            self.complete(state, series, ended)
        self.settle(state)
        return state, series, planned

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
        order, steps_of = len(self._states), self._planner.steps_of
        state = PointState(point, point_id, order, step, self._measure, steps_of)
        self._states[signature] = state
        self._tracker.add_point()
        stored = [*recorded.staged.get(signature, {}).items()]
        if signature in recorded.trials:
            stored.append((TRIAL, recorded.trials[signature]))
        for stage, trials in stored:
            state.restore(stage, trials)
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

    def complete(self, state: PointState, series: Series, ended: Sequence[Ended]) -> None:
        """Count asked trials that have ended."""
        state.completed += len(ended)
        self._tracker.complete(state.point, series.stage, ended)

    def settle(self, state: PointState) -> None:
        """Mark the point as changed, and move it to the phase of its state."""
        self._changed[state.point.signature] = state
        step = state.step
        if step.error is not None and state.phase != "failed":
            self._enter(state, "failed")
            self._tracker.ask(state.point, state.completed - state.asked)
        elif step.is_tuned:
            phase = "done" if state.completed >= state.asked else "training"
            if phase != state.phase:
                self._enter(state, phase)

    def _enter(self, state: PointState, phase: str) -> None:
        if phase == "done" and self._stop_rule.compares_points:
            self._stop_rule.end_point(state.point.signature, *state.measured())
        self._tracker.move_point(state.phase, phase)
        state.phase = phase
