"""The protocol with a selector: asking, telling, and replaying the log.

A selector that is not adaptive is asked for everything at once and told of each point's trials as
they complete, in order of number.  An adaptive one has at most `look_ahead` asks open, and is told
of each ask as a whole, in the order of asking: so what it is told, and when, depends only on the
results.  The file is long because both kinds of session, and what they share, follow one protocol.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.errors import ParamError, SelectorError
from sweeper.records import (
    TRIAL,
    Asked,
    Decision,
    Failure,
    Params,
    Parent,
    Point,
    Refused,
    Told,
    TunedSettings,
)
from sweeper.search import Ask, ParamSelector, SweepListener, TrialResults
from sweeper.search.checks import is_count
from sweeper.search.selector import as_ask
from sweeper.signature import encode
from sweeper.study.measures import Measures
from sweeper.study.points import Origin, Points, PointState, Series, lineage_from
from sweeper.summary import show_params


class Caller:
    """Calls a selector, and refuses answers that break the protocol.

    A façade: the rest of the study calls no selector, so there is a method for each of its calls.
    """

    def __init__(
        self,
        selector: ParamSelector,
        make_point: Callable[[Any], Point],
        measures: Measures,
    ) -> None:
        self._selector = selector
        self._make_point = make_point
        self._measures = measures
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

    def opened(self, folder: Path) -> None:
        """Tell it the sweep's folder."""
        self._call("on_opened", folder)

    def begin(self, tunings: int) -> None:
        """Tell it that the sweep begins, and how many times each point is tuned."""
        if self._hears == "on_trials_completed" and not self._measures.are_classic:
            raise SelectorError(
                f"selector {self.name} overrides on_trials_completed, which is told the four "
                "metrics of a problem: for a program, override on_results(result)"
            )
        look_ahead = self.look_ahead if self.adaptive else 1
        if isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise SelectorError(
                f"selector {self.name}: look_ahead={look_ahead!r}: it must be "
                "a whole number, 1 or more"
            )
        if self._selector.uses_parents and not self.adaptive:
            raise SelectorError(
                f"selector {self.name}: uses_parents=True: a parent is a trial that it was told "
                "of, so it must be adaptive, too: set adaptive = True"
            )
        names: Any = self._selector.compare_by
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise SelectorError(
                f"selector {self.name}: compare_by={names!r}: it must be a tuple of parameters' "
                'names, such as ("width",)'
            )
        self._call("on_begin", tunings)

    def has_more(self) -> bool:
        """Whether it may ask for more trials."""
        return bool(self._call("has_more_trials"))

    def is_waiting_outside(self) -> bool:
        """Whether points may come from elsewhere, at any time."""
        return bool(self._call("waiting_outside"))

    def next(self) -> tuple[Point, Ask] | Refused | None:
        """The next point that it asks for, and the ask; None: it waits for results."""
        answer = self._call("get_next_trials")
        try:
            return self._read("get_next_trials", answer)
        except ParamError as error:
            if not self._selector.skips_refused:
                raise
            return Refused(_encoded(as_ask(answer).params), str(error))

    def repeat(self, entry: Asked) -> tuple[Point, Ask] | None:
        """As `next`, when an entry of the log is replayed."""
        point = entry.point
        logged = point and Ask(point.params, entry.trials, entry.budget, entry.parent, entry.group)
        return self._read("repeat_ask", self._call("repeat_ask", logged))

    def _read(self, method: str, answer: Any) -> tuple[Point, Ask] | None:
        """The point and the ask of an answer.

        Raises:
            SelectorError: the answer breaks the protocol.
        """
        if answer is None:
            return None
        if isinstance(answer, tuple) and len(answer) == 2:
            answer = Ask(*answer)
        if not isinstance(answer, Ask):
            raise SelectorError(
                f"selector {self.name}: {method}() gave {answer!r}; expected (params, "
                "trials), an Ask, or None to wait for results"
            )
        trials, budget, group = answer.trials, answer.budget, answer.group
        asked = f"selector {self.name}: {method}() asked for"
        if not is_count(trials, 0):
            raise SelectorError(
                f"{asked} {trials!r} trials; expected a whole number, 0 or more (0: only find the "
                "hyperparameters)"
            )
        if budget is not None and not is_count(budget, 1):
            raise SelectorError(
                f"{asked} budget={budget!r}; expected a whole number, 1 or more, or None for the "
                "length that the settings give"
            )
        if not isinstance(group, str) or not group.isprintable():
            raise SelectorError(f"{asked} group={group!r}; expected a text of printable characters")
        parent = answer.parent
        if parent is not None and not isinstance(parent, Parent):
            raise SelectorError(
                f"{asked} parent={parent!r}; expected a Parent, as TrialResults.as_parent gives it"
            )
        if parent is not None and not self._selector.uses_parents:
            raise SelectorError(f"{asked} a parent: set uses_parents = True, to keep checkpoints")
        budget = None if budget is None else int(budget)
        ask = Ask(answer.params, int(trials), budget, parent, group)
        return self._make_point(answer.params), ask

    def origin(self, parent: Parent | None, points: Points) -> Origin | None:
        """The trial that a parent names; None: none is named.

        Raises:
            SelectorError: there is no such trial, or none that others may begin from.
        """
        if parent is None:
            return None
        state = points.get(self._make_point(parent.params).signature)
        series = None if state is None else state.series.get(parent.stage)
        asked = f"selector {self.name}: parent={parent!r}"
        if state is None or series is None or parent.trial not in range(series.asked):
            raise SelectorError(f"{asked}: it has not asked for this trial")
        if parent.trial >= series.told:
            raise SelectorError(
                f"{asked}: this trial is not finished, or it has not been told of it: a parent is "
                "a trial of which on_results has told"
            )
        ended = series.trials[parent.trial]
        if isinstance(ended, Failure):
            raise SelectorError(f"{asked}: this trial has failed: {ended.message}")
        return Origin(state, series, parent.trial)

    def tell(self, state: PointState, due: Iterable[tuple[Series, int]]) -> list[Told]:
        """Tell what is new: settings, failures, and of each of these series the trials below."""
        point, step = state.point, state.step
        if step.error is not None:
            if not state.tell_failure():
                return []
            self._call("on_failed", point.params, step.stage, step.error)
            return [Told(point.signature, "failed")]
        if not step.is_tuned:
            return []
        told: list[Told] = []
        if step.found is not None and state.tell_hparams():
            self._tell_found(point, step.found)
            told.append(Told(point.signature, "hparams"))
        for series, until in due:
            for group, numbers in series.tell(until):
                told += self._tell_trials(point, series, group, numbers)
        return told

    def _tell_found(self, point: Point, found: TunedSettings) -> None:
        values = (found.lr_min, found.lr_max, found.batch_size)
        self._call("on_hparams_found", point.params, *values)

    def _tell_trials(self, point: Point, series: Series, group: str, numbers: range) -> list[Told]:
        signature, trials = point.signature, series.trials
        told: list[Told] = []
        failures = {n: end for n in numbers if isinstance(end := trials[n], Failure)}
        done = tuple(n for n in numbers if n not in failures) if failures else tuple(numbers)
        if self._hears:
            result = self._results(point.params, done, series, failures, group)
            self._call("on_results", result, named=self._hears)
        if done:
            told.append(Told(signature, "trials", done, series.budget, series.lineage))
        for number, failure in failures.items():
            self._call("on_failed", point.params, TRIAL, failure.message)
            told.append(Told(signature, "failed", (number,), series.budget, series.lineage))
        return told

    def _results(
        self,
        params: Params,
        numbers: Sequence[int],
        series: Series,
        failures: Mapping[int, Failure],
        group: str,
    ) -> TrialResults:
        ended = [values for n in numbers if isinstance(values := series.trials[n], tuple)]
        return TrialResults(
            params,
            np.array(numbers, dtype=np.int64),
            self._measures.columns(ended),
            {number: failure.message for number, failure in failures.items()},
            series.budget,
            group,
            series.lineage,
        )

    def _call(self, method: str, *values: Any, named: str = "") -> Any:
        try:
            return getattr(self._selector, method)(*values)
        except Exception as error:
            where = f"selector {self.name} raised in {named or method}()"
            raise SelectorError(f"{where}: {type(error).__name__}: {error}") from error


def _encoded(params: Any) -> str:
    """The stored encoding of parameters that do not fit; as text, if they cannot be stored."""
    try:
        return encode(params, as_given=True)
    except ParamError:
        return encode((repr(params),))


@dataclass(slots=True, eq=False)
class OpenAsk:
    """One ask of an adaptive selector: trials `begin` to `end` of one of a point's series."""

    point: PointState
    series: Series
    begin: int
    end: int

    @property
    def is_complete(self) -> bool:
        """Whether all of it has ended."""
        step = self.point.step
        if step.error is not None:
            return True
        trials = self.series.trials
        return step.is_tuned and all(n in trials for n in range(self.begin, self.end))


class Session:
    """Decides when a selector is asked, and when it is told what."""

    def __init__(self, caller: Caller, points: Points) -> None:
        self._caller = caller
        self._points = points
        self._asks: deque[OpenAsk] = deque()
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
                self._wait(decisions)
                return
            if isinstance(answer, Refused):
                decisions.append(answer)
                continue
            self._waits = False
            self._count_untold()
            point, ask = answer
            state, series, planned = self._add(point, ask)
            # An ask adds the point to the folder, so it goes first.
            asked = _asked(point, ask, state.id, series.lineage)
            decisions += [asked, *planned]

    def _wait(self, decisions: list[Decision]) -> None:
        """Log that the selector waits for results, unless the log has that already."""
        adaptive = self._caller.adaptive
        if adaptive and not self._waits and not self._caller.is_waiting_outside():
            decisions.append(Asked(None))
        self._waits = True

    def _count_untold(self) -> None:
        """Refuse a selector that asks without end and never waits for results."""
        self._untold += 1
        if not self._caller.adaptive and self._untold > self._caller.most_untold:
            raise SelectorError(
                f"selector {self._caller.name} has asked {self._untold:,} times before it was "
                "told anything: one that is not adaptive is asked for everything up front. Set "
                "adaptive = True to be asked as results arrive, or a larger most_untold if it ends"
            )

    def _add(self, point: Point, ask: Ask) -> tuple[PointState, Series, list[Decision]]:
        origin = self._caller.origin(ask.parent, self._points)
        state, series, planned = self._points.ask(point, ask, origin)
        if self._caller.adaptive:
            self._asks.append(OpenAsk(state, series, series.asked - ask.trials, series.asked))
        return state, series, planned

    def _tell_asks(self, decisions: list[Decision]) -> None:
        while self._asks and self._asks[0].is_complete:
            decisions += self._tell_ask(self._asks.popleft())
            self._ask(decisions)

    def _tell_ask(self, ask: OpenAsk) -> list[Told]:
        """Tell an ask as a whole; the log records it even if nothing was left to tell.

        The selector is asked again after it, so a replay must know its place.
        """
        self._waits = False
        told = self._caller.tell(ask.point, [(ask.series, ask.end)])
        return told or [Told(ask.point.point.signature, "trials")]

    def _tell_changed(self, decisions: list[Decision]) -> bool:
        """Tell what is new of changed points; False if there was nothing."""
        told: list[Told] = []
        for state in self._points.changed:
            due = [(series, series.complete_until()) for series in state.series.values()]
            told += self._caller.tell(state, due)
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
        answer = self._caller.repeat(entry) if self.has_more else None
        asked = Asked(None)
        if answer is not None:
            point, ask = answer
            origin = self._caller.origin(ask.parent, self._points)
            asked = _asked(point, ask, entry.id, lineage_from(origin))
        if not self.has_more or _identity(asked) != _identity(entry):
            now = _shown(asked) if self.has_more else "that it has no more trials"
            raise SelectorError(
                f"selector {self._caller.name} does not ask what it asked before: the folder's "
                f"log says {_shown(entry)}, it now says {now}. An adaptive "
                "selector is replayed from the log, so it must decide the same from the same "
                "results: use another folder, or start anew with resume=False"
            )
        self._waits = answer is None
        if answer is None:
            return []
        _, _, planned = self._add(*answer)
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


def _identity(asked: Asked) -> tuple[Any, ...] | None:
    """What must be the same when an ask is replayed; None: it waits."""
    if asked.point is None:
        return None
    return asked.point.signature, asked.trials, asked.stage, asked.group


def _asked(point: Point, ask: Ask, point_id: int, lineage: str) -> Asked:
    return Asked(point, ask.trials, point_id, ask.budget, ask.group, ask.parent, lineage)


def _shown(asked: Asked) -> str:
    """An ask, as text for a message."""
    if asked.point is None:
        return "to wait for results"
    budget = "" if asked.budget is None else f" with budget {asked.budget}"
    group = f" of group {asked.group!r}" if asked.group else ""
    parent = f" from lineage {asked.lineage}" if asked.lineage else ""
    return f"{asked.trials} trials{budget}{group}{parent} of {show_params(asked.point.params)}"
