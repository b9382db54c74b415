"""The protocol with a selector: asking, telling, and replaying the log.

A selector that is not adaptive is asked for everything at once and told of each point's trials as
they complete, in order of number.  An adaptive one has at most `look_ahead` asks open, and is told
of each ask as a whole, in the order of asking: so what it is told, and when, depends only on the
results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.errors import SelectorError
from sweeper.records import TRIAL, Asked, Decision, Failure, Params, Point, Told, TunedSettings
from sweeper.search import ParamSelector, SweepListener, TrialResults
from sweeper.study.points import Ended, Points, PointState
from sweeper.summary import show_params


class Caller:
    """Calls a selector, and refuses answers that break the protocol."""

    def __init__(
        self,
        selector: ParamSelector,
        make_point: Callable[[Any], Point],
        metrics: Sequence[str],
    ) -> None:
        self._selector = selector
        self._make_point = make_point
        self._metrics = tuple(metrics)
        own = [
            name
            for name in ("on_results", "on_trials_completed")
            if getattr(getattr(selector, name), "__func__", None)
            is not getattr(SweepListener, name)
        ]
        self._hears = next(iter(own), "")
        """Which of its methods is told of trials: not called if not overridden, to save time."""

    @property
    def name(self) -> str:
        """The name of the selector's class."""
        return type(self._selector).__name__

    @property
    def adaptive(self) -> bool:
        """Whether its answers depend on results."""
        return self._selector.adaptive

    @property
    def look_ahead(self) -> int:
        """How many asks may be open."""
        return self._selector.look_ahead

    @property
    def most_untold(self) -> int:
        """How many asks it may make before it is told anything."""
        return self._selector.most_untold

    def begin(self, tunings: int) -> None:
        """Tell it that the sweep begins, and how many times each point is tuned."""
        look_ahead = self.look_ahead if self.adaptive else 1
        if isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise SelectorError(
                f"selector {self.name}: look_ahead={look_ahead!r}: it must be "
                "a whole number, 1 or more"
            )
        self._call("on_begin", tunings)

    def has_more(self) -> bool:
        """Whether it may ask for more trials."""
        return bool(self._call("has_more_trials"))

    def is_waiting_outside(self) -> bool:
        """Whether points may come from elsewhere, at any time."""
        return bool(self._call("waiting_outside"))

    def next(self) -> tuple[Point, int] | None:
        """The next point that it asks for, and the number of trials; None: it waits for results."""
        answer = self._call("get_next_trials")
        if answer is None:
            return None
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise SelectorError(
                f"selector {self.name}: get_next_trials() gave {answer!r}; expected (params, "
                "trials), or None to wait for results"
            )
        params, trials = answer
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 0:
            raise SelectorError(
                f"selector {self.name}: get_next_trials() asked for {trials!r} trials; expected a "
                "whole number, 0 or more (0: only find the hyperparameters)"
            )
        return self._make_point(params), int(trials)

    def tell(self, state: PointState, until: int) -> list[Told]:
        """Tell what is new: settings, trials below `until`, failures."""
        point, step = state.point, state.step
        if step.error is not None:
            if not state.tell_failure():
                return []
            self._call("on_failed", point.params, step.stage, step.error)
            return [Told(point.signature, "failed")]
        if step.found is None:
            return []
        told: list[Told] = []
        if state.tell_hparams():
            self._tell_found(point, step.found)
            told.append(Told(point.signature, "hparams"))
        numbers = state.tell_trials(until)
        if numbers:
            told += self._tell_trials(state, numbers)
        return told

    def _tell_found(self, point: Point, found: TunedSettings) -> None:
        values = (found.lr_min, found.lr_max, found.batch_size)
        self._call("on_hparams_found", point.params, *values)

    def _tell_trials(self, state: PointState, numbers: range) -> list[Told]:
        signature, params, trials = state.point.signature, state.point.params, state.trials
        told: list[Told] = []
        failures = {n: end for n in numbers if isinstance(end := trials[n], Failure)}
        done = tuple(n for n in numbers if n not in failures) if failures else tuple(numbers)
        if self._hears:
            result = self._results(params, done, trials, failures)
            self._call("on_results", result, named=self._hears)
        if done:
            told.append(Told(signature, "trials", done))
        for number, failure in failures.items():
            self._call("on_failed", params, TRIAL, failure.message)
            told.append(Told(signature, "failed", (number,)))
        return told

    def _results(
        self,
        params: Params,
        numbers: Sequence[int],
        trials: Mapping[int, Ended],
        failures: Mapping[int, Failure],
    ) -> TrialResults:
        table = np.array([trials[n] for n in numbers], dtype=float)
        columns = table.reshape(len(numbers), len(self._metrics)).T
        return TrialResults(
            params,
            np.array(numbers, dtype=np.int64),
            {name: column.copy() for name, column in zip(self._metrics, columns, strict=True)},
            {number: failure.message for number, failure in failures.items()},
        )

    def _call(self, method: str, *values: Any, named: str = "") -> Any:
        try:
            return getattr(self._selector, method)(*values)
        except Exception as error:
            where = f"selector {self.name} raised in {named or method}()"
            raise SelectorError(f"{where}: {type(error).__name__}: {error}") from error


@dataclass(slots=True, eq=False)
class Ask:
    """One ask of an adaptive selector: trials `begin` to `end` of a point."""

    point: PointState
    begin: int
    end: int

    @property
    def is_complete(self) -> bool:
        """Whether all of it has ended."""
        step = self.point.step
        if step.error is not None:
            return True
        trials = self.point.trials
        return step.found is not None and all(n in trials for n in range(self.begin, self.end))


class Session:
    """Decides when a selector is asked, and when it is told what."""

    def __init__(self, caller: Caller, points: Points) -> None:
        self._caller = caller
        self._points = points
        self._asks: deque[Ask] = deque()
        """Open asks of an adaptive selector."""
        self._waits = False
        """Whether the selector has answered, since it was last told something, that it waits."""
        self._untold = 0
        """Asks since the selector was last told something."""
        self.has_more = True
        """The selector's last answer to `has_more_trials`."""

    @property
    def waiting_outside(self) -> bool:
        """Points may come from elsewhere, at any time."""
        return self.has_more and self._caller.is_waiting_outside()

    def refresh(self) -> None:
        """Ask again whether it has more trials."""
        self.has_more = self._caller.has_more()

    def begin(self, tunings: int, log: Sequence[Asked | Told]) -> list[Decision]:
        """Replay the log to an adaptive selector, and ask for the first points."""
        decisions: list[Decision] = []
        self._caller.begin(tunings)
        if not self._caller.adaptive:
            log = ()
        self._replay(log, decisions)
        # As in the earlier run, a selector that waits is asked again once it was told something.
        if not log or log[-1] != Asked(None):
            self._ask(decisions)
        return decisions + self.tell()

    def tell(self) -> list[Decision]:
        """Tell what is new, and ask for more."""
        # Trials asked for here may be stored already: they are told at once.
        decisions: list[Decision] = []
        if self._caller.adaptive:
            self._tell_asks(decisions)
            if self.waiting_outside:
                self._ask(decisions)
                self._tell_asks(decisions)
            return decisions
        outside = self.waiting_outside
        while (self._tell_changed(decisions) or outside) and self.has_more:
            outside = False
            self._ask(decisions)
        return decisions

    def _ask(self, decisions: list[Decision]) -> None:
        adaptive = self._caller.adaptive
        while not adaptive or len(self._asks) < self._caller.look_ahead:
            self.refresh()
            if not self.has_more:
                return
            answer = self._caller.next()
            if answer is None:
                if adaptive and not self._waits:  # if it still waits, the log has that already
                    decisions.append(Asked(None))
                self._waits = True
                return
            self._waits = False
            self._count_untold()
            state, planned = self._add(*answer)
            # An ask adds the point to the folder, so it goes first.
            decisions += [Asked(*answer, state.id), *planned]

    def _count_untold(self) -> None:
        """Refuse a selector that asks without end and never waits for results."""
        self._untold += 1
        if not self._caller.adaptive and self._untold > self._caller.most_untold:
            raise SelectorError(
                f"selector {self._caller.name} has asked {self._untold:,} times before it was "
                "told anything: one that is not adaptive is asked for everything up front. Set "
                "adaptive = True to be asked as results arrive, or a larger most_untold if it ends"
            )

    def _add(self, point: Point, trials: int) -> tuple[PointState, list[Decision]]:
        state, planned = self._points.ask(point, trials)
        if self._caller.adaptive:
            self._asks.append(Ask(state, state.asked - trials, state.asked))
        return state, planned

    def _tell_asks(self, decisions: list[Decision]) -> None:
        while self._asks and self._asks[0].is_complete:
            decisions += self._tell_ask(self._asks.popleft())
            self._ask(decisions)

    def _tell_ask(self, ask: Ask) -> list[Told]:
        """Tell an ask as a whole; the log records it even if nothing was left to tell.

        The selector is asked again after it, so a replay must know its place.
        """
        self._waits = False
        told = self._caller.tell(ask.point, ask.end)
        return told or [Told(ask.point.point.signature, "trials")]

    def _tell_changed(self, decisions: list[Decision]) -> bool:
        """Tell what is new of changed points; False if there was nothing."""
        told: list[Told] = []
        for state in self._points.changed:
            told += self._caller.tell(state, state.complete_until())
        if told:
            self._untold = 0
        decisions += told
        return bool(told)

    def _replay(self, entries: Sequence[Asked | Told], decisions: list[Decision]) -> None:
        """Repeat the asks and tells of the log, in order."""
        log = deque(entries)
        while log:
            entry = log[0]
            if isinstance(entry, Told):
                self._replay_telling(log)
            else:
                decisions += self._replay_asking(entry)
                log.popleft()

    def _replay_asking(self, entry: Asked) -> list[Decision]:
        self.refresh()
        answer = self._caller.next() if self.has_more else None
        point, trials = answer or (None, 0)
        same = _signature(point) == _signature(entry.point) and trials == entry.trials
        if not self.has_more or not same:
            now = _shown(point, trials) if self.has_more else "that it has no more trials"
            raise SelectorError(
                f"selector {self._caller.name} does not ask what it asked before: the folder's "
                f"log says {_shown(entry.point, entry.trials)}, it now says {now}. An adaptive "
                "selector is replayed from the log, so it must decide the same from the same "
                "results: use another folder, or start anew with resume=False"
            )
        self._waits = answer is None
        if answer is None:
            return []
        _, planned = self._add(*answer)
        return planned

    def _replay_telling(self, log: deque[Asked | Told]) -> None:
        told: list[Told] = []
        held = bool(self._asks) and self._asks[0].is_complete
        if held:
            told = self._tell_ask(self._asks.popleft())
        if not held or told != [log.popleft() for _ in range(min(len(told), len(log)))]:
            raise SelectorError(
                f"selector {self._caller.name} was told of results that the folder "
                "does not hold: use another folder, or start anew with resume=False"
            )


def _signature(point: Point | None) -> str | None:
    return None if point is None else point.signature


def _shown(point: Point | None, trials: int) -> str:
    """An ask, as text for a message."""
    if point is None:
        return "to wait for results"
    return f"{trials} trials of {show_params(point.params)}"
