"""Reads results from a folder, without torch."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sweeper.records import (
    CLASSIC,
    COMPILED,
    EAGER,
    FINAL,
    REFUSED,
    Metric,
    Outcome,
    Params,
    Step,
    is_trial,
)
from sweeper.results import (
    METRICS,
    TEST_METRICS,
    FailureReport,
    PointResult,
    ProgramPoint,
    SweepResult,
    Tested,
    with_bounds,
)
from sweeper.results.result import tuned_settings
from sweeper.signature import decode, encode
from sweeper.stats.comparison import plural
from sweeper.store.asked import AskedTrials, asked_trials, unasked_trials
from sweeper.store.database import Store
from sweeper.store.details import StoredTrials, note_of_raised
from sweeper.store.flags import flags
from sweeper.store.paths import Paths
from sweeper.store.rows import is_apart, read_metrics, read_names
from sweeper.store.spare import add_spares
from sweeper.store.tuned import TrialSettings
from sweeper.store.usage import read_usage, usage_of
from sweeper.summary import show_params

IntArray: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


def load(folder: str | Path, *, everything: bool = False) -> SweepResult:
    """The results so far in a sweep's folder, also while it runs.

    Runs no code from the folder: classes among the parameters stay `"module:Name"`.

    Args:
        folder: The sweep's folder.
        everything: Whether to include points that only earlier runs asked for; they come last.

    Raises:
        FolderError: there is no sweep in the folder, or it is damaged.
    """
    with Store.read(Paths(Path(folder)).database) as store, store.snapshot():
        return read_results(store, everything=everything)


@dataclass(frozen=True, slots=True)
class SortedOutcomes:
    """The outcomes of a folder, without arrays, in order of number."""

    trials: dict[tuple[str, str], list[Outcome]]
    """By signature and stage: those of trials that have not failed."""
    failed: dict[str, list[Outcome]]
    """By signature: those of replicas that have."""


def sort_outcomes(store: Store) -> SortedOutcomes:
    """Read all outcomes.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    found = SortedOutcomes(defaultdict(list), defaultdict(list))
    for outcome in store.outcomes(arrays=False):
        if outcome.failure is not None:
            found.failed[outcome.point].append(outcome)
        elif is_trial(outcome.stage):
            found.trials[outcome.point, outcome.stage].append(outcome)
    return found


def read_results(
    store: Store, outcomes: SortedOutcomes | None = None, *, everything: bool = False
) -> SweepResult:
    """As `load`, from an open store; `outcomes` are all of its own, if they have been read.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    with store.understood():
        return _read_results(store, outcomes or sort_outcomes(store), everything=everything)


def _read_results(store: Store, outcomes: SortedOutcomes, *, everything: bool) -> SweepResult:
    steps, trials, failed = store.last_steps(), outcomes.trials, outcomes.failed
    of_program = is_program(store)
    metrics = read_metrics(store.meta.get("metrics", []))
    if of_program:
        metrics += _learned(itertools.chain.from_iterable(trials.values()), metrics)
    points: list[Any] = []
    kept_trials: list[list[Outcome]] = []
    has_test, tested = bool(store.meta.get("n_test")), list[Tested]()
    numbers: list[IntArray] = []
    tunings: list[IntArray] = []
    failures: list[FailureReport] = []
    asked = asked_trials(store)
    add_spares(store, asked)
    unasked = unasked_trials(store, asked)
    if everything:
        asked += unasked
    seen: set[str] = set()
    settings = {one.id: TrialSettings.read(steps.get(one.id, Step("")).payload) for one in asked}
    for one in asked:
        step = steps.get(one.id, Step(""))
        kept = [trial for trial in trials[one.signature, one.stage] if trial.number in one]
        points.append(
            _program_point(one, metrics, kept) if of_program else _point_result(one, step, kept)
        )
        kept_trials.append(kept)
        if has_test:
            tested.append(Tested(*_columns(kept, TEST_METRICS)))
        numbers.append(np.array([trial.number for trial in kept], dtype=np.int64))
        tunings.append(numbers[-1] % max(1, len(settings[one.id].tunings)))
        params = points[-1].params
        if step.error is not None and one.signature not in seen:
            failures.append(_failed_tuning(params, one, step, failed[one.signature]))
        failures += _failures(params, one, failed[one.signature])
        seen.add(one.signature)
    accepted = {one.encoded for one in asked}
    failures += [
        FailureReport(params, REFUSED, None, message, "")
        for params, message in store.refused(store.meta.get("selector", ""))
        if encode(params, as_given=True) not in accepted
    ]
    notes = [
        *filter(None, [store.meta.get("stopped", "")]),
        *store.notes(),
        *_apart(store, steps),
        *_spare(asked),
        *_chosen(asked, store.meta.get("compare_by", [])),
        *([] if everything else _unasked(unasked, asked)),
        *(_unmeasured(points, metrics) + note_of_raised(store) if of_program else []),
        *_modes([steps[place] for place in dict.fromkeys(a.id for a in asked) if place in steps]),
    ]
    told = [settings[one.id] for one in asked]
    # Trials that are shorter than tuning expects say nothing about it.
    whole = [
        one.budget is None or one.budget >= (each.cycles or 1)
        for one, each in zip(asked, told, strict=True)
    ]
    losses = [
        point.loss_train.tolist() if long and not of_program else []
        for point, long in zip(points, whole, strict=True)
    ]
    flagged = flags(told, losses)
    n_val = store.meta.get("n_val")
    of_tunings = [
        list(each.tunings) or list(tuned_settings(point))
        for each, point in zip(told, points, strict=True)
    ]
    test = tested if has_test else None
    used = read_usage(store) if of_program else {}
    compare_by = read_names(store.meta.get("compare_by", []))
    return SweepResult(
        points,
        numbers,
        failures,
        notes,
        tunings,
        flagged,
        n_val,
        of_tunings,
        test,
        paired=bool(store.meta.get("paired", False)),
        budgets=[one.budget for one in asked],
        groups=[one.group for one in asked],
        lineages=[one.lineage for one in asked],
        parents=[one.parent for one in asked],
        compare_by=compare_by,
        asks=_asks(asked, numbers) if compare_by else None,
        records=[StoredTrials(store.path, one.id, one.stage) for one in asked],
        earlier=len(unasked) if everything else 0,
        usage=[[usage_of(trial, used) for trial in kept] for kept in kept_trials] if used else None,
        metrics=_bounded(metrics, points) if of_program else (*CLASSIC, *metrics),
        declared=None
        if of_program
        else {
            metric.name: [np.array(row, dtype=np.float64) for row in rows]
            for metric, rows in zip(metrics, _declared(metrics, kept_trials), strict=True)
        },
    )


def is_program(store: Store) -> bool:
    """Whether the folder's workload is a program."""
    return bool(store.meta.get("identity", {}).get("workload") == "program")


def read_learned(store: Store, declared: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics that trials of a program have measured besides the declared ones.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    with store.understood():
        return _learned(store.outcomes(arrays=False), declared)


def _learned(trials: Iterable[Outcome], declared: Sequence[Metric]) -> tuple[Metric, ...]:
    names = dict.fromkeys(name for trial in trials for name in trial.metrics)
    known = {metric.name for metric in declared}
    return tuple(Metric(name, "none") for name in names if name not in known)


def _bounded(metrics: Sequence[Metric], points: Sequence[ProgramPoint]) -> tuple[Metric, ...]:
    samples = [[point.metrics[metric.name] for point in points] for metric in metrics]
    return tuple(with_bounds(*pair) for pair in zip(metrics, samples, strict=True))


def _unmeasured(points: Sequence[ProgramPoint], metrics: Sequence[Metric]) -> list[str]:
    """How many trials of a program lack a metric, as notes."""
    found = []
    for metric in metrics:
        values = np.concatenate([np.zeros(0), *(point.metrics[metric.name] for point in points)])
        lacking = int(np.isnan(values).sum())
        if lacking:
            trials = plural(len(values), "trial")
            found.append(f"{metric.name} is missing or not a number in {lacking} of {trials}")
    return found


def _asks(asked: Sequence[AskedTrials], numbers: Sequence[IntArray]) -> list[IntArray]:
    """For each point the ask of each of its trials."""
    return [
        np.array(one.asks_of(own.tolist()), dtype=np.int64)
        for one, own in zip(asked, numbers, strict=True)
    ]


def _declared(
    metrics: Sequence[Metric], trials: Sequence[Sequence[Outcome]]
) -> list[list[list[float]]]:
    """Each declared metric's values by point; NaN for trials from before its declaration."""
    return [
        [[one.metrics.get(metric.name, math.nan) for one in some] for some in trials]
        for metric in metrics
    ]


_SHOWN = 5
"""Maximum number of points that a note names."""


def _apart(store: Store, steps: Mapping[int, Step]) -> list[str]:
    """Which points were trained by earlier code, as a note."""
    names = store.signatures()
    found = [
        show_params(decode(encoded))
        for point_id, encoded in store.encoded_params()
        if is_apart(names[point_id]) and steps.get(point_id, Step("")).is_tuned
    ]
    if not found:
        return []
    shown = "; ".join(found[:_SHOWN]) + ("; …" if len(found) > _SHOWN else "")
    points = "1 point was" if len(found) == 1 else f"{len(found)} points were"
    is_kept = _are(len(found))
    how = "`sweeper show FOLDER --code` shows what changed"
    return [f"{points} trained by earlier code and {is_kept} kept apart: {shown} ({how})"]


def _spare(asked: Sequence[AskedTrials]) -> list[str]:
    """How many spare trials count, as a note."""
    found = [(len(one.spares), one) for one in asked if one.spares]
    if not found:
        return []
    counts = [
        f"{plural(count, 'spare trial')} of {show_params(decode(one.encoded))}"
        for count, one in found[:_SHOWN]
    ]
    more = sum(count for count, _ in found[_SHOWN:])
    shown = "; ".join([*counts, *([f"{more} of other points"] if more else [])])
    return [f"{shown}: nobody asked for these; how many there are depends on time and cores"]


def _chosen(asked: Sequence[AskedTrials], compare_by: Sequence[str]) -> list[str]:
    """With which other parameters the points are compared that count as one, as notes."""
    found: dict[str, list[str]] = {}
    for one in asked:
        params = decode(one.encoded)
        if one.group == FINAL and compare_by and isinstance(params, Mapping):
            own = {name: value for name, value in params.items() if name in compare_by}
            others = {name: value for name, value in params.items() if name not in compare_by}
            found.setdefault(show_params(own), []).append(show_params(others))
    shown = list(found.items())[:_SHOWN]
    more = [f"and of {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"chosen for {name}: {' | '.join(others)}" for name, others in shown] + more


def _unasked(trials: Sequence[AskedTrials], asked: Sequence[AskedTrials]) -> list[str]:
    """How many points only earlier runs asked for, at all or otherwise, as notes."""
    known = {one.id for one in asked}
    found = {one.id for one in trials}
    hidden = "not asked for now and not shown (`sweeper show FOLDER --all` shows every point)"
    notes = []
    if count := len(found - known):
        notes.append(f"{plural(count, 'point')} of the folder {_are(count)} {hidden}")
    if count := len(found & known):
        notes.append(f"trials of other budgets or parents of {plural(count, 'point')} are {hidden}")
    return notes


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _modes(steps: list[Step]) -> list[str]:
    """How many points train in packs, and why others do not."""
    found = [TrialSettings.read(step.payload) for step in steps if step.found is not None]
    told = [one for one in found if one.mode is not None]
    if not told:
        return []
    why = Counter(one.because for one in told if one.mode == EAGER)
    eager = "".join(f"; {count} one by one: {reason}" for reason, count in why.most_common())
    compiled = sum(one.mode == COMPILED for one in told)
    native = f", {compiled} of them compiled" if compiled else ""
    return [f"training: {len(told) - why.total()} of {len(told)} points in packs{native}{eager}"]


def _failures(
    params: Params, asked: AskedTrials, failed: Sequence[Outcome]
) -> Iterator[FailureReport]:
    """The trials that failed, among those asked for."""
    for outcome in failed:  # in order of number
        failure = outcome.failure
        if failure is None or failure.kind == "changed":
            continue
        if outcome.stage == asked.stage and outcome.number in asked:
            what = (outcome.stage, outcome.number, failure.message, failure.detail)
            yield FailureReport(params, *what, asked.budget, asked.group, asked.lineage)


def _failed_tuning(
    params: Params, asked: AskedTrials, step: Step, failed: Sequence[Outcome]
) -> FailureReport:
    probes = [
        outcome.failure.detail
        for outcome in failed
        if outcome.failure is not None
        and outcome.failure.kind != "changed"
        and outcome.stage == step.stage
    ]
    what = (step.stage, None, step.error or "", "".join(probes[:1]))
    return FailureReport(params, *what, asked.budget, asked.group, asked.lineage)


def _point_result(asked: AskedTrials, step: Step, trials: list[Outcome]) -> PointResult:
    found = step.found
    return PointResult(
        decode(asked.encoded),
        math.nan if found is None else found.lr_min,
        math.nan if found is None else found.lr_max,
        0 if found is None else found.batch_size,
        *_columns(trials, METRICS),
    )


def _program_point(
    asked: AskedTrials, metrics: Sequence[Metric], trials: Sequence[Outcome]
) -> ProgramPoint:
    values = {
        metric.name: np.array(
            [trial.metrics.get(metric.name, math.nan) for trial in trials], dtype=np.float64
        )
        for metric in metrics
    }
    return ProgramPoint(decode(asked.encoded), values)


def _columns(
    trials: Sequence[Outcome], metrics: Sequence[str]
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """The values of each of these metrics over the trials."""
    for metric in metrics:
        yield np.array([trial.metrics[metric] for trial in trials], dtype=np.float64)
