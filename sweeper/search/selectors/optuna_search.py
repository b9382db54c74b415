"""`OptunaSearch`: points suggested by a sampler of Optuna."""

from __future__ import annotations

import importlib.util
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import UsageError
from sweeper.records import TRIAL, Params
from sweeper.search.checks import check_count
from sweeper.search.selector import ParamSelector, TrialResults
from sweeper.search.shared.goals import Goal, read_goal
from sweeper.signature import params_key
from sweeper.summary import show_params

if TYPE_CHECKING:
    import optuna

    from sweeper.search.domain import Domain
    from sweeper.search.optuna.view import StudyView

VIEW = "optuna.db"
"""The file in the sweep's folder that Optuna and its dashboard open."""

_MOST_REFUSED = 1000
"""Draws in a row that are no points of the domain."""

_MOST_SEED = 2**32 - 1
"""The largest that numpy's `RandomState`, and so a sampler, takes."""


class OptunaSearch(ParamSelector):
    """Points suggested by an Optuna sampler, which learns from the results.

    Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD (2019).
    With the same arguments and results the same points are asked for, on any number of cores and
    after a resume; with more `points`, further ones.  The sampler may suggest a point again: it
    then gets further trials, told apart.

    The study is kept in the sweep's folder as `optuna.db`, for `optuna-dashboard
    sqlite:///FOLDER/optuna.db` and `optuna.load_study`.  The file is a view of `sweep.db`: it is
    made anew if it is missing or differs.

    The sampler is told the mean over a point's trials.  A value that is not finite, as the loss of
    a trial that diverged, counts as the worst value seen so far.  Failed trials are left out; a
    point without any other is told as failed, and so is one without a finite value if none was
    seen yet.

    Args:
        domain: What to search: a `Domain`, or a mapping of names to what it takes or to Optuna's
            distributions; or a function of an Optuna trial that suggests parameters and returns the
            point, a dict or a tuple.  It may raise `optuna.TrialPruned` to refuse a combination.
        points: Number of points.
        trials: Number of trials per point, 1 or more.
        sampler: `"tpe"` (also None), `"cmaes"`, `"gp"`, `"nsga2"`, `"qmc"` or `"random"`; or a
            class of Optuna's samplers, or a function of `seed` that makes a sampler:
            `lambda seed: TPESampler(seed=seed, n_startup_trials=20)`.
        metric: The metric to optimise, or a sequence of several for a search with several goals.
        direction: `"maximize"` or `"minimize"`, or one for each metric.  None: the metric's own;
            those that a problem declares need it.
        look_ahead: How many points may be in training while the next is suggested.
        seed: Random seed of the sampler.

    Raises:
        UsageError: Optuna is not installed, cannot search the domain, or an argument breaks its
            rule.
        ParamError: a value that cannot be stored.
    """

    name = "optuna"
    adaptive = True

    def __init__(
        self,
        domain: Domain | Mapping[str, Any] | Callable[[optuna.Trial], Params],
        points: int,
        trials: int = 1,
        *,
        sampler: str | Callable[..., optuna.samplers.BaseSampler] | None = None,
        metric: str | Sequence[str] = "perf_val",
        direction: str | Sequence[str] | None = None,
        look_ahead: int = ParamSelector.look_ahead,
        seed: int = 0,
    ) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise UsageError(
                "OptunaSearch needs Optuna, which is not installed: pip install 'sweeper[optuna]'"
            )
        from sweeper.search.optuna.space import read_space

        self._points = check_count("points", points)
        self._trials = _check_positive("trials", trials)
        self.look_ahead = _check_positive("look_ahead", look_ahead)
        self._goals = _read_goals(metric, direction)
        self._worst = [math.inf] * len(self._goals)
        """By goal: the worst finite value seen, as a number of which larger is better."""
        self._suggest = read_space(domain)
        self._asked = 0
        self._open: dict[str, deque[optuna.Trial]] = {}
        """By point: the trials of the study whose results are awaited."""
        self._view: StudyView | None = None
        self.study = _make_study(sampler, check_count("seed", seed, _MOST_SEED), self._goals)
        """The study in memory, with Optuna's `best_trials` and the like; one trial per point."""

    # -- asking -----------------------------------------------------------------------------------

    def get_next_trials(self) -> tuple[Params, int] | None:
        """The point that the sampler suggests."""
        if not self.has_more_trials():
            return None
        params, trial = self._draw()
        self._asked += 1
        self._open.setdefault(params_key(params), deque()).append(trial)
        return params, self._trials

    def has_more_trials(self) -> bool:
        """Whether fewer than `points` have been asked for."""
        return self._asked < self._points

    def _draw(self) -> tuple[Params, optuna.Trial]:
        """Suggestions until one is a point; the sampler learns which are none."""
        from optuna import TrialPruned
        from optuna.trial import TrialState

        for _ in range(_MOST_REFUSED):
            trial = self.study.ask()
            try:
                return self._suggest(trial), trial
            except TrialPruned:
                self.study.tell(trial, state=TrialState.PRUNED)
        raise UsageError(
            f"{_MOST_REFUSED:,} suggestions in a row are no points of the domain, the last of "
            f"them {show_params(trial.params)}: its constraints refuse nearly all"
        )

    # -- telling ----------------------------------------------------------------------------------

    def on_opened(self, folder: Path) -> None:
        """Keep a view of the study in the folder."""
        from sweeper.search.optuna.view import StudyView

        self._view = StudyView(folder / VIEW, self.study)

    def on_results(self, result: TrialResults) -> None:
        """Tell the sampler the mean of each metric."""
        waiting = self._open.get(params_key(result.params))
        if not waiting:  # the point was told as failed
            return
        trial = waiting.popleft()
        for name, numbers in result.metrics.items():
            finite = numbers[np.isfinite(numbers)]
            if len(finite):
                trial.set_user_attr(name, float(finite.mean()))
        reason = next(iter(result.failures.values()), "no value is finite, nor was one before")
        self._tell(trial, result.params, self._means(result), reason)

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Tell the sampler that the tuning of the point has failed, for all that was asked of it.

        Of failed trials `on_results` has told.
        """
        if stage == TRIAL:
            return
        for trial in self._open.pop(params_key(params), ()):
            self._tell(trial, params, None, f"{stage}: {error}")

    def _means(self, result: TrialResults) -> list[float] | None:
        """The mean of each metric over the trials; None: there is none to tell."""
        if not len(result.numbers):
            return None
        means = []
        for place, goal in enumerate(self._goals):
            values = goal.values(result)
            is_finite = np.isfinite(values)
            worst = min(self._worst[place], values[is_finite].min(initial=math.inf))
            self._worst[place] = worst
            means.append(goal.sign * float(np.where(is_finite, values, worst).mean()))
        return means if np.isfinite(means).all() else None

    def _tell(
        self, trial: optuna.Trial, params: Params, values: list[float] | None, reason: str
    ) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("point", show_params(params))
        if values is None:
            trial.set_user_attr("failed", reason)
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)
        if self._view is not None:
            self._view.update()


# -- arguments ------------------------------------------------------------------------------------


def _check_positive(name: str, value: Any) -> int:
    if check_count(name, value) == 0:
        raise UsageError(f"{name}={value!r}: it must be 1 or more")
    return int(value)


def _read_goals(metric: Any, direction: Any) -> tuple[Goal, ...]:
    if isinstance(metric, str):
        return (read_goal(metric, direction),)
    metrics = tuple(metric) if isinstance(metric, Sequence) else ()
    if not metrics or len(set(metrics)) < len(metrics):
        raise UsageError(f"metric={metric!r}: give the name of a metric, or several, each once")
    directions = (None,) * len(metrics) if direction is None else tuple(direction)
    if isinstance(direction, str) or len(directions) != len(metrics):
        raise UsageError(
            f"direction={direction!r}: give one for each metric, of which there are {len(metrics)}"
        )
    return tuple(map(read_goal, metrics, directions))


def _make_study(sampler: Any, seed: int, goals: Sequence[Goal]) -> optuna.Study:
    import optuna
    from optuna.study import StudyDirection

    from sweeper.search.optuna.view import quiet

    directions = [
        StudyDirection.MAXIMIZE if goal.sign > 0 else StudyDirection.MINIMIZE for goal in goals
    ]
    with quiet():
        made = _make_sampler(sampler, seed)
        study = optuna.create_study(sampler=made, directions=directions)
        study.set_metric_names([goal.metric for goal in goals])
    if len(goals) > 1 and isinstance(made, optuna.samplers.CmaEsSampler):
        raise UsageError(
            f"sampler={sampler!r}: CMA-ES optimises one metric: for {len(goals)} use 'tpe', "
            "'nsga2' or 'gp'"
        )
    return study


def _make_sampler(given: Any, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler that was named, or that a class or a function makes of the seed."""
    from optuna import samplers

    named: dict[str, Callable[[int], samplers.BaseSampler]] = {
        "tpe": lambda seed: samplers.TPESampler(seed=seed, constant_liar=True),
        "cmaes": lambda seed: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "gp": lambda seed: samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        "nsga2": lambda seed: samplers.NSGAIISampler(seed=seed),
        "qmc": lambda seed: samplers.QMCSampler(
            seed=seed, scramble=True, warn_independent_sampling=False
        ),
        "random": lambda seed: samplers.RandomSampler(seed=seed),
    }
    choices = (
        f"choose one of {', '.join(named)}, or give a class of samplers, or a function that makes "
        "one, such as lambda seed: TPESampler(seed=seed)"
    )
    if isinstance(given, samplers.BaseSampler):
        raise UsageError(
            f"sampler={given!r}: nothing shows whether a sampler that is made already was given a "
            f"seed, or was used before: {choices}"
        )
    make: Any = named.get(given or "tpe") if isinstance(given, str | None) else given
    if not callable(make):
        raise UsageError(f"sampler={given!r}: {choices}")
    made = make(seed=seed)
    if not isinstance(made, samplers.BaseSampler):
        raise UsageError(f"sampler={given!r}: it made {made!r}, which is no sampler; {choices}")
    return made
