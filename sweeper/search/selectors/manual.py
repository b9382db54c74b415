"""`ManualSearch`: points that people, or other programs, add while it runs."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from sweeper.search import inbox
from sweeper.search.checks import MOST_TRIALS
from sweeper.search.inbox import Entry
from sweeper.search.selector import Ask, ParamSelector
from sweeper.signature import encode


class ManualSearch(ParamSelector):
    """Starts without points and waits for them; ends when it is told that no more come.

    Points are added from anywhere, before the sweep runs, while it runs, and while it does not:

        sweeper add FOLDER width=32 act=Tanh --trials 5
        sweeper finish FOLDER

    or by `sweeper.open(FOLDER).add({"width": 32}, trials=5)` and `.finish()`.  A point that is
    added again gets further trials.  A point whose parameters do not fit is recorded as a failure
    and skipped.
    """

    name = "manual"
    adaptive = True  # the log is kept, and says on a resume what was asked for
    look_ahead = MOST_TRIALS
    skips_refused = True

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._last = 0
        """The number of the last entry read."""
        self._left: deque[Entry] = deque()
        """Entries that were read, and not asked for yet."""
        self._finished = False

    def on_opened(self, folder: Path) -> None:
        """Note where points are added."""
        self._folder = folder

    def get_next_trials(self) -> Ask | None:
        """The next point that was added; None: none so far."""
        self._look()
        while self._left:
            ask = self._left.popleft().ask
            self._finished = ask is None
            if ask is not None:
                return ask
        return None

    def has_more_trials(self) -> bool:
        """Whether more points may come."""
        return not self._finished or bool(self._left)

    def waiting_outside(self) -> bool:
        """Points come from elsewhere."""
        return True

    def repeat_ask(self, logged: Ask | None) -> Ask | None:
        """As the log says; the entry that it came from is not asked for again."""
        self._look()
        for place, entry in enumerate(self._left):
            if logged is not None and entry.ask is not None and _key(entry.ask) == _key(logged):
                # Those before it were refused in the earlier run.
                for _ in range(place + 1):
                    self._left.popleft()
                break
        return logged

    def _look(self) -> None:
        """Read what was added since the last time."""
        if self._folder is None:
            return
        for entry in inbox.read(self._folder, self._last):
            self._left.append(entry)
            self._last = entry.number


def _key(ask: Ask) -> tuple[object, ...]:
    return (encode(ask.params), ask.trials, ask.budget, ask.group)
