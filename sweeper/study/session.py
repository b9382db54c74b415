"""The protocol with a selector: asking, telling, and replaying the log.

A selector that is not adaptive is asked for everything at once and told of each point's trials as
they complete, in order of number.  An adaptive one has at most `look_ahead` asks open, and is told
of each ask as a whole, in the order of asking: so what it is told, and when, depends only on the
results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.errors import SelectorError
from sweeper.records import Asked, Decision, Point, Refused, Told
from sweeper.search import Ask
from sweeper.study.caller import Caller
from sweeper.study.points import Points
from sweeper.study.state import PointState, Series, lineage_from
from sweeper.summary import show_params


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
            if not adaptive:
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
        if self._untold > self._caller.most_untold:
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
