"""Reads results from a folder, without torch."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from sweeper.records import (
    CLASSIC,
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
from sweeper.store.asked import AskedTrials, asked_trials, unasked_trials
from sweeper.store.database import Store
from sweeper.store.details import StoredTrials, note_of_raised
from sweeper.store.flags import flags
from sweeper.store.notes import (
    apart_note,
    chosen_notes,
    modes_note,
    spare_note,
    unasked_notes,
    unmeasured_notes,
)
from sweeper.store.paths import Paths
from sweeper.store.rows import read_metrics, read_names
from sweeper.store.spare import add_spares
from sweeper.store.tuned import TrialSettings
from sweeper.store.usage import read_usage, usage_of

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


def read_results(store: Store, *, everything: bool = False) -> SweepResult:
    """As `load`, from an open store.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    with store.understood():
        return _read_results(store, everything=everything)


def _read_results(store: Store, *, everything: bool) -> SweepResult:
    steps = store.last_steps()
    trials: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    failed: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in store.outcomes(arrays=False):
        if outcome.failure is not None:
            failed[outcome.point].append(outcome)
        elif is_trial(outcome.stage):
            trials[outcome.point, outcome.stage].append(outcome)
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
        *apart_note(store, steps),
        *spare_note(asked),
        *chosen_notes(asked, store.meta.get("compare_by", [])),
        *([] if everything else unasked_notes(unasked, asked)),
        *(unmeasured_notes(points, metrics) + note_of_raised(store) if of_program else []),
        *modes_note(
            [steps[place] for place in dict.fromkeys(a.id for a in asked) if place in steps]
        ),
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
