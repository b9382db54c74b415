"""Calls a selector's methods, and checks what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.errors import ParamError, SelectorError
from sweeper.records import (
    TRIAL,
    Asked,
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
from sweeper.study.points import Points
from sweeper.study.state import Origin, PointState, Series


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
            for name in ("on_results", "on_trials_completed", "on_hparams_found")
            if getattr(getattr(selector, name), "__func__", None)
            is not getattr(SweepListener, name)
        ]
        # Methods that are not overridden are not called, to save time.
        self._hears_settings = "on_hparams_found" in own
        self._hears = next((name for name in own if name != "on_hparams_found"), "")
        """Which of its methods is told of trials."""

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
        fault = _fault_of(answer, uses_parents=self._selector.uses_parents)
        if fault:
            raise SelectorError(f"selector {self.name}: {method}() asked for {fault}")
        return self._make_point(answer.params), _in_plain_numbers(answer)

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
        if not self._hears_settings:
            return
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


def _fault_of(ask: Any, *, uses_parents: bool) -> str:
    """What an ask asks for that it may not, and what is expected; empty: nothing."""
    trials, budget, group, parent = ask.trials, ask.budget, ask.group, ask.parent
    if not is_count(trials, 0):
        return (
            f"{trials!r} trials; expected a whole number, 0 or more (0: only find the "
            "hyperparameters)"
        )
    if budget is not None and not is_count(budget, 1):
        return (
            f"budget={budget!r}; expected a whole number, 1 or more, or None for the length that "
            "the settings give"
        )
    if not isinstance(group, str) or not group.isprintable():
        return f"group={group!r}; expected a text of printable characters"
    if parent is not None and not isinstance(parent, Parent):
        return f"parent={parent!r}; expected a Parent, as TrialResults.as_parent gives it"
    if parent is not None and not uses_parents:
        return "a parent: set uses_parents = True, to keep checkpoints"
    return ""


def _in_plain_numbers(ask: Ask) -> Ask:
    """An ask whose numbers may be numpy's, with Python's."""
    if type(ask.trials) is int and (ask.budget is None or type(ask.budget) is int):
        return ask  # of a million points, nearly all
    budget = None if ask.budget is None else int(ask.budget)
    return Ask(ask.params, int(ask.trials), budget, ask.parent, ask.group)


def _encoded(params: Any) -> str:
    """The stored encoding of parameters that do not fit; as text, if they cannot be stored."""
    try:
        return encode(params, as_given=True)
    except ParamError:
        return encode((repr(params),))
