"""Reads results from a folder, without torch."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.errors import FolderError
from sweeper.records import (
    CLASSIC,
    METRICS,
    REFUSED,
    Metric,
    Outcome,
    Params,
    Step,
    is_trial,
)
from sweeper.results import (
    TEST_METRICS,
    FailureReport,
    FloatArray,
    IntArray,
    PointResult,
    PointTrials,
    ProgramPoint,
    SweepResult,
    Tested,
    tuned_settings,
    with_bounds,
)
from sweeper.signature import decode, encode
from sweeper.store.database.rows import read_metrics, read_names
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.asked import AskedTrials, asked_trials, unasked_trials
from sweeper.store.results.details import StoredTrials, note_of_raised
from sweeper.store.results.flags import flags
from sweeper.store.results.notes import (
    apart_note,
    chosen_notes,
    modes_note,
    spare_note,
    unasked_notes,
    unmeasured_notes,
)
from sweeper.store.results.spare import add_spares
from sweeper.store.results.tuned import TrialSettings
from sweeper.store.results.usage import read_usage, usage_of


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
        check_begun(store)
        return read_results(store, everything=everything)


def check_begun(store: Store) -> None:
    """Check that a sweep has begun in a store's folder.

    Raises:
        FolderError: none has.
    """
    if not store.has_begun:
        raise FolderError(
            f"{store.path.parent} holds no sweep: one was refused there before it had begun, or is "
            "just beginning"
        )


@dataclass(frozen=True, slots=True)
class SortedOutcomes:
    """The outcomes of a folder, without arrays, in order of number."""

    trials: Mapping[tuple[str, str], Sequence[Outcome]]
    """By signature and stage: those of trials that have results."""
    failed: Mapping[str, Sequence[Outcome]]
    """By signature: those of replicas that have failed."""


def sort_outcomes(store: Store) -> SortedOutcomes:
    """Read all outcomes.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    trials: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    failed: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in store.outcomes(arrays=False):
        if outcome.failure is not None:
            failed[outcome.point].append(outcome)
        elif is_trial(outcome.stage):
            trials[outcome.point, outcome.stage].append(outcome)
    return SortedOutcomes(trials, failed)


def read_results(
    store: Store, outcomes: SortedOutcomes | None = None, *, everything: bool = False
) -> SweepResult:
    """As `load`, from an open store; `outcomes` are all of its own, if they have been read.

    Raises:
        FolderError: the store holds what no sweep writes.
    """
    with store.understood():
        return _read_results(store, outcomes or sort_outcomes(store), everything=everything)


@dataclass(frozen=True, slots=True)
class _Part:
    """What a folder has of the trials that were asked for together."""

    asked: AskedTrials
    step: Step
    """Where their point's tuning stands."""
    settings: TrialSettings
    trials: Sequence[Outcome]
    """Those that have results, in order of number."""


def _read_results(store: Store, outcomes: SortedOutcomes, *, everything: bool) -> SweepResult:
    steps, trials, failed = store.last_steps(), outcomes.trials, outcomes.failed
    of_program = is_program(store)
    metrics = read_metrics(store.meta.get("metrics", []))
    if of_program:
        metrics += _learned(itertools.chain.from_iterable(trials.values()), metrics)
    asked = asked_trials(store)
    add_spares(store, asked)
    unasked = unasked_trials(store, asked)
    parts = _parts(asked + unasked if everything else asked, steps, trials)
    points = _points(store, parts, metrics)
    notes = [
        *filter(None, [store.meta.get("stopped", "")]),
        *store.notes(),
        *apart_note(store, steps),
        *spare_note([one.asked for one in parts]),
        *chosen_notes([one.asked for one in parts], store.meta.get("compare_by", [])),
        *([] if everything else unasked_notes(unasked, asked)),
        *(unmeasured_notes(points, metrics) + note_of_raised(store) if of_program else []),
        *modes_note(list({one.asked.id: one.settings for one in parts if one.step.found}.values())),
    ]
    return SweepResult(
        points,
        [*_failures(points, parts, failed), *_refused(store, parts)],
        notes,
        n_val=store.meta.get("n_val"),
        paired=bool(store.meta.get("paired", False)),
        metrics=_bounded(metrics, points) if of_program else (*CLASSIC, *metrics),
        compare_by=read_names(store.meta.get("compare_by", [])),
        earlier=len(unasked) if everything else 0,
    )


def _parts(
    asked: Sequence[AskedTrials],
    steps: Mapping[int, Step],
    trials: Mapping[tuple[str, str], Sequence[Outcome]],
) -> list[_Part]:
    untuned = Step("")
    settings = {
        place: TrialSettings.read(steps.get(place, untuned).payload)
        for place in {one.id for one in asked}
    }
    return [
        _Part(
            one,
            steps.get(one.id, untuned),
            settings[one.id],
            [trial for trial in trials.get((one.signature, one.stage), ()) if trial.number in one],
        )
        for one in asked
    ]


# -- points ---------------------------------------------------------------------------------------


def _points(store: Store, parts: Sequence[_Part], metrics: Sequence[Metric]) -> list[PointTrials]:
    of_program, has_test = is_program(store), bool(store.meta.get("n_test"))
    has_asks = bool(store.meta.get("compare_by", []))
    used = read_usage(store) if of_program else {}
    flagged = flags(
        [one.settings for one in parts],
        [[] if of_program else _losses(one) for one in parts],
    )
    found = []
    for part, flag in zip(parts, flagged, strict=True):
        others: dict[str, Any] = {
            "flag": flag,
            "usage": usage_of(part.trials, used.get((part.asked.signature, part.asked.stage), {})),
            "records": StoredTrials(store.path, part.asked.id, part.asked.stage),
        }
        if has_test:
            others["test"] = Tested(*_columns(part.trials, TEST_METRICS))
        if has_asks:
            others["asks"] = _asks(part)
        found.append(_point_trials(part, metrics, of_program=of_program, **others))
    return found


def _point_trials(
    part: _Part, metrics: Sequence[Metric], *, of_program: bool, **others: Any
) -> PointTrials:
    asked, tunings = part.asked, part.settings.tunings
    measured = {metric.name: _values(part.trials, metric.name) for metric in metrics}
    numbers = np.array([trial.number for trial in part.trials], dtype=np.int64)
    point = ProgramPoint(decode(asked.encoded), measured) if of_program else _point_result(part)
    return PointTrials.of(
        point,
        numbers,
        tunings=numbers % max(1, len(tunings)),
        settings=tunings or tuned_settings(point),
        declared=measured,
        budget=asked.budget,
        group=asked.group,
        lineage=asked.lineage,
        parent=asked.parent,
        **others,
    )


def _point_result(part: _Part) -> PointResult:
    found = part.step.found
    return PointResult(
        decode(part.asked.encoded),
        math.nan if found is None else found.lr_min,
        math.nan if found is None else found.lr_max,
        0 if found is None else found.batch_size,
        *_columns(part.trials, METRICS),
    )


def _losses(part: _Part) -> list[float]:
    """The training losses of trials that are not shorter than tuning expects.

    Others say nothing about it.
    """
    budget = part.asked.budget
    if budget is not None and budget < (part.settings.cycles or 1):
        return []
    return [float(trial.metrics["loss_train"]) for trial in part.trials]


def _values(trials: Sequence[Outcome], metric: str) -> FloatArray:
    """The values of a metric over the trials; NaN for those that did not measure it."""
    found = [trial.metrics.get(metric, math.nan) for trial in trials]
    return np.array(found, dtype=np.float64)


def _columns(trials: Sequence[Outcome], metrics: Sequence[str]) -> Iterator[FloatArray]:
    """The values of each of these metrics over the trials."""
    for metric in metrics:
        yield np.array([trial.metrics[metric] for trial in trials], dtype=np.float64)


def _asks(part: _Part) -> IntArray:
    """The ask of each trial."""
    found = part.asked.asks_of(trial.number for trial in part.trials)
    return np.array(found, dtype=np.int64)


# -- failures -------------------------------------------------------------------------------------


def _failures(
    points: Sequence[PointTrials],
    parts: Sequence[_Part],
    failed: Mapping[str, Sequence[Outcome]],
) -> Iterator[FailureReport]:
    """Of each point its tuning, if that failed, and the failed trials among those asked for."""
    seen: set[str] = set()
    for point, part in zip(points, parts, strict=True):
        signature, params = part.asked.signature, point.point.params
        own = failed.get(signature, ())
        if part.step.error is not None and signature not in seen:
            yield _failed_tuning(params, part.asked, part.step, own)
        yield from _failed_trials(params, part.asked, own)
        seen.add(signature)


def _failed_trials(
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


def _refused(store: Store, parts: Sequence[_Part]) -> Iterator[FailureReport]:
    """The points that were asked for, whose parameters do not fit."""
    accepted = {one.asked.encoded for one in parts}
    for params, message in store.refused(store.meta.get("selector", "")):
        if encode(params, as_given=True) not in accepted:
            yield FailureReport(params, REFUSED, None, message, "")


# -- metrics of a program -------------------------------------------------------------------------


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


def _bounded(metrics: Sequence[Metric], points: Sequence[PointTrials]) -> tuple[Metric, ...]:
    samples = [[point.values(metric.name) for point in points] for metric in metrics]
    return tuple(with_bounds(*pair) for pair in zip(metrics, samples, strict=True))
