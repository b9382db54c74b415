"""Writes the views under `points/` from the database: they may be deleted and rebuilt."""

from __future__ import annotations

import csv
import io
import itertools
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.disk.files import Write, json_text, write_swapped, writing_many
from sweeper.records import METRICS, Alias, Outcome, Params, Reference, Step, TunedSettings
from sweeper.results import TEST_METRICS, SweepResult, params_columns
from sweeper.results.selection import judged
from sweeper.settings import OPTIONS
from sweeper.signature import decode
from sweeper.store.database.rows import is_apart
from sweeper.store.database.store import Store
from sweeper.store.paths import CURVE_FILES, Paths
from sweeper.store.results.details import history_of
from sweeper.store.results.load import (
    SortedOutcomes,
    is_program,
    read_results,
    sort_outcomes,
)
from sweeper.store.results.profiles import write_profile
from sweeper.store.results.tuned import TrialSettings

FIRST_POINTS = 2_000
"""The first so many points have views of their own by default."""


def collate(store: Store, paths: Paths, *, every_point: bool = False) -> SweepResult:
    """Write the views; returns the results that they were written from.

    The summaries hold all points.  A point gets views of its own if it is among the first, if it
    already has some, which would become outdated, or with `every_point`.

    Raises:
        FolderError: the database holds what no sweep writes, or a link would lead elsewhere.
        DiskError: a file cannot be written; the old file is unchanged.
    """
    # Resolved, so that every link on a path lies inside the folder.
    paths = Paths(paths.folder.resolve())
    with store.snapshot(), store.understood():
        outcomes = sort_outcomes(store)
        names = store.signatures()
        params = {
            point_id: decode(encoded)
            for point_id, encoded in store.encoded_params()
            if not is_apart(names[point_id])
        }
        with writing_many() as write:
            _write_points(store, paths, params, outcomes, write, every_point=every_point)
            results = read_results(store, outcomes)  # while the files are being written
        _write_lookup(paths, params)
        _write_params_csv(paths, params)
        # Protocol 4 is read by every Python 3.
        # Readers of this file know no budgets or groups, and make models of the parameters.
        if not results.of_program:
            places = sorted(itertools.chain(*judged(results)))
            points = [(_plain(results[place].params), *results[place][1:]) for place in places]
            write_swapped(paths.funcres, pickle.dumps(points, protocol=4))
    if store.meta.get("profile"):
        write_profile(paths)
    return results


def _write_points(
    store: Store,
    paths: Paths,
    point_ids: Iterable[int],
    outcomes: SortedOutcomes,
    write: Write,
    *,
    every_point: bool,
) -> None:
    """Write the views of each point that is to have them."""
    of_program, names = is_program(store), store.signatures()
    write_trials = _write_measured if of_program else _write_trials
    query = f"SELECT DISTINCT point, stage FROM outcomes WHERE {_WITH_ARRAYS}"  # noqa: S608
    detailed = set(store.connection.execute(query).fetchall())
    by_point: dict[str, list[tuple[str, Sequence[Outcome]]]] = defaultdict(list)
    for (signature, stage), trials in outcomes.trials.items():
        if trials:
            by_point[signature].append((stage, trials))
    for point_id in point_ids:
        if every_point or point_id < FIRST_POINTS or _has_views(paths, point_id):
            if not of_program:
                _write_hparams(store, paths, point_id, write)
            for stage, trials in by_point[names[point_id]]:
                arrays = _arrays(store, point_id, stage) if (point_id, stage) in detailed else {}
                write_trials(paths, point_id, stage, trials, arrays, write)


def _has_views(paths: Paths, point_id: int) -> bool:
    return paths.hparams(point_id).exists() or paths.results(point_id).exists()


# -- all points -----------------------------------------------------------------------------------


def _write_lookup(paths: Paths, params: Mapping[int, Params]) -> None:
    by_params = {_hashable(value): point_id for point_id, value in params.items()}
    by_id = {point_id: _plain(value) for point_id, value in params.items()}
    write_swapped(paths.params_lookup, pickle.dumps((by_params, by_id), protocol=4))


def _plain(value: Any) -> Any:
    """`value` as built-in types, so that unpickling it does not need sweeper."""
    if isinstance(value, Alias):
        return _plain(value.value)
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_plain(item) for item in value)
    return value


def _hashable(value: Any) -> Any:
    """`value` as a dict key: a mapping becomes a tuple of pairs, a list a tuple."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return tuple((_hashable(key), _hashable(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return tuple(_hashable(item) for item in value)
    return value


def _write_params_csv(paths: Paths, params: Mapping[int, Params]) -> None:
    rows = [
        {"id": point_id, **dict(params_columns(value, ["id"]))}
        for point_id, value in params.items()
    ]
    # A name that cannot be encoded must not prevent the file.
    write_swapped(paths.params_csv, csv_text(rows).encode(errors="backslashreplace"))


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, with every column that occurs; text that a spreadsheet would run is quoted."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writerow({name: _harmless(name) for name in columns})
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r", "\\r")  # unquoted, it would begin a row (Python < 3.13)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")):
        return f"'{value}"
    return value


# -- one point ------------------------------------------------------------------------------------


def _write_hparams(store: Store, paths: Paths, point_id: int, write: Write) -> None:
    folder = paths.hparams(point_id)
    choices = []
    step = Step("")
    for after, step, choice, arrays in store.decisions(point_id):
        choices.append({"after": after, "choice": choice, "then": asdict(step)})
        base, _, attempt = after.partition(".")
        file = CURVE_FILES.get(base)
        if base == "ladder" and attempt:  # each round has other candidates
            file = f"ladder.{attempt}.npz"
        if file is not None and unpack_arrays(arrays):
            write(folder / file, arrays)
    if step.found is not None:
        told = TrialSettings.read(step.payload)
        final: dict[str, Any] = {
            **_written(step.found),
            "cycle_size_epochs": told.cycle_epochs,
            "epochs": told.epochs,
        }
        if told.mode is not None:
            final |= {"way": told.mode, "way_because": told.because}
        if told.tunings:
            final["tunings"] = [_written(one) for one in told.tunings]
        write(folder / "final.json", json_text(final))
    if choices:
        write(folder / "misc.json", json_text({"error": step.error, "steps": choices}))


def _written(found: TunedSettings) -> dict[str, Any]:
    """What a tuning found, by the names in `final.json`; an option that was not tuned has none."""
    rates = {"lr_start": found.lr_min, "lr_end": found.lr_max, "batch_size": found.batch_size}
    options = {name: getattr(found, name) for name in OPTIONS}
    return rates | {name: value for name, value in options.items() if value is not None}


_WITH_ARRAYS = "failure IS NULL AND length(arrays) > 0"


def _arrays(store: Store, point_id: int, stage: str) -> dict[int, Outcome]:
    """By number: the trials that have arrays."""
    where = f"point = ? AND stage = ? AND {_WITH_ARRAYS}"
    return {one.number: one for one in store.outcomes(where, (point_id, stage))}


def _write_trials(
    paths: Paths,
    point_id: int,
    stage: str,
    trials: Sequence[Outcome],
    arrays: Mapping[int, Outcome],
    write: Write,
) -> None:
    numbers = np.array([trial.number for trial in trials], dtype=np.int64)
    # In the documented order of names.
    names = ("loss_train", "perf_train", "loss_val", "perf_val")
    final = {f"final_{name}": np.array([trial.metrics[name] for trial in trials]) for name in names}
    results = {"trial_numbers": numbers, **final}
    declared = [name for name in trials[0].metrics if name not in (*METRICS, *TEST_METRICS)]
    for metric in (*declared, *reversed(TEST_METRICS)):
        if all(metric in trial.metrics for trial in trials):
            results[f"final_{metric}"] = np.array([trial.metrics[metric] for trial in trials])
    write(paths.results(point_id, stage), pack_arrays(results))
    curves = [unpack_arrays(one.arrays) for one in arrays.values()]
    if len(curves) == len(trials) and all("step" in curve for curve in curves):
        steps = [curve["step"] for curve in curves]
        length = max(map(len, steps))
        are_same = all(np.array_equal(one, steps[0]) for one in steps)
        step = steps[0] if are_same else _padded(steps, length)
        stacked = {
            name: _padded([curve[name] for curve in curves], length)
            for name in curves[0]
            if name in METRICS
        }
        stacked = {"trial_numbers": numbers, "step": step, **stacked}
        write(paths.curves(point_id, stage), pack_arrays(stacked))


def _padded(rows: Sequence[Sequence[float] | NDArray[Any]], length: int) -> NDArray[Any]:
    """The rows as an array of this length, shorter ones padded with NaN."""
    found = np.full((len(rows), length), np.nan)
    for whole, row in zip(found, rows, strict=True):
        whole[: len(row)] = row
    return found


def _write_measured(
    paths: Paths,
    point_id: int,
    stage: str,
    trials: Sequence[Outcome],
    arrays: Mapping[int, Outcome],
    write: Write,
) -> None:
    """The metrics of a program's trials, and their histories, shorter ones padded with NaN."""
    numbers = np.array([trial.number for trial in trials], dtype=np.int64)
    names = dict.fromkeys(name for trial in trials for name in trial.metrics)
    final = {
        f"final_{name}": np.array([trial.metrics.get(name, np.nan) for trial in trials])
        for name in names
    }
    write(paths.results(point_id, stage), pack_arrays({"trial_numbers": numbers, **final}))
    if not arrays:
        return
    histories = [history_of(arrays.get(trial.number, trial)) for trial in trials]
    lengths = [max(map(len, history.values()), default=0) for history in histories]
    if not any(lengths):
        return
    curves = {"trial_numbers": numbers, "iterations": np.array(lengths, dtype=np.int64)}
    for name in dict.fromkeys(name for history in histories for name in history):
        rows = [history.get(name, ()) for history in histories]
        curves[name] = _padded(rows, max(lengths))
    write(paths.curves(point_id, stage), pack_arrays(curves))
