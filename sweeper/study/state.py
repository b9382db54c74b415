"""The state of a point: its tuning and trials, and what was told of them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sweeper.records import (
    TRIAL,
    Failure,
    Outcome,
    Point,
    RecordedTrials,
    Step,
    budget_of,
    descend,
    generation_of,
    is_trial,
    lineage_of,
)

Ended: TypeAlias = tuple[float, ...] | Failure
"""The result of a trial: its metrics in the workload's order, or its failure."""

Measure: TypeAlias = Callable[[Mapping[str, float]], tuple[float, ...]]
"""Gives an outcome's metrics in the workload's order."""

StepsOf: TypeAlias = Callable[[Step, int | None], float]
"""Training steps of a replica: see `Planner.steps_of`."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The trial that a series begins from."""

    state: PointState
    """Of the trial's point."""
    series: Series
    number: int


@dataclass(slots=True, eq=False)
class Series:
    """The trials of one point with one budget and one parent, numbered from 0."""

    stage: str
    trials: dict[int, Ended] = field(default_factory=dict)
    """By trial number, including trials not asked for yet."""
    asked: int = 0
    released: int = 0
    told: int = 0
    """Trials below this number were told."""
    ends: list[int] = field(default_factory=list)
    """For each run of asks of the same group, the number after its last trial."""
    groups: list[str] = field(default_factory=list)
    """The group of each such run."""
    origin: Origin | None = None
    """Set once they are asked for; None: they begin from nothing."""
    spares: set[int] = field(default_factory=set)
    """Trials released as spare ones that have not ended (see `sweeper.study.spare`)."""
    row: int = 0
    """Trials below this number are asked for, run as spare ones, or have ended."""
    spread: tuple[int, float] = (-1, math.nan)
    """How much trials vary, as last computed, and how many had ended then."""

    @property
    def budget(self) -> int | None:
        """Their budget."""
        return budget_of(self.stage)

    @property
    def lineage(self) -> str:
        """Their lineage."""
        return lineage_of(self.stage)

    def ask(self, trials: int, group: str) -> int:
        """Add trials of a group; returns the number of the first."""
        begin, self.asked = self.asked, self.asked + trials
        if self.groups and self.groups[-1] == group:
            self.ends[-1] = self.asked
        else:
            self.groups.append(group)
            self.ends.append(self.asked)
        return begin

    def release(self) -> tuple[int, ...]:
        """Trials asked for since the last call that have to run."""
        known = self.trials.keys() | self.spares if self.spares else self.trials
        new = [n for n in range(self.released, self.asked) if n not in known]
        self.released = self.asked
        return tuple(new)

    def next_spare(self) -> int:
        """The first trial that is not asked for, does not run and has not ended."""
        self.row = max(self.row, self.asked)
        while self.row in self.trials or self.row in self.spares:
            self.row += 1
        return self.row

    def end_spare(self, number: int) -> None:
        """Note that a trial does not run as a spare one any more, whether it has ended or not."""
        self.spares.discard(number)
        self.row = min(self.row, number)

    def complete_until(self) -> int:
        """The first asked trial that was not told and has not ended; `asked` if all have."""
        for until in range(self.told, self.asked):
            if until not in self.trials:
                return until
        return self.asked

    def tell(self, until: int) -> list[tuple[str, range]]:
        """Trials below `until` to tell now, by group."""
        found: list[tuple[str, range]] = []
        while self.told < until:
            place = bisect_right(self.ends, self.told)
            end = min(until, self.ends[place])
            found.append((self.groups[place], range(self.told, end)))
            self.told = end
        return found


@dataclass(slots=True, eq=False)
class PointState:
    """The state of one point."""

    point: Point
    id: int
    order: int
    """Its index in the order of asking."""
    step: Step
    measure: Measure
    steps_of: StepsOf
    probes: dict[int, Outcome] = field(default_factory=dict)
    """Outcomes of the current stage of tuning."""
    series: dict[str, Series] = field(default_factory=dict)
    """Its trials, by stage."""
    asked: int = 0
    """Trials of all stages."""
    completed: int = 0
    """How many of the asked trials have ended."""
    released: str = ""
    """The stage released last; `"trial"` for trials of any stage."""
    hparams_told: bool = False
    failure_told: int = -1
    """How many trials had been asked for when the failure was told."""
    phase: str = "waiting"
    seconds_per_step: float = math.nan

    @property
    def is_tuning(self) -> bool:
        """Whether its tuning has neither succeeded nor failed."""
        return not self.step.is_tuned and self.step.error is None

    @property
    def is_probed(self) -> bool:
        """Whether all probes of the current stage of tuning have outcomes."""
        return len(self.probes) == self.step.replicas

    def series_of(self, stage: str) -> Series:
        """The trials of this stage."""
        found = self.series.get(stage)
        if found is None:
            found = self.series[stage] = Series(stage)
        return found

    def restore(self, stage: str, trials: RecordedTrials) -> None:
        """Take over the trials stored in the folder."""
        self.series[stage] = Series(stage, trials.ended)
        self._time(trials.seconds, self.steps_of(self.step, budget_of(stage)))

    def keep(self, outcome: Outcome) -> bool:
        """Take in an outcome; False if it is already known, or of a stage that is over."""
        return self._keep_trial(outcome) if is_trial(outcome.stage) else self._keep_probe(outcome)

    def _keep_probe(self, outcome: Outcome) -> bool:
        if outcome.stage != self.step.stage or not self.is_tuning:
            return False
        if outcome.number in self.probes:
            return False
        self.probes[outcome.number] = outcome
        if outcome.failure is None:
            self._time(outcome.ended - outcome.started, self.steps_of(self.step, None))
        return True

    def _keep_trial(self, outcome: Outcome) -> bool:
        budget, number = budget_of(outcome.stage), outcome.number
        trials = self.series_of(outcome.stage).trials
        if number in trials:
            return False
        if outcome.failure is not None:
            trials[number] = outcome.failure
            return True
        trials[number] = self.measure(outcome.metrics)
        self._time(outcome.ended - outcome.started, self.steps_of(self.step, budget))
        return True

    def _time(self, seconds: float, steps: float) -> None:
        """Note the duration of a replica."""
        if steps > 0:
            self.seconds_per_step = seconds / steps

    def advance(self, step: Step) -> None:
        """Continue its tuning with `step`."""
        self.step = step
        self.probes = {}

    def release(self) -> list[tuple[str, tuple[int, ...]]]:
        """Stages and the numbers of their replicas that now have to run."""
        before = self.released
        if self.is_tuning:
            stage = self.step.stage
            if before == stage:
                return []
            self.released = stage
            return [(stage, tuple(n for n in range(self.step.replicas) if n not in self.probes))]
        self.released = TRIAL
        found: list[tuple[str, tuple[int, ...]]] = []
        if self.step.error is None:
            for stage, series in self.series.items():
                numbers = series.release()
                if numbers:
                    found.append((stage, numbers))
        # If tuning was released, the queue must be told that no trials follow.
        return [(TRIAL, ())] if not found and before not in ("", TRIAL) else found

    def measured(self) -> tuple[list[Ended], int | None]:
        """What the trials asked for with the largest budget came to, as far as they have ended.

        Of those that begin from others, the trials of the last generation count.  Also returns that
        budget.
        """
        asked = [series for series in self.series.values() if series.asked]
        if not asked:
            return [], None
        last = max(asked, key=lambda one: (generation_of(one.lineage), one.budget or math.inf))
        ended = [last.trials[number] for number in range(last.asked) if number in last.trials]
        return ended, last.budget

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


def lineage_from(origin: Origin | None) -> str:
    """The lineage of trials that begin from this one; None: from nothing."""
    if origin is None:
        return ""
    return descend(origin.state.point.signature, origin.series.stage, origin.number)
