"""What a sweep comes to: sequence, summary, best, data frame."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from sweeper.errors import UsageError
from sweeper.records import METRICS, Reference
from sweeper.results import FailureReport, PointResult, PointTrials, SweepResult, params_columns
from sweeper.stats.intervals import mean_interval
from sweeper.summary import show_params, show_value

NAN = math.nan


def point(params, perf_val, loss_val=None, perf_train=None, loss_train=None):
    perf_val = np.array(perf_val, dtype=float)

    def other(values):
        return 1 - perf_val if values is None else np.array(values, dtype=float)

    arrays = other(perf_train), other(loss_train), perf_val, other(loss_val)
    return PointResult(params, 0.1, 0.4, 32, *arrays)


def untuned(params):
    empty = np.empty(0)
    return PointResult(params, NAN, NAN, 0, empty, empty, empty, empty)


def result(*points, failures=(), notes=()):
    trials = [PointTrials.of(one, np.arange(len(one.perf_val))) for one in points]
    return SweepResult(trials, failures, notes)


NARROW, WIDE = {"hidden": 8}, {"hidden": 32, "nonlinearity": Reference("torch.nn:Tanh")}


# -- a sequence -----------------------------------------------------------------------------------


def test_results_are_a_sequence_of_named_tuples_in_order():
    first, second = point(NARROW, [0.5, 0.6]), point(WIDE, [0.9])
    results = result(first, second)
    assert len(results) == 2
    assert [one.params for one in results] == [NARROW, WIDE]
    assert results[0] is first
    assert results[-1] is second
    assert results[:1] == (first,)
    assert second in results
    assert PointResult._fields == (
        *("params", "lr_min", "lr_max", "batch_size"),
        *("perf_train", "loss_train", "perf_val", "loss_val"),
    )
    assert [numbers.tolist() for numbers in results.trial_numbers] == [[0, 1], [0]]
    assert repr(results) == "<SweepResult: 2 points, 3 trials, 0 failures>"


def test_no_points_at_all():
    results = result()
    assert len(results) == 0
    assert results.summary().points == ()
    assert str(results.summary()).startswith("params")
    assert len(results.to_dataframe()) == 0
    with pytest.raises(UsageError, match="no point has a finished trial"):
        results.best()


def test_points_without_trials():
    results = result(untuned(NARROW))
    (summary,) = results.summary().points
    assert (summary.n, summary.diverged, summary.failed) == (0, 0, 0)
    assert math.isnan(summary.perf_val.mean)
    assert str(results.summary()).splitlines()[1].split() == ["hidden=8", "0", "0", "0", "-", "-"]
    assert len(results.to_dataframe()) == 0
    with pytest.raises(UsageError, match="no point has a finished trial"):
        results.best()


# -- in numbers -----------------------------------------------------------------------------------


def test_a_summary_counts_and_measures():
    failures = [
        FailureReport(NARROW, "trial", 2, "ValueError: no", "traceback"),
        FailureReport(NARROW, "trial", 3, "killed", ""),
        FailureReport(WIDE, "lr_range.1", None, "no learning rate improves it", ""),
    ]
    narrow = point(NARROW, [0.5, 0.7, 0.0], loss_val=[0.5, 0.3, NAN], loss_train=[0.1, 0.1, NAN])
    results = result(narrow, untuned(WIDE), failures=failures)
    first, second = results.summary().points
    assert (first.params, first.n, first.diverged, first.failed) == (NARROW, 3, 1, 2)
    assert first.perf_val == mean_interval([0.5, 0.7, 0.0], bounds=(0, 1)), (
        "a diverged trial counts with 0"
    )
    assert first.perf_train == mean_interval(narrow.perf_train, bounds=(0, 1))
    assert (second.n, second.diverged, second.failed) == (0, 0, 1)


@pytest.mark.parametrize(
    ("loss_train", "loss_val", "diverged"),
    [([1, NAN], [1, 1], 1), ([1, 1], [NAN, 1], 1), ([NAN, 1], [NAN, 1], 1), ([1, 1], [1, 1], 0)],
)
def test_a_trial_diverged_where_either_loss_is_not_finite(loss_train, loss_val, diverged):
    results = result(point(NARROW, [0.5, 0.5], loss_train=loss_train, loss_val=loss_val))
    assert results.summary().points[0].diverged == diverged


def test_a_summary_is_a_table_with_its_notes():
    results = result(point(NARROW, [0.5, 0.75, 0.7]), point(WIDE, [0.9]), notes=("data: held",))
    lines = str(results.summary()).splitlines()
    assert lines[0].split() == ["params", "n", "diverged", "failed", "perf_val", "std"]
    half_width = mean_interval([0.5, 0.75, 0.7]).half_width
    assert (
        lines[1]
        == f"hidden=8                     3  0         0       0.6500 ± {half_width:.4f}  0.1323"
    )
    assert lines[2].split() == ["hidden=32", "nonlinearity=Tanh", "1", "0", "0", "0.9000", "-"]
    assert lines[3].startswith("1 point with a single trial cannot be compared")
    assert lines[4] == "data: held"
    assert lines[0].index("perf_val") == lines[1].index("0.6500") == lines[2].index("0.9000")


def test_a_failure_says_which_replica_it_was():
    whole = FailureReport(NARROW, "lr_range.1", None, "no learning rate improves it", "")
    assert str(whole) == "{'hidden': 8} lr_range.1: no learning rate improves it"
    assert str(FailureReport((8,), "trial", 3, "killed", "")) == "(8,) trial 3: killed"


# -- the best -------------------------------------------------------------------------------------


def test_the_best_has_the_highest_mean_performance_or_the_lowest_mean_loss():
    steady = point((1,), [0.7, 0.7], loss_val=[0.2, 0.2], perf_train=[0.7, 0.7])
    lucky = point((2,), [0.95, 0.1], loss_val=[0.1, 0.1], perf_train=[0.9, 0.9])
    results = result(untuned((0,)), lucky, steady)
    assert results.best() is steady
    assert results.best("loss_val") is lucky
    assert results.best("perf_train") is lucky
    assert results.best("loss_train") is steady


def test_a_point_that_diverged_comes_after_those_that_did_not():
    diverged = point((1,), [0.9, 0.0], loss_val=[0.01, NAN])
    sound = point((2,), [0.4, 0.4], loss_val=[0.6, 0.6])
    never = point((3,), [0.0], loss_val=[NAN])
    assert result(never, diverged, sound).best("loss_val") is sound
    assert result(never, diverged).best("loss_val") is diverged
    assert result(diverged, sound).best() is diverged, "performance counts it as 0"


def test_of_equals_the_first_asked_for_is_best():
    first, second = point((1,), [0.5]), point((2,), [0.5])
    assert result(first, second).best() is first


def test_the_sequences_of_results_are_the_fields_of_their_points():
    first = PointTrials.of(point(NARROW, [0.5, 0.6]), np.array([0, 3]), budget=2, flag="poor")
    second = PointTrials.of(point(WIDE, [0.9]), np.array([1]), group="final", asks=np.array([4]))
    results = SweepResult(
        [first, second], [FailureReport(WIDE, "trial", 2, "no", "", None, "final")]
    )
    fields = {"budgets": "budget", "groups": "group", "lineages": "lineage", "flags": "flag"}
    for name in ("trial_numbers", "tunings", "settings", "asks", "usage", "parents", *fields):
        held = getattr(results, name)
        own = fields.get(name, name.removesuffix("s") if name == "parents" else name)
        assert all(a is getattr(b, own) for a, b in zip(held, (first, second), strict=True))
        with pytest.raises(AttributeError):
            setattr(results, name, held)
    assert results.test is None
    assert results.records == ()
    (final,) = results.where(group="final").point_trials
    assert final is second
    assert results.where(group="final").failures == results.failures
    assert results.where(budget=2).failures == ()


@pytest.mark.parametrize("metric", ["accuracy", "", "params", "lr_min"])
def test_an_unknown_metric_names_the_choices(metric):
    with pytest.raises(UsageError) as refused:
        result(point(NARROW, [0.5])).best(metric)
    assert f"metric={metric!r}" in str(refused.value)
    assert all(choice in str(refused.value) for choice in METRICS)


# -- a data frame ---------------------------------------------------------------------------------


def test_a_data_frame_has_a_row_a_trial():
    narrow, wide = point(NARROW, [0.5, 0.6]), point(WIDE, [0.9])
    numbers = [np.array([0, 3]), np.array([1])]
    results = SweepResult(list(map(PointTrials.of, [narrow, wide], numbers)))
    frame = results.to_dataframe()
    settings = ["trial", "tuning", "lr_min", "lr_max", "batch_size"]
    assert set(frame.columns) == {"hidden", "nonlinearity", *settings, *METRICS}
    assert frame["trial"].tolist() == [0, 3, 1]
    assert frame["hidden"].tolist() == [8, 8, 32]
    assert frame["perf_val"].tolist() == [0.5, 0.6, 0.9]
    assert frame["nonlinearity"].tolist()[2] == "torch.nn:Tanh"
    assert frame["batch_size"].tolist() == [32, 32, 32]


def test_parameters_by_position_have_numbered_columns():
    frame = result(point((8, "Tanh"), [0.5])).to_dataframe()
    assert frame[["param_0", "param_1"]].to_numpy().tolist() == [[8, "Tanh"]]


def test_parameters_called_like_other_columns_keep_their_values():
    frame = result(point({"trial": 7, "batch_size": 3}, [0.5])).to_dataframe()
    assert frame[["param_trial", "param_batch_size", "batch_size"]].to_numpy().tolist() == [
        [7, 3, 32]
    ]
    assert params_columns({"id": 5}, ["id"]) == [("param_id", 5)]


# -- for people -----------------------------------------------------------------------------------


class Nonlinearity:
    pass


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        (NARROW, "hidden=8"),
        (WIDE, "hidden=32 nonlinearity=Tanh"),
        ((32, "Tanh", 0.5, None), "32 Tanh 0.5 None"),
        ((Nonlinearity,), "Nonlinearity"),
        ({}, "-"),
        ((), "-"),
    ],
)
def test_parameters_are_shown_short(params, shown):
    assert show_params(params) == shown


def test_columns_and_values():
    assert params_columns((1, "a")) == [("param_0", 1), ("param_1", "a")]
    assert params_columns(NARROW) == [("hidden", 8)]
    assert show_value([1, "a"]) == "[1, 'a']"


def test_results_cost_neither_torch_nor_pandas(request):
    code = "import sys, sweeper.results; print({'torch', 'pandas', 'scipy'} & set(sys.modules))"
    root = request.config.rootpath
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
