"""When a sweep has enough: `stop_when`.  Pure: it is told the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.errors import SettingsError, plural
from sweeper.records import CLASSIC, Failure
from sweeper.settings import StopWhen
from sweeper.study.measures import Measures


class StopRule:
    """Decides when nothing new may start; once decided, it stays so.

    Args:
        when: The limits.
        began: When this run began, in seconds since the epoch.
        measures: What trials measure; None: the metrics of a problem.

    Raises:
        SettingsError: `no_better` needs a metric with a direction, and there is none.
    """

    def __init__(self, when: StopWhen, began: float, measures: Measures | None = None) -> None:
        self._when = when
        self._measures = measures or Measures(CLASSIC)
        if when.no_better is not None and self._measures.judged is None:
            raise SettingsError(
                f"stop_when no_better={when.no_better}: no metric says what is better: declare "
                "one, such as metrics={'acc': 'maximize'}"
            )
        self._began = began
        self._seen: set[tuple[str, int | None]] = set()
        """Points whose trials have ended, by signature, with the budget of these."""
        self._best: dict[int | None, float] = {}
        """By budget: the best mean merit of a point (see `Measures`)."""
        self._since = 0
        """Points whose trials have ended since one was the best of its budget."""
        self.reason = ""
        """Why nothing new may start; empty: it may."""

    @property
    def compares_points(self) -> bool:
        """Whether it has to be told of points whose trials have ended."""
        return self._when.no_better is not None

    def end_point(
        self,
        signature: str,
        trials: Sequence[tuple[float, ...] | Failure],
        budget: int | None = None,
    ) -> None:
        """Note that all trials of a point have ended; it may get more, and end again.

        It is judged by its `trials` with its largest `budget`, against points with the same one.
        """
        if not trials:
            return
        merits = self._measures.merits([one for one in trials if not isinstance(one, Failure)])
        mean = sum(merits) / len(merits) if merits else -math.inf
        is_new = (signature, budget) not in self._seen
        self._seen.add((signature, budget))
        if mean > self._best.get(budget, -math.inf):
            self._best[budget], self._since = mean, 0
        else:
            self._since += is_new

    def look(self, now: float, trials: int, points: int) -> str:
        """Decide; returns the reason.

        Args:
            now: Seconds since the epoch.
            trials: How many of the trials asked for have ended, in this run and earlier ones.
            points: Of how many points all trials have ended.
        """
        self.reason = self.reason or self._look(now, trials, points)
        return self.reason

    def _look(self, now: float, trials: int, points: int) -> str:
        when = self._when
        if when.hours is not None and now - self._began >= when.hours * 3600:
            return f"stopped after {when.hours:g} h"
        if when.trials is not None and trials >= when.trials:
            return f"stopped at {plural(trials, 'trial')}, of which {when.trials} were wanted"
        if when.points is not None and points >= when.points:
            return f"stopped at {plural(points, 'point')}, of which {when.points} were wanted"
        if when.no_better is not None and self._since >= when.no_better:
            return f"stopped since {plural(self._since, 'point')} in a row came to no better mean"
        return ""
