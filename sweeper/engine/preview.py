"""What a sweep would do in its folder, without doing it: `sweeper run … --dry-run`."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from sweeper.engine.binding import folder_of, identity_of, point_of
from sweeper.engine.options import Options
from sweeper.errors import SelectorError, UsageError, plural
from sweeper.records import CHECK, Params, Point, Refused, budget_of, is_trial, trial_stage
from sweeper.run.backends import slots_used
from sweeper.search import ParamSelector
from sweeper.show.progress import show_duration
from sweeper.signature import decode
from sweeper.store.database.store import Store
from sweeper.store.identity import begins_anew, check_same, settings_begun
from sweeper.store.paths import Paths
from sweeper.store.results.asked import asked_trials
from sweeper.study.caller import Caller
from sweeper.study.measures import Measures
from sweeper.summary import show_params
from sweeper.workload import OpenWorkload, Workload


@dataclass(frozen=True, slots=True)
class PreviewPoint:
    """What would become of a point."""

    params: Params
    budget: int | None
    trials: int
    """How many trials are asked for; of a dropped point: were asked for by the last run."""
    done: int
    """How many of them have ended, in any earlier run."""
    tuned: bool
    """Whether its tuning is over."""
    failed: bool
    """Whether its tuning failed: then it has no trials."""

    @property
    def left(self) -> int:
        """How many trials would be run."""
        return 0 if self.failed else self.trials - self.done

    @property
    def is_new(self) -> bool:
        """Whether anything would be trained."""
        return bool(self.left) or not self.tuned

    def __str__(self) -> str:
        budget = "" if self.budget is None else f", budget {self.budget}"
        trials = f"{self.done} of {plural(self.trials, 'trial')} done"
        failed = ", its tuning failed" if self.failed else ""
        return f"{show_params(self.params)}{budget}: {trials}{failed}"


_CODE = (
    "code is not compared: points that behave differently since an edit would be trained anew, too"
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sweep would do; `str` describes it."""

    folder: Path
    added: tuple[PreviewPoint, ...]
    """Points, or trials of points, that would be trained."""
    kept: tuple[PreviewPoint, ...]
    """Points of which nothing is left to train."""
    dropped: tuple[PreviewPoint, ...]
    """Points of the last run that are not asked for now; they stay on disk."""
    seconds: float | None
    """How long it would take, from the speeds known in the folder; None: too little is known."""
    slots: int

    @property
    def trials(self) -> int:
        """How many trials would be run."""
        return sum(point.left for point in self.added)

    @property
    def tunings(self) -> int:
        """How many points would be tuned."""
        return len({repr(point.params) for point in self.added if not point.tuned})

    def __str__(self) -> str:
        groups = (("add ", self.added), ("keep", self.kept), ("drop", self.dropped))
        lines = [f"{word} {point}" for word, points in groups for point in points]
        counts = f"{len(self.added)} to add, {len(self.kept)} to keep, {len(self.dropped)} to drop"
        known = [_CODE] if self.kept or any(one.done or one.tuned for one in self.added) else []
        return "\n".join([*lines, *known, f"{self.folder}: {counts}", self._cost()])

    def _cost(self) -> str:
        if not self.added:
            return "nothing would be run"
        tuning = f", after tuning {plural(self.tunings, 'point')}" if self.tunings else ""
        time = (
            "how long it takes is not known before something has run here"
            if self.seconds is None
            else f"about {show_duration(self.seconds)} on {plural(self.slots, 'core')}"
        )
        return f"{plural(self.trials, 'trial')} would be run{tuning}: {time}"


def preview(workload: Workload, selector: ParamSelector, options: Options) -> Preview:
    """What `engine.run` would do with these arguments; nothing is written.

    Raises:
        UsageError: the selector is adaptive; or as `sweep`: a point that does not fit, a folder of
            another sweep.
        SelectorError: as `sweep`.
    """
    if selector.adaptive:
        raise UsageError(
            f"dry run: {type(selector).__name__} decides by results what to try, so nobody knows "
            "it before"
        )
    paths = Paths(folder_of(workload, options))
    opened = workload.open(options.seed, options.settings.cores_per_trial)
    try:
        slots = slots_used(options.backend, len(options.slots))
        if not (options.resume and paths.database.exists()):
            return _compare(paths.folder, _ask(workload, opened, selector, options), None, slots)
        with Store.read(paths.database) as store, store.snapshot():
            options = replace(options, settings=settings_begun(store, options.settings))
            own = opened.identity
            identity = identity_of(own, options)
            anew = begins_anew(store, identity)
            if not anew:
                check_same(store, paths, identity, data_sha256=opened.data_sha256)
            wanted = _ask(workload, opened, selector, options)
            return _compare(paths.folder, wanted, None if anew else store, slots)
    finally:
        opened.release()


class _Asked(NamedTuple):
    """A point that is asked for."""

    point: Point
    trials: int
    ready: bool
    """Whether its trials need no tuning, as those of a program."""


Wanted = dict[tuple[str, int | None], _Asked]
"""By signature and budget."""


def _ask(
    workload: Workload, opened: OpenWorkload, selector: ParamSelector, options: Options
) -> Wanted:
    """All that the selector asks for."""
    caller = Caller(
        selector, functools.partial(point_of, workload, opened, options), Measures(opened.metrics)
    )
    planner = opened.planner(options.settings, options.seed)
    caller.begin(planner.tunings)
    wanted: Wanted = {}
    count = 0
    while caller.has_more() and (answer := caller.next()) is not None:
        if isinstance(answer, Refused):
            continue
        point, ask = answer
        key = (point.signature, ask.budget)
        known = wanted.get(key)
        ready = planner.first(point, check=False).step.is_tuned if known is None else known.ready
        trials = ask.trials if known is None else known.trials + ask.trials
        wanted[key] = _Asked(point, trials, ready)
        count += 1
        if count > selector.most_untold:
            raise SelectorError(
                f"selector {caller.name} has asked {count:,} times and does not end"
            )
    return wanted


def _compare(folder: Path, wanted: Wanted, store: Store | None, slots: int) -> Preview:
    """What is wanted, against what the folder has; without a store, it has nothing."""
    if store is None:
        added = [
            PreviewPoint(one.point.params, budget, one.trials, 0, tuned=one.ready, failed=False)
            for (_, budget), one in wanted.items()
        ]
        return Preview(folder, tuple(added), (), (), None, slots)
    known = _Known(store)
    found = [
        known.point(signature, budget, one.point.params, one.trials, ready=one.ready)
        for (signature, budget), one in wanted.items()
    ]
    added = [point for point in found if point.is_new]
    before: Counter[tuple[str, int | None]] = Counter()
    params: dict[str, Params] = {}
    for one in asked_trials(store):
        before[one.signature, one.budget] += one.trials
        params[one.signature] = decode(one.encoded)
    dropped = [
        known.point(signature, budget, params[signature], trials)
        for (signature, budget), trials in before.items()
        if (signature, budget) not in wanted
    ]
    kept = [point for point in found if not point.is_new]
    result = Preview(folder, tuple(added), tuple(kept), tuple(dropped), None, slots)
    return replace(result, seconds=known.seconds(added, result.tunings, slots))


class _Known:
    """What a folder has: what has ended, and how long it took."""

    def __init__(self, store: Store) -> None:
        ids = store.ids()
        steps = store.last_steps()
        self._ended: set[tuple[str, str, int]] = set()
        self._trials: dict[int | None, list[float]] = defaultdict(list)
        """Seconds of trials, by budget."""
        self._tuning = 0.0
        for outcome in store.outcomes(arrays=False):
            seconds = outcome.ended - outcome.started
            if is_trial(outcome.stage):
                self._ended.add((outcome.point, outcome.stage, outcome.number))
                if outcome.failure is None:
                    self._trials[budget_of(outcome.stage)].append(seconds)
            elif outcome.stage != CHECK:
                self._tuning += seconds
        failed = {place for place, step in steps.items() if step.error is not None}
        over = failed | {place for place, step in steps.items() if step.is_tuned}
        self._tuned = {signature for signature, place in ids.items() if place in over}
        self._failed = {signature for signature, place in ids.items() if place in failed}

    def point(
        self,
        signature: str,
        budget: int | None,
        params: Params,
        trials: int,
        *,
        ready: bool = False,
    ) -> PreviewPoint:
        """What would become of a point of which so many trials are asked for."""
        stage = trial_stage(budget)
        done = sum((signature, stage, number) in self._ended for number in range(trials))
        tuned, failed = ready or signature in self._tuned, signature in self._failed
        return PreviewPoint(params, budget, trials, done, tuned, failed)

    def seconds(self, added: Sequence[PreviewPoint], tunings: int, slots: int) -> float | None:
        """How long it takes, at the mean speeds so far."""
        trials = sum(point.left for point in added)
        if (trials and not self._trials) or (tunings and not self._tuned):
            return None
        training = sum(point.left * self._trial(point.budget) for point in added if point.left)
        tuning = tunings * self._tuning / len(self._tuned) if tunings else 0.0
        return (training + tuning) / slots

    def _trial(self, budget: int | None) -> float:
        """Seconds of a trial; with a budget that is not known, from those of the largest known."""
        if budget in self._trials:
            return mean(self._trials[budget])
        most = max(filter(None, self._trials), default=None)
        if budget is None or most is None:
            return mean(itertools.chain(*self._trials.values()))
        return mean(self._trials[most]) * budget / most
