"""The study: a selector, and a plan for every point.  Events in, work out.

Pure: no clock, no process, no file.  A façade of its parts: `session` asks and tells the selector,
`points` has the state of each point, `failures` decides what is tried again and whether to stop,
`progress` counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sweeper.errors import StalledError
from sweeper.records import (
    CHECK,
    CLASSIC,
    ROOT,
    Decision,
    Event,
    Failure,
    Finished,
    GaveUp,
    Job,
    Lost,
    Metric,
    Outcome,
    Point,
    Progress,
    Recorded,
    Spared,
    Started,
    Work,
    budget_of,
    is_trial,
)
from sweeper.search import ParamSelector
from sweeper.settings import Limits, StopWhen
from sweeper.study.caller import Caller
from sweeper.study.failures import Retries, Stopping, raise_common
from sweeper.study.measures import Measures
from sweeper.study.points import Points
from sweeper.study.progress import Tracker
from sweeper.study.session import Session
from sweeper.study.spare import widest
from sweeper.study.state import PointState, Series
from sweeper.study.stop_when import StopRule
from sweeper.workload import Planner


class Study:
    """What a sweep does next, decided from the events so far: a façade for the loop.

    Args:
        selector: Decides which points to try.
        planner: Plans the tuning of each point.
        make_point: Makes a point from the selector's params.
        most_cores: Maximum number of cores that one point's tuning may own at once.
        slots: How many jobs run at the same time.
        recorded: What the folder has recorded in earlier runs.
        pack: Maximum number of trials trained together.
        limits: When to give up.
        metrics: Those known before the first trial ends; a program may measure others.
        stop_when: When it has enough; None: when all is done.
        began: When this run began, in seconds since the epoch.
        spare_trials: Whether idle slots run further trials once all that was asked is running.
        slot_width: The cores of a slot.
    """

    def __init__(
        self,
        selector: ParamSelector,
        planner: Planner,
        make_point: Callable[[Any], Point],
        *,
        most_cores: int,
        slots: int,
        recorded: Recorded | None = None,
        pack: int = 1,
        limits: Limits | None = None,
        metrics: Sequence[Metric] = CLASSIC,
        stop_when: StopWhen | None = None,
        began: float = 0.0,
        spare_trials: bool = False,
        slot_width: int = 1,
    ) -> None:
        recorded = recorded or Recorded()
        limits = limits or Limits()
        self._planner = planner
        self._most_cores = most_cores
        self._pack = pack
        self._log = recorded.log
        measures = self._measures = Measures(metrics)
        self._tracker = Tracker(slots, measures, slot_width)
        self._retries = Retries(limits, recorded.tries)
        self._stopping = Stopping(limits)
        self._stop_rule = StopRule(stop_when or StopWhen(), began, measures)
        self._points = Points(
            planner,
            measures,
            recorded,
            self._retries,
            self._stopping,
            self._tracker,
            self._stop_rule,
        )
        self._caller = Caller(selector, make_point, measures)
        self._session = Session(self._caller, self._points)
        self._again: list[Work] = []
        """Lost replicas that are tried again."""
        self._spare_trials = spare_trials
        self._spared: list[Decision] = []
        """Spare trials released since the last events."""

    # -- the rounds of the loop -------------------------------------------------------------------

    def opened(self, folder: Path) -> None:
        """Tell the selector the sweep's folder; before `begin`.

        Raises:
            SelectorError: the selector raised.
        """
        self._caller.opened(folder)

    def begin(self) -> list[Decision]:
        """Replay the log, and ask for the first points.

        Raises:
            SelectorError: the selector raised, or asks something else than before.
            ParamError: a parameter value that cannot be stored.
        """
        return self._session.begin(self._planner.tunings, self._log)

    def release(self) -> list[Work]:
        """The new work since the last call."""
        works, self._again = self._again, []
        for state in self._points.take_changed():
            works += [self._work_of(state, *released) for released in state.release()]
        return works

    def spare(self, idle_cores: int) -> Work | None:
        """One more spare trial, for slots that are idle while nothing waits; None: there is none.

        There are none before the selector has said that it has no more trials, and all points are
        tuned: so none delays what is asked.
        """
        over = self.finished or self._session.has_more or self._tracker.untuned
        if not self._spare_trials or over:
            return None
        found = widest(self._points, self._points.judged_group, idle_cores, self._measures)
        if found is None:
            return None
        state, series = found
        number = series.next_spare()
        series.spares.add(number)
        self._spared.append(Spared(state.point.signature, series.stage, number))
        return self._work_of(state, series.stage, (number,))

    def is_spare(self, job: Job) -> bool:
        """Whether nobody has asked for what this job does, so far."""
        if not is_trial(job.stage):
            return False
        return job.numbers[0] >= self._points[job.point].series_of(job.stage).asked

    def tell(self, events: Iterable[Event]) -> list[Decision]:
        """Take in durable events; returns the decisions that follow.

        Raises:
            ChangedCodeError: a worker found that the problem's code has changed.
            ProblemError: the check of the sweep's first point failed.
            SelectorError: the selector raised.
        """
        decisions, self._spared = self._spared, []
        for event in events:
            match event:
                case Started(_, job) as started:
                    state = self._points[job.point]
                    self._tracker.start(started, state.point)
                    self._points.start(state)
                case Finished(outcome=outcome):
                    self._tracker.end(outcome)
                    self._take(outcome, decisions)
                case Lost(job=job, numbers=numbers, cause=cause):
                    self._tracker.lose(job, numbers, cause)
                    self._lose(job, numbers, cause, decisions)
        return decisions + self._session.tell()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self._session.has_more and not self._tracker.unfinished

    @property
    def waiting_outside(self) -> bool:
        """Points may come from elsewhere, at any time."""
        return self._session.waiting_outside

    def stopped(self, now: float) -> str:
        """Why nothing new may start at this time; empty: it may.  Once stopped, it stays so."""
        tracker = self._tracker
        return self._stop_rule.look(now, tracker.trials_done, tracker.points_ended)

    @property
    def stop_reason(self) -> str:
        """Why it stopped with something left to do, as `stopped` last said; or empty."""
        return "" if self.finished else self._stop_rule.reason

    def check_stalled(self) -> None:
        """Call it when nothing runs and nothing can start.

        Raises:
            StalledError: something is left to do.
        """
        self._session.refresh()
        if self.finished:
            return
        raise StalledError(
            f"selector {self._caller.name} says that it has more trials, answers None "
            "to get_next_trials(), and has been told of everything it asked for: nothing can "
            "start. Finished trials are in the results"
        )

    def check_failures(self) -> None:
        """Call it after the decisions are stored.

        Raises:
            StoppedError: too much has failed to go on.
        """
        if not self.finished:
            self._stopping.check()

    def progress(self) -> Progress:
        """How far the sweep has come."""
        return self._tracker.progress()

    # -- outcomes ---------------------------------------------------------------------------------

    def _take(self, outcome: Outcome, decisions: list[Decision]) -> None:
        state = self._points.get(outcome.point)
        if state is None:
            return
        if outcome.failure is not None:
            raise_common(outcome.stage, outcome.failure)
        timed = math.isfinite(state.seconds_per_step)
        if not state.keep(outcome):
            return
        if is_trial(outcome.stage):
            if not timed:  # nothing was tuned: the trials that wait learn what they take
                self._again.append(self._work_of(state, outcome.stage, ()))
            self._end_trial(state, outcome)
        elif state.is_probed:
            decisions.append(self._points.advance(state))
            if state.step.error is not None:
                params = state.point.params
                self._stopping.count_failure(outcome.stage, state.step.error, params)
        self._points.settle(state)

    def _end_trial(self, state: PointState, trial: Outcome) -> None:
        series = state.series_of(trial.stage)
        series.end_spare(trial.number)
        if trial.number >= series.asked:  # a spare one: nothing depends on it
            return
        self._points.complete(state, series, [series.trials[trial.number]])
        if trial.failure is not None:
            what = f"{trial.stage} {trial.number}"
            self._stopping.count_failure(what, trial.failure.message, state.point.params)
        self._stopping.see_trial(trial.failure)

    def _lose(
        self, job: Job, numbers: Sequence[int], cause: Failure, decisions: list[Decision]
    ) -> None:
        # The first was being trained when the worker died; the others were not begun, or were in a
        # pack with it.  They run one by one, so that a replica that kills workers affects no other.
        first = (job.point, job.stage, numbers[0])
        again = tuple(numbers)
        if cause.kind == "disk":
            self._stopping.lack_room(*first, cause)
        outcome = self._retries.lose(*first, cause)
        if outcome is not None:
            again = again[1:]
            if job.stage != CHECK:
                decisions.append(GaveUp(outcome))
            self._take(outcome, decisions)
        if self.is_spare(job):  # it may be released again, as any other
            self._points[job.point].series_of(job.stage).end_spare(numbers[0])
        elif again:
            self._again.append(self._work_again(job, again))

    # -- releasing --------------------------------------------------------------------------------

    def _work_of(self, state: PointState, stage: str, numbers: tuple[int, ...]) -> Work:
        step, point = state.step, state.point
        tuning = not is_trial(stage)
        steps = self._planner.steps_of(step, budget_of(stage))
        return Work(
            point=point.signature,
            order=state.order,
            kind="tuning" if tuning else "trial",
            stage=stage,
            numbers=numbers,
            payload=_payload(state, state.series.get(stage)),
            expected=_finite(state.seconds_per_step * steps),
            after=self._after(state),
            most_cores=self._most_cores if tuning else None,
            together=self._pack if self._planner.in_packs(step) else None,
            root=step.payload.get(ROOT, ""),
            width=point.width,
        )

    def _work_again(self, job: Job, numbers: tuple[int, ...]) -> Work:
        """Work for lost replicas of a job, to be run one by one."""
        state = self._points[job.point]
        return Work(
            point=job.point,
            order=state.order,
            kind=job.kind,
            stage=job.stage,
            numbers=numbers,
            payload=job.payload,
            expected=job.expected,
            after=self._after(state),
            most_cores=self._most_cores if job.kind == "tuning" else None,
            together=1,
            root=job.root,
            width=job.width,
        )

    def _after(self, state: PointState) -> float | None:
        """Expected seconds after the point's current stage."""
        return _finite(state.seconds_per_step * self._planner.steps_after(state.step))


def _payload(state: PointState, series: Series | None) -> dict[str, Any]:
    """What a worker is told of a point's replicas; with a parent, also how that was trained.

    All samples of a trial are those of the first trial of its lineage: another split would
    validate on samples that its parents were trained on.
    """
    payload = {**state.step.payload, "params": state.point.encoded, "id": state.id}
    origin = None if series is None else series.origin
    if origin is None:
        return payload
    own = _payload(origin.state, origin.series)
    first = own["parent"]["first"] if "parent" in own else origin.number
    point, stage = origin.state.point.signature, origin.series.stage
    parent = {"point": point, "stage": stage, "number": origin.number, "first": first}
    return payload | {"parent": {**parent, "payload": own}}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
