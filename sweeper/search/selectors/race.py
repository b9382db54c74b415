"""`Race`: more trials only for points that may be the best."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import TRIAL, Params
from sweeper.search.checks import check_count
from sweeper.search.selector import Ask, ParamSelector, TrialResults, as_ask
from sweeper.search.shared.goals import read_goal
from sweeper.search.shared.points import as_points_selector
from sweeper.signature import params_key
from sweeper.stats.sequential import (
    Means,
    Sample,
    estimate_means,
    plan_looks,
    spend,
    step_down,
)
from sweeper.summary import show_params

if TYPE_CHECKING:
    from sweeper.search.domain import Domain

DEFAULT_MIN_TRIALS = 3


@dataclass(frozen=True, slots=True)
class Eliminated:
    """A point found worse than the leaders."""

    params: Params
    trials: int
    """How many of its trials had been asked for by then."""
    p_value: float
    """Adjusted for the number of points and of looks: at most the race's `alpha`."""


@dataclass(slots=True, eq=False)
class _Runner:
    """A point in the race."""

    params: Params
    asked: int = 0
    missing: int = 0
    """Trials of the open ask without a result yet."""
    batch: list[float] = field(default_factory=list)
    """Results of the open ask."""
    failed: int = 0
    """Trials of the open ask that failed."""
    succeeded: int = 0
    """Trials of all asks that did not fail."""
    values: list[float] = field(default_factory=list)
    tunings: list[int] = field(default_factory=list)
    out: bool = False

    def ask(self, trials: int) -> None:
        """Begin an ask of this many trials."""
        self.missing, self.batch, self.failed = trials, [], 0
        self.asked += trials

    def close(self, tunings: int) -> None:
        """Take in the ask, all of whose trials have ended."""
        first = self.asked - len(self.batch) - self.failed
        self.succeeded += len(self.batch)
        # If some failed, it is not known which, nor with which tuning the others were trained.
        if self.failed and tunings > 1:
            return
        self.tunings += [
            number % tunings if tunings > 1 else number
            for number in range(first, first + len(self.batch))
        ]
        self.values += self.batch


class Race(ParamSelector):
    """More trials for points that may still be the best, none for those that are worse.

    All points of `selector` get `min_trials`.  Then, look by look, points that are worse than the
    leader drop out, and the others get more trials, up to `max_trials` each.  The looks are fixed
    in advance and share `alpha`, so that the probability that one of the best is dropped anywhere
    in the race is at most `alpha` (see `sweeper.stats.sequential` for the test and its sources).
    Points that are not told apart run to `max_trials`: that, too, is a result.

    If points are tuned several times, trials of one tuning are not independent repeats: the
    comparison includes the variance between tunings, however many trials there are, and numbers of
    trials are multiples of the number of tunings.

    Args:
        selector: Gives the points that race; the numbers of trials it asks for are ignored.  It
            must not be adaptive.  Or the points themselves: a finite `Domain`, or a list.
        max_trials: Maximum number of trials per point.
        min_trials: Number of trials of every point before the first decision.
        alpha: The probability of dropping one of the best, and of calling points equivalent that
            are not, each over the whole race.
        keep: How many of the best are wanted: a point drops out if it is worse than this many.
        margin: The race ends if all points left are equivalent: no two differ by this much.  With 0
            it ends at `max_trials`, or when no more than `keep` are left.
        metric: The metric to compare.  A value that is not finite counts as the worst one seen.
        direction: `"maximize"` or `"minimize"`, for a metric that the workload declares.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "race"
    adaptive = True
    look_ahead = 10_000_000
    """No limit within a round: the next round is decided when this one is complete."""

    def __init__(
        self,
        selector: ParamSelector | Domain | list[Params],
        max_trials: int,
        min_trials: int = DEFAULT_MIN_TRIALS,
        alpha: float = 0.05,
        keep: int = 1,
        margin: float = 0.0,
        metric: str = "perf_val",
        direction: str | None = None,
    ) -> None:
        _check(selector, max_trials, min_trials, alpha, keep, margin)
        self._selector = as_points_selector(selector, 1)
        self._min_trials, self._max_trials = int(min_trials), int(max_trials)
        self._alpha, self._keep, self._margin = float(alpha), int(keep), float(margin)
        self._goal = read_goal(metric, direction)
        self._tunings = 1
        self._looks: tuple[int, ...] = ()
        self._place = 0
        self._runners: dict[str, _Runner] = {}
        self._queue: deque[_Runner] = deque()
        self._open = 0
        """Number of asks that are not complete."""
        self.eliminated: list[Eliminated] = []
        """The points that were found worse, in order."""
        self.failed: list[Params] = []
        """Points that left the race without results: their tuning failed, or all their trials."""
        self.equivalent = False
        """Whether the race ended because all points left are equivalent within the margin."""

    # -- asking -----------------------------------------------------------------------------------

    def get_next_trials(self) -> tuple[Params, int] | None:
        """The next point of this round; None while trials of the round are running."""
        self._start()
        if not self._queue:
            return None
        runner = self._queue.popleft()
        trials = self._looks[self._place] - runner.asked
        runner.ask(trials)
        self._open += 1
        return runner.params, trials

    def has_more_trials(self) -> bool:
        """True until a look decides everything, or was the last."""
        self._start()
        return bool(self._queue or self._open)

    def _start(self) -> None:
        """Enter all points of the selector into the race, when it is first asked."""
        if self._looks:
            return
        self._looks = plan_looks(self._min_trials, self._max_trials, self._tunings)
        while self._selector.has_more_trials():
            answer = self._selector.get_next_trials()
            if answer is None:
                break
            params = racing_params(as_ask(answer))
            self._runners.setdefault(params_key(params), _Runner(params))
        self._queue.extend(self._runners.values())

    # -- telling ----------------------------------------------------------------------------------

    def on_opened(self, folder: Path) -> None:
        """Forward to the inner selector."""
        self._selector.on_opened(folder)

    def on_begin(self, tunings: int) -> None:
        """Note how many tunings a point's trials are spread over."""
        self._tunings = tunings
        self._selector.on_begin(tunings)

    def on_hparams_found(
        self, params: Params, lr_min: float, lr_max: float, batch_size: int
    ) -> None:
        """Forward to the inner selector."""
        self._selector.on_hparams_found(params, lr_min, lr_max, batch_size)

    def on_results(self, result: TrialResults) -> None:
        """Note the results; if the round is complete, decide who continues."""
        self._selector.on_results(result)
        runner = self._runners[params_key(result.params)]
        values = self._goal.values(result)
        runner.batch += values.tolist()
        self._count(runner, len(values))

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Continue without a trial, or without a point whose tuning failed."""
        self._selector.on_failed(params, stage, error)
        runner = self._runners[params_key(params)]
        trials = 1 if stage == TRIAL else runner.missing
        runner.failed += trials
        self._count(runner, trials)

    def _count(self, runner: _Runner, trials: int) -> None:
        """Count trials that have ended; with the last one of the round, decide."""
        runner.missing -= trials
        if runner.missing:
            return
        self._open -= 1
        runner.close(self._tunings)
        if not runner.succeeded:
            runner.out = True
            self.failed.append(runner.params)
        if not self._open and not self._queue:
            self._decide()

    # -- deciding ---------------------------------------------------------------------------------

    @property
    def left(self) -> list[Params]:
        """The points that are still in the race, the best so far first."""
        racing = [runner for runner in self._runners.values() if not runner.out]
        racing.sort(key=lambda runner: -_mean(runner.values))
        return [runner.params for runner in racing]

    def summary(self) -> str:
        """Which points were dropped, when, and with which p-value; which are left."""
        lines = [
            f"{show_params(out.params)}: worse, after {out.trials} trials (p = {out.p_value:.2g})"
            for out in self.eliminated
        ]
        lines += [f"{show_params(params)}: failed" for params in self.failed]
        left = self.left
        found = "left: " + ("; ".join(map(show_params, left)) or "none")
        if self.equivalent:
            found += f" (equivalent within {self._margin:g})"
        elif len(left) > self._keep:
            found += " (not told apart)"
        return "\n".join([*lines, found])

    def _decide(self) -> None:
        """Drop points that are worse; ask for more trials of the others if that may decide more."""
        racing = [runner for runner in self._runners.values() if not runner.out]
        if len(racing) > self._keep:
            self._judge(racing)
        racing = [runner for runner in racing if not runner.out]
        self._place += 1
        if self._place < len(self._looks) and len(racing) > self._keep and not self.equivalent:
            self._queue.extend(racing)

    def _judge(self, racing: list[_Runner]) -> None:
        known = [runner for runner in self._runners.values() if len(runner.values) > 1]
        means = estimate_means(_samples(known))
        places = {place: runner for place, runner in enumerate(known) if not runner.out}
        level = spend(self._alpha, self._looks, self._place)
        ranked = sorted(places, key=lambda place: -means.mean[place])
        leaders, others = ranked[: self._keep], ranked[self._keep :]
        each = np.max([means.p_values(others, leader) for leader in leaders], axis=0, initial=0)
        p_values = dict(zip(others, each.tolist(), strict=True))
        dropped = step_down(p_values, level, len(racing), len(self._runners) - 1)
        for place, p_value in dropped.items():
            runner = places.pop(place)
            runner.out = True
            share = level / self._alpha
            self.eliminated.append(Eliminated(runner.params, runner.asked, p_value / share))
        self.equivalent = (
            self._margin > 0
            and len(places) == len(racing) - len(dropped)
            and _are_equivalent(means, list(places), self._margin, level)
        )


def racing_params(ask: Ask) -> Params:
    """The point of an ask, as one that races.

    Raises:
        UsageError: it has a budget.
    """
    if ask.budget is not None:
        raise UsageError(
            f"{show_params(ask.params)}: asked for with budget {ask.budget}: in a race all trials "
            "have the same length, that of the settings"
        )
    return ask.params


def _are_equivalent(means: Means, places: list[int], margin: float, level: float) -> bool:
    """Whether no two points differ by the margin.

    No correction for the number of pairs is needed, since all must pass (R. Berger, 1982).
    """
    return all(
        means.p_values([one], other, -margin)[0] <= level
        for one in places
        for other in places
        if one != other
    )


def _samples(runners: list[_Runner]) -> list[Sample]:
    """Each point's values; values that are not finite are replaced by the worst finite one."""
    values = [np.array(runner.values) for runner in runners]
    worst = min((each[np.isfinite(each)].min(initial=math.inf) for each in values), default=0.0)
    if not math.isfinite(worst):
        worst = 0.0
    return [
        Sample(np.where(np.isfinite(each), each, worst), np.array(runner.tunings))
        for each, runner in zip(values, runners, strict=True)
    ]


def _mean(values: list[float]) -> float:
    mean = sum(values) / len(values) if values else math.nan
    return mean if math.isfinite(mean) else -math.inf


def _check(
    selector: Any, max_trials: Any, min_trials: Any, alpha: Any, keep: Any, margin: Any
) -> None:
    if isinstance(selector, ParamSelector) and selector.adaptive:
        raise UsageError(
            f"selector={selector!r}: a race takes its points from a ParamSelector that is not "
            "adaptive, such as sweeper.Grid or sweeper.FixedSweep"
        )
    if check_count("min_trials", min_trials) < 2:
        raise UsageError(f"min_trials={min_trials!r}: it must be 2 or more, to estimate a variance")
    if check_count("max_trials", max_trials) < min_trials:
        raise UsageError(
            f"max_trials={max_trials!r}: it must be at least min_trials, which is {min_trials!r}"
        )
    if check_count("keep", keep) < 1:
        raise UsageError(f"keep={keep!r}: it must be 1 or more")
    if not _is_number(alpha) or not 0 < alpha < 1:
        raise UsageError(f"alpha={alpha!r}: it must be a number above 0 and below 1")
    if not _is_number(margin) or not 0 <= margin < math.inf:
        raise UsageError(f"margin={margin!r}: it must be a finite number, 0 or more")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
