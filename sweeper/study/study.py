"""The study: a selector, and a plan for every point.  Work goes out, events come in.

Pure: no clock, no process, no file.

A selector is asked and told in rounds.  One that is not adaptive is asked for everything at once
and told of each point's trials as they complete, in order of number.  One that is adaptive has at
most `look_ahead` asks open, and is told of each ask as a whole, in the order of asking: so what it
is told, and when, depends on nothing but the results.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.errors import SelectorError, StalledError
from sweeper.records import (
    CHECK,
    TRIAL,
    Asked,
    Decision,
    Event,
    Failure,
    Finished,
    GaveUp,
    Job,
    Lost,
    Outcome,
    Point,
    Progress,
    Recorded,
    Started,
    Step,
    Told,
    Work,
)
from sweeper.results import show_params
from sweeper.search import ParamSelector, SweepListener
from sweeper.settings import Limits
from sweeper.study.failures import Retries, Stopping, raise_common
from sweeper.study.points import Planner, Points, PointState
from sweeper.study.progress import Tracker


@dataclass(slots=True, eq=False)
class _Ask:
    """What the selector asked for at once: trials `begin` to `end` of a point."""

    point: PointState
    begin: int
    end: int

    @property
    def complete(self) -> bool:
        step = self.point.step
        if step.error is not None:
            return True
        trials = self.point.trials
        return step.found is not None and all(n in trials for n in range(self.begin, self.end))


class Study:
    """See the module."""

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
    ) -> None:
        self._selector = selector
        told = getattr(selector.on_trials_completed, "__func__", None)
        self._looks = told is not SweepListener.on_trials_completed
        """Whether the selector does anything about trials; most do not, and there are many."""
        self._tunings = planner.tunings
        self._make_point = make_point
        self._most_cores = most_cores
        self._pack = pack
        recorded = recorded or Recorded()
        self._log = recorded.log
        limits = limits or Limits()
        self._retries = Retries(limits, recorded.tries)
        self._stopping = Stopping(limits)
        self._tracker = Tracker(slots)
        self._points = Points(planner, recorded, self._retries, self._stopping, self._tracker)
        self._asks: deque[_Ask] = deque()
        self._again: list[Work] = []
        """What was lost and is tried again."""
        self._more = True
        self._waits = False
        """Whether the selector has been asked, and waits, since it was last told something."""

    # -- the rounds of the loop -------------------------------------------------------------------

    def begin(self) -> list[Decision]:
        """Replay what was, and ask for the first points.

        Raises:
            SelectorError: the selector raised, or asks something else than it did.
            ParamError: a parameter that no file could keep.
        """
        decisions: list[Decision] = []
        if self._selector.adaptive:
            self._check_look_ahead()
        self._call("on_begin", self._tunings)
        log = self._log if self._selector.adaptive else ()
        self._replay(log, decisions)
        # One that waits is asked again once it has been told something, as it would have been.
        if not log or log[-1] != Asked(None):
            self._ask(decisions)
        self._tell(decisions)
        return decisions

    def release(self) -> list[Work]:
        """The work that has come up since the last call."""
        works, self._again = self._again, []
        for state in self._points.take_changed():
            numbers = state.release()
            if numbers is not None:
                works.append(self._work_of(state, numbers))
        return works

    def tell(self, events: Iterable[Event]) -> list[Decision]:
        """Take in events that are durable; what was decided because of them.

        Raises:
            ProblemError: the check of the sweep's first point failed.
            SelectorError: the selector raised.
        """
        decisions: list[Decision] = []
        for event in events:
            match event:
                case Started(time, job, slot):
                    state = self._points[job.point]
                    self._tracker.start(time, job, slot, state.point.params)
                    self._points.start(state)
                case Finished(outcome=outcome):
                    self._tracker.end(outcome)
                    self._take(outcome, decisions)
                case Lost(job=job, numbers=numbers, cause=cause):
                    self._tracker.lose(job, numbers, cause)
                    self._lose(job, numbers, cause, decisions)
        self._tell(decisions)
        return decisions

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return not self._more and not self._tracker.unfinished

    @property
    def waiting_outside(self) -> bool:
        """Points may come from elsewhere, at any time."""
        return self._more and bool(self._call("waiting_outside"))

    def check_stalled(self) -> None:
        """To be called when nothing runs and nothing can start.

        Raises:
            StalledError: there is something left to do.
        """
        self._more = bool(self._call("has_more_trials"))
        if self.finished:
            return
        raise StalledError(
            f"selector {type(self._selector).__name__} says that it has more trials, answers None "
            "to get_next_trials(), and has been told of everything it asked for: nothing can "
            "start. What has finished is in the results"
        )

    def check_failures(self) -> None:
        """To be called when what was decided is kept.

        Raises:
            StoppedError: too much has failed to go on with what is left.
        """
        if not self.finished:
            self._stopping.check()

    # -- asking -----------------------------------------------------------------------------------

    def _ask(self, decisions: list[Decision]) -> None:
        adaptive = self._selector.adaptive
        while not adaptive or len(self._asks) < self._selector.look_ahead:
            self._more = bool(self._call("has_more_trials"))
            if not self._more:
                return
            answer = self._call("get_next_trials")
            if answer is None:
                if adaptive and not self._waits:  # one that waits still says nothing new
                    decisions.append(Asked(None))
                self._waits = True
                return
            self._waits = False
            point, trials = self._read_answer(answer)
            state, planned = self._add_ask(point, trials)
            # A point is known to the folder from its ask on, so that goes first.
            decisions += [Asked(point, trials, state.id), *planned]

    def _check_look_ahead(self) -> None:
        look_ahead = self._selector.look_ahead
        if isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise SelectorError(
                f"selector {type(self._selector).__name__}: look_ahead={look_ahead!r}: it must be "
                "a whole number, 1 or more"
            )

    def _read_answer(self, answer: Any) -> tuple[Point, int]:
        name = type(self._selector).__name__
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise SelectorError(
                f"selector {name}: get_next_trials() gave {answer!r}; expected (params, trials), "
                "or None to wait for results"
            )
        params, trials = answer
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 0:
            raise SelectorError(
                f"selector {name}: get_next_trials() asked for {trials!r} trials; expected a "
                "whole number, 0 or more (0: only find the hyperparameters)"
            )
        return self._make_point(params), int(trials)

    def _add_ask(self, point: Point, trials: int) -> tuple[PointState, list[Decision]]:
        state, planned = self._points.ask(point, trials)
        if self._selector.adaptive:
            self._asks.append(_Ask(state, state.asked - trials, state.asked))
        return state, planned

    # -- telling ----------------------------------------------------------------------------------

    def _tell(self, decisions: list[Decision]) -> None:
        # What is asked for here may be known to the folder already: it is told at once.
        if self._selector.adaptive:
            self._tell_asks(decisions)
            if self.waiting_outside:
                self._ask(decisions)
                self._tell_asks(decisions)
            return
        outside = self.waiting_outside
        while (self._tell_changed(decisions) or outside) and self._more:
            outside = False
            self._ask(decisions)

    def _tell_asks(self, decisions: list[Decision]) -> None:
        while self._asks and self._asks[0].complete:
            decisions += self._tell_ask(self._asks.popleft())
            self._ask(decisions)

    def _tell_ask(self, ask: _Ask) -> list[Told]:
        """Tell an ask as a whole; where nothing is left to tell, the log still says that it was.

        It is a reason to ask again, so a replay must know its place.
        """
        told = self._tell_point(ask.point, ask.end)
        return told or [Told(ask.point.point.signature, "trials")]

    def _tell_changed(self, decisions: list[Decision]) -> bool:
        """Tell what is known of points that have changed; False where there was nothing."""
        told: list[Told] = []
        for state in self._points.changed:
            told += self._tell_point(state, state.complete_until())
        decisions += told
        return bool(told)

    def _tell_point(self, state: PointState, until: int) -> list[Told]:
        """Tell what has not been told: settings, trials below `until`, failures."""
        signature, params, step = state.point.signature, state.point.params, state.step
        told: list[Told] = []
        self._waits = False
        if step.error is not None:
            if state.tell_failure():
                self._call("on_failed", params, step.stage, step.error)
                told.append(Told(signature, "failed"))
            return told
        if step.found is None:
            return told
        if state.tell_hparams():
            found = step.found
            self._call("on_hparams_found", params, found.lr_min, found.lr_max, found.batch_size)
            told.append(Told(signature, "hparams"))
        numbers = state.tell_trials(until)
        trials = state.trials
        failures = {n: end for n in numbers if isinstance(end := trials[n], Failure)}
        done = tuple(n for n in numbers if n not in failures) if failures else tuple(numbers)
        if done:
            if self._looks:
                columns = np.array([trials[n] for n in done], dtype=float).T
                self._call("on_trials_completed", params, *(column.copy() for column in columns))
            told.append(Told(signature, "trials", done))
        for number, failure in failures.items():
            self._call("on_failed", params, TRIAL, failure.message)
            told.append(Told(signature, "failed", (number,)))
        return told

    def _call(self, method: str, *values: Any) -> Any:
        try:
            return getattr(self._selector, method)(*values)
        except Exception as error:
            raise SelectorError(
                f"selector {type(self._selector).__name__} raised in {method}(): "
                f"{type(error).__name__}: {error}"
            ) from error

    # -- replaying --------------------------------------------------------------------------------

    def _replay(self, entries: Sequence[Asked | Told], decisions: list[Decision]) -> None:
        """Ask and tell an adaptive selector what the log says, in that order."""
        log = deque(entries)
        while log:
            entry = log.popleft()
            if isinstance(entry, Told):
                log.appendleft(entry)
                self._replay_telling(log)
                continue
            self._more = bool(self._call("has_more_trials"))
            answer = self._call("get_next_trials") if self._more else "that it has no more trials"
            asked: Point | None = None
            trials = 0
            if answer is not None and not isinstance(answer, str):
                asked, trials = self._read_answer(answer)
            same = (asked is None) == (entry.point is None) and trials == entry.trials
            if isinstance(answer, str) or not same or _signature(asked) != _signature(entry.point):
                raise SelectorError(_difference(self._selector, entry, asked, trials, answer))
            self._waits = asked is None
            if asked is not None:
                decisions += self._add_ask(asked, trials)[1]

    def _replay_telling(self, log: deque[Asked | Told]) -> None:
        told: list[Told] = []
        held = bool(self._asks) and self._asks[0].complete
        if held:
            told = self._tell_ask(self._asks.popleft())
        if not held or told != [log.popleft() for _ in range(min(len(told), len(log)))]:
            raise SelectorError(
                f"selector {type(self._selector).__name__} was told of results that the folder "
                "does not hold: use another folder, or begin again with resume=False"
            )

    # -- outcomes ---------------------------------------------------------------------------------

    def _take(self, outcome: Outcome, decisions: list[Decision]) -> None:
        state = self._points.get(outcome.point)
        if state is None:
            return
        if outcome.failure is not None:
            raise_common(outcome.stage, outcome.failure)
        if not state.keep(outcome):
            return
        if outcome.stage == TRIAL:
            if outcome.number < state.asked:
                self._points.complete(state, [state.trials[outcome.number]])
            if outcome.failure is not None:
                what = f"{TRIAL} {outcome.number}"
                self._stopping.count_failure(what, outcome.failure.message, state.point.params)
            self._stopping.see_trial(outcome.failure)
        elif state.is_probed:
            decisions.append(self._points.advance(state))
            if state.step.error is not None:
                params = state.point.params
                self._stopping.count_failure(outcome.stage, state.step.error, params)
        self._points.settle(state)

    def _lose(
        self, job: Job, numbers: Sequence[int], cause: Failure, decisions: list[Decision]
    ) -> None:
        # The first was being trained when the worker died; the rest were not begun, or were in a
        # pack with it: they go on one by one, so that whatever kills a worker kills no neighbour.
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
        state = self._points[job.point]
        if again:
            work = Work(
                point=job.point,
                order=state.order,
                kind=job.kind,
                stage=job.stage,
                numbers=again,
                payload=job.payload,
                expected=job.expected,
                after=_finite(self._points.seconds_after(state)),
                most_cores=self._most_cores if job.kind == "tuning" else None,
                together=1,
            )
            self._again.append(work)

    # -- releasing --------------------------------------------------------------------------------

    def _work_of(self, state: PointState, numbers: tuple[int, ...]) -> Work:
        step, point = state.step, state.point
        tuning = state.released != TRIAL
        return Work(
            point=point.signature,
            order=state.order,
            kind="tuning" if tuning else "trial",
            stage=state.released,
            numbers=numbers,
            payload={**step.payload, "params": point.encoded, "id": state.id},
            expected=_finite(state.seconds_per_step * step.payload.get("steps", math.nan)),
            after=_finite(self._points.seconds_after(state)),
            most_cores=self._most_cores if tuning else None,
            together=self._together(step),
        )

    def _together(self, step: Step) -> int | None:
        payload = step.payload
        told = [payload, *payload.get("tunings", ()), *payload.get("ways", {}).values()]
        return self._pack if any(one.get("way", "plain") != "plain" for one in told) else None

    # -- progress ---------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """How far it is."""
        return self._tracker.progress()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _signature(point: Point | None) -> str | None:
    return None if point is None else point.signature


def _difference(
    selector: ParamSelector, entry: Asked, asked: Point | None, trials: int, answer: object
) -> str:
    def shown(point: Point | None, trials: int) -> str:
        if point is None:
            return "to wait for results"
        return f"{trials} trials of {show_params(point.params)}"

    now = answer if isinstance(answer, str) else shown(asked, trials)
    return (
        f"selector {type(selector).__name__} does not ask what it asked before: the folder's log "
        f"says {shown(entry.point, entry.trials)}, it now says {now}. An adaptive selector is "
        "replayed from the log, so it must decide the same from the same: use another folder, or "
        "begin again with resume=False"
    )
