"""`OptunaSearch`: what Optuna is told, what it may search, and the view of its study."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

import sweeper
from sweeper import (
    Alias,
    Choice,
    Constant,
    Domain,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Normal,
    OptunaSearch,
    Uniform,
)
from sweeper.errors import UsageError
from sweeper.records import TRIAL, Asked
from sweeper.search.optuna.space import read_space
from sweeper.search.optuna.view import STUDY, StudyView
from sweeper.search.selector import TrialResults
from sweeper.testing.loop import memory
from sweeper.testing.selectors import drive, simulate
from sweeper.testing.toy import metrics_of
from tests.blobs import QUICK

SPACE = Domain(width=IntUniform(8, 64), dropout=Uniform(0.0, 0.5))
TWO = {"metric": ("perf_val", "loss_train"), "trials": 2}


def search(points=30, trials=1, *, domain=SPACE, **options):
    return OptunaSearch(domain, points, trials, **options)


def points_of(log):
    return [entry.point.params for entry in log if isinstance(entry, Asked) and entry.point]


def told(selector, params, *, failures=None, **metrics):
    """Tell results: of each metric the numbers of the trials."""
    columns = {name: np.array(values, dtype=float) for name, values in metrics.items()}
    count = len(next(iter(columns.values())))
    selector.on_results(TrialResults(params, np.arange(count), columns, failures or {}))


def last(selector):
    return [trial for trial in selector.study.trials if trial.state.is_finished()][-1]


def in_file(folder):
    """The study as Optuna itself opens it."""
    return optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/optuna.db")


def shown(trials):
    return [(t.number, t.state, t.values, t.params, t.distributions, t.user_attrs) for t in trials]


# -- the same asks, however the sweep went --------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_search_that_was_killed_twice_asks_as_a_quiet_one(sampler, tmp_path):
    quiet = search(trials=2, sampler=sampler)
    expected = simulate(quiet, 2, memory())
    assert len(points_of(expected)) == 30
    store = memory()
    counts = []
    for slots, batches in ((2, 60), (8, 30)):
        killed = search(trials=2, sampler=sampler)
        killed.on_opened(tmp_path)
        counts.append(len(points_of(simulate(killed, slots, store, batches=batches))))
    assert 8 < counts[0] < counts[1] < 30
    final = search(trials=2, sampler=sampler)
    final.on_opened(tmp_path)
    assert simulate(final, 1, store) == expected
    assert shown(in_file(tmp_path).trials) == shown(quiet.study.trials)


def test_the_same_points_in_every_process():
    code = (
        "from sweeper import *\n"
        "from sweeper.testing.selectors import drive\n"
        "space = {'act': ['x', 'y'], 'width': IntUniform(8, 64), 'rate': LogUniform(1e-4, 1.0)}\n"
        "for sampler in ('tpe', 'cmaes', 'nsga2'):\n"
        "    print(drive(OptunaSearch(space, 12, sampler=sampler)))\n"
    )
    root = str(Path(sweeper.__file__).parents[1])
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": root, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(printed) == 1
    assert next(iter(printed)).count("width") == 36


def test_more_points_are_further_ones():
    few, many = (drive(search(points, sampler="tpe")) for points in (15, 25))
    assert many[:15] == few


def test_another_seed_gives_other_points():
    assert drive(search(3, seed=1)) != drive(search(3, seed=2))


def test_it_learns():
    # The measure of `drive` is large where the width is 6 modulo 7.
    asked = drive(search(60, domain={"width": range(8, 36)}))
    late = [ask.params["width"] % 7 for ask in asked[30:]]
    assert np.mean(late) > 4 > np.mean([ask.params["width"] % 7 for ask in asked[:10]])


def test_so_many_are_in_training_at_once():
    selector = search(9, look_ahead=3)
    assert (selector.adaptive, selector.look_ahead, search().look_ahead) == (True, 3, 8)


# -- samplers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_sampler", "made"),
    [
        (None, TPESampler),
        ("cmaes", CmaEsSampler),
        (RandomSampler, RandomSampler),
        (lambda seed: TPESampler(seed=seed, n_startup_trials=2), TPESampler),
    ],
)
def test_a_sampler_is_named_or_made_of_the_seed(given_sampler, made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selector = search(12, sampler=given_sampler, seed=3)
    assert type(selector.study.sampler) is made
    assert drive(selector) == drive(search(12, sampler=given_sampler, seed=3))


@pytest.mark.parametrize("name", ["gp", "qmc", "nsga2", "random"])
def test_every_name_makes_a_sampler_without_a_warning(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(drive(search(3, sampler=name))) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": TPESampler(seed=1)}, r"sampler=<.*> ?: nothing shows whether a sampler that"),
        (
            {"sampler": "tea"},
            r"sampler='tea': choose one of tpe, cmaes, gp, nsga2, qmc, random, or",
        ),
        ({"sampler": 3}, r"sampler=3: choose one of tpe"),
        ({"sampler": lambda seed: seed}, r"it made 0, which is no sampler"),
        ({"sampler": "cmaes", "metric": ("perf_val", "loss_val")}, "CMA-ES optimises one metric"),
        ({"seed": 2**32}, r"seed=4294967296: it must be at most 4,294,967,295"),
        ({"trials": 0}, "trials=0: it must be 1 or more"),
        ({"look_ahead": 0}, "look_ahead=0: it must be 1 or more"),
        ({"points": -1}, "points=-1: it must be a whole number, 0 or more"),
        ({"metric": "f1"}, r"metric='f1': .*Give direction='maximize'"),
        ({"metric": ("perf_val", "perf_val")}, r"or several, each once"),
        ({"metric": 3}, r"metric=3: give the name of a metric"),
        ({"metric": ()}, r"metric=\(\): give the name of a metric"),
        ({"metric": ("f1", "g1"), "direction": "maximize"}, r"give one for each metric, .* are 2"),
        ({"metric": ("f1", "g1"), "direction": ["maximize"]}, r"give one for each metric"),
        ({"metric": "loss_val", "direction": "maximize"}, "the direction of loss_val is minimize"),
        ({"domain": 7}, r"domain=7 is a int: give a Domain, a mapping .* or a function"),
    ],
)
def test_bad_arguments_are_named(options, said):
    with pytest.raises(UsageError, match=said):
        search(**options)


# -- what Optuna is told --------------------------------------------------------------------------


def test_repeats_are_told_as_their_mean_and_failed_ones_left_out():
    selector = search(trials=3)
    params, trials = selector.get_next_trials()
    assert trials == 3
    told(selector, params, perf_val=[0.5, 0.75], loss_val=[1.0, 2.0], failures={2: "boom"})
    assert last(selector).values == [0.625]
    assert last(selector).user_attrs["loss_val"] == 1.5
    assert last(selector).user_attrs["point"] == sweeper.summary.show_params(params)


def test_a_point_that_failed_is_told_as_failed():
    selector = search()
    params, _ = selector.get_next_trials()
    told(selector, params, perf_val=[], failures={0: "boom"})
    selector.on_failed(params, TRIAL, "boom")
    assert (last(selector).state, last(selector).user_attrs["failed"]) == (TrialState.FAIL, "boom")
    params, _ = selector.get_next_trials()
    selector.on_failed(params, "ladder", "no rate improves it")
    assert last(selector).user_attrs["failed"] == "ladder: no rate improves it"
    assert [trial.state for trial in selector.study.trials] == [TrialState.FAIL] * 2


def test_tuning_that_failed_is_told_for_all_that_was_asked_of_the_point():
    selector = search(4, domain={"width": [1]})
    asks = [selector.get_next_trials() for _ in range(3)]
    told(selector, asks[0][0], perf_val=[0.5])
    selector.on_failed({"width": 1}, "ladder", "why")
    states = [trial.state for trial in selector.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]
    selector.on_failed({"width": 1}, "ladder", "why")  # told again, after a further ask
    told(selector, {"width": 1}, perf_val=[0.5])
    assert [trial.state for trial in selector.study.trials] == states


def test_a_trial_that_failed_does_not_end_other_asks_of_its_point():
    selector = search(4, domain={"width": [1]})
    asks = [selector.get_next_trials() for _ in range(2)]
    told(selector, asks[0][0], perf_val=[], failures={0: "boom"})
    selector.on_failed({"width": 1}, TRIAL, "boom")
    states = [trial.state for trial in selector.study.trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING]


@pytest.mark.parametrize(
    ("metric", "values"),
    [("loss_val", [[3.0, 1.0], [math.nan, 2.0], [math.inf, 5.0]]), ("perf_val", [[1], [2], [3]])],
)
def test_a_value_that_is_not_finite_counts_as_the_worst_seen(metric, values):
    selector = search(metric=metric)
    found = []
    for each in values:
        params, _ = selector.get_next_trials()
        told(selector, params, **{metric: each})
        found.append(last(selector).value)
    assert found == ([2.0, 2.5, 5.0] if metric == "loss_val" else [1, 2, 3])


def test_without_any_finite_value_there_is_nothing_to_tell():
    selector = search(metric="loss_val")
    params, _ = selector.get_next_trials()
    told(selector, params, loss_val=[math.nan])
    assert last(selector).state == TrialState.FAIL
    assert "no value is finite" in last(selector).user_attrs["failed"]
    assert "loss_val" not in last(selector).user_attrs


def test_several_metrics_have_their_own_directions():
    selector = search(20, **TWO)
    drive(selector)
    names = [direction.name for direction in selector.study.directions]
    assert names == ["MAXIMIZE", "MINIMIZE"]
    assert selector.study.metric_names == ["perf_val", "loss_train"]
    best = max(trial.values[0] for trial in selector.study.trials)
    assert best in {trial.values[0] for trial in selector.study.best_trials}


def test_declared_metrics_take_the_direction_that_is_given():
    selector = search(metric=("f1", "perf_val"), direction=("minimize", "maximize"))
    params, _ = selector.get_next_trials()
    told(selector, params, perf_val=[0.5], f1_val=[3.0])
    assert (last(selector).values, selector.study.directions[0].name) == ([3.0, 0.5], "MINIMIZE")
    with pytest.raises(UsageError, match="metric='f1': choose one of perf_val"):
        told(selector, selector.get_next_trials()[0], perf_val=[0.5])


def test_a_point_that_is_suggested_again_is_told_apart():
    selector = search(6, 2, domain={"width": [1, 2]}, sampler="random")
    drive(selector)
    assert [trial.number for trial in selector.study.trials] == list(range(6))
    by_width = {}
    for trial in selector.study.trials:
        by_width.setdefault(trial.params["width"], []).append(trial.value)
    assert all(len(set(values)) == len(values) for values in by_width.values())


# -- domains --------------------------------------------------------------------------------------

DOMAINS = {
    "floats": Domain(a=Uniform(-1, 2), b=LogUniform(1e-3, 10.0)),
    "whole": Domain(a=IntUniform(-3, 9), b=LogIntUniform(2, 200)),
    "listed": Domain(a=[16, 64], b=["Tanh", None, 0.5], c=Choice([1, 2]), d=Constant(7)),
    "alike": Domain(a=[1, 1.0, True], b=[(1, 2), [1, 2], {"x": 1}]),
    "shown alike": Domain(a=["1", 1, (1,)]),
    "functions": Domain(a=[np.tanh, np.cos]),
    "aliases": Domain(a=[Alias((1, 2), "short"), Alias((3, 4), "long")]),
    "condition": Domain(opt=["sgd", "adam"]).when(opt="sgd", momentum=Uniform(0, 0.99)),
    "constraint": Domain(w=IntUniform(1, 9), d=IntUniform(1, 9)).where(
        lambda point: point["w"] * point["d"] < 20
    ),
    "pairs": Domain(a=[1, 2, 3]) @ Domain(b=["x", "y", "z"], c=[5]),
    "sum": Domain(a=[1, 2]) + Domain(a=[2, 3], b=[4]),
    "nested": (Domain(a=[1, 2]) @ Domain(b=[3, 4])).when(a=2, c=Uniform(0, 1)) * Domain(d=[5, 6]),
    "one point": Domain(),
}


@pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS.keys())
def test_what_is_suggested_lies_in_the_domain(domain):
    asked = [ask.params for ask in drive(search(60, domain=domain, sampler="random"))]
    assert all(point in domain for point in asked)
    if domain.is_finite:
        keys = {sweeper.signature.params_key(point) for point in asked}
        assert keys == {sweeper.signature.params_key(point) for point in domain}


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(-99, 99), st.integers(1, 99))
@settings(max_examples=30, deadline=None)
def test_any_range_is_searched_within_its_ends(low, width, start, count):
    domain = Domain(
        a=Uniform(low, low + width),
        b=LogUniform(width, 2 * width),
        c=IntUniform(start, start + count),
        d=LogIntUniform(count, 2 * count),
    )
    assert all(ask.params in domain for ask in drive(search(3, domain=domain, sampler="random")))


def test_a_mapping_is_a_domain_or_has_distributions_of_optuna():
    mapping = {"width": [8, 16], "rate": Uniform(0, 1)}
    assert drive(search(8, domain=mapping)) == drive(search(8, domain=Domain(mapping)))
    theirs = {
        "rate": FloatDistribution(0, 1, step=0.25),
        "width": IntDistribution(8, 64, log=True),
        "act": CategoricalDistribution(["Tanh", "ReLU"]),
    }
    selector = search(8, domain=theirs)
    for ask in drive(selector):
        assert list(ask.params) == list(theirs)
        assert ask.params["rate"] in (0, 0.25, 0.5, 0.75, 1)
    assert selector.study.trials[0].distributions == theirs


def by_run(trial):
    width = trial.suggest_int("width", 8, 64)
    if width > 32:
        return {"width": width, "dropout": trial.suggest_float("dropout", 0, 0.5)}
    return {"width": width}


def test_a_function_of_an_optuna_trial_is_a_domain():
    asked = [ask.params for ask in drive(search(20, domain=by_run))]
    assert all(("dropout" in point) == (point["width"] > 32) for point in asked)
    by_position = search(2, domain=lambda trial: (trial.suggest_int("width", 8, 64), "Tanh"))
    assert drive(by_position)[0].params[1] == "Tanh"


def test_a_refused_suggestion_is_none_of_the_points():
    def even(trial):
        width = trial.suggest_int("width", 1, 9)
        if width % 2:
            raise optuna.TrialPruned
        return {"width": width}

    selector = search(10, domain=even)
    assert all(ask.params["width"] % 2 == 0 for ask in drive(selector))
    states = [trial.state for trial in selector.study.trials]
    assert states.count(TrialState.COMPLETE) == 10
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}


def test_constraints_that_refuse_everything_are_said():
    selector = search(domain=Domain(w=IntUniform(1, 9)).where(lambda _point: False), sampler="qmc")
    with pytest.raises(UsageError, match=r"1,000 suggestions in a row .*w=\d: its constraints"):
        selector.get_next_trials()


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (Domain(a=Normal(0, 1)), r"a=Normal\(0, 1\): an Optuna sampler draws from lists of values"),
        (Domain(a=Choice([1, 2], [1, 3])), r"a=Choice\(\[1, 2\], weights.*Choice without weights"),
        (0.3 * Domain(a=[1]) + 0.7 * Domain(a=[2]), r"0.3 \* .*decides itself how often"),
        (Domain(a=[1]) + Domain(a=Uniform(0, 1)), r"Domain\(a=\[1\]\) \+ .*trial.suggest_categ"),
        ({"a": FloatDistribution(0, 1), "b": [1, 2]}, r"b=\[1, 2\]: beside Optuna's distributions"),
        ({"a": "Tanh"}, "a='Tanh' is not a list of values"),
    ],
)
def test_what_optuna_cannot_search_is_refused_at_once(domain, said):
    with pytest.raises(UsageError, match=said):
        read_space(domain)


def test_a_function_that_returns_no_point_is_named():
    selector = search(domain=lambda trial: trial.suggest_int("width", 8, 64), sampler="random")
    with pytest.raises(UsageError, match=r"<lambda>\(trial\)=\d+ is a int: the parameters"):
        selector.get_next_trials()


# -- the view -------------------------------------------------------------------------------------


def searched(folder, points=6, **options):
    """A search that is driven to its end in a folder."""
    selector = search(points, sampler="random", **options)
    selector.on_opened(folder)
    drive(selector)
    return selector


def test_the_study_opens_in_optuna(tmp_path):
    selector = searched(tmp_path, **TWO)
    study = in_file(tmp_path)
    assert shown(study.trials) == shown(selector.study.trials)
    assert (study.study_name, study.directions) == (STUDY, selector.study.directions)
    assert study.metric_names == ["perf_val", "loss_train"]


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "a b%20#?{x}é"
    folder.mkdir()
    searched(folder, 2)
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def lost(path):
    path.unlink()


def damaged(path):
    path.write_bytes(b"no database" * 1000)


def emptied(path):
    path.write_bytes(b"")


def of_another_search(path):
    path.unlink()
    searched(path.parent, seed=5)


def of_other_metrics(path):
    path.unlink()
    searched(path.parent, **TWO)


def of_the_other_direction(path):
    path.unlink()
    optuna.create_study(study_name=STUDY, storage=f"sqlite:///{path}", direction="minimize")


def edited(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trial_values SET value = 100 WHERE trial_id = 3")
    connection.close()


def kept(path):
    """Nothing happens to it."""


@pytest.mark.parametrize(
    "harm",
    [
        *(lost, damaged, emptied, edited, kept),
        *(of_another_search, of_other_metrics, of_the_other_direction),
    ],
)
def test_a_view_that_is_missing_or_differs_is_made_anew(harm, tmp_path):
    asked = drive(search(8, sampler="random"))
    searched(tmp_path)
    times = [trial.datetime_start for trial in in_file(tmp_path).trials]
    harm(tmp_path / "optuna.db")
    again = search(8, sampler="random")
    again.on_opened(tmp_path)
    assert drive(again) == asked  # nothing is read from it
    assert in_file(tmp_path).directions == again.study.directions
    assert shown(in_file(tmp_path).trials) == shown(again.study.trials)
    now = [trial.datetime_start for trial in in_file(tmp_path).trials][:6]
    assert (now == times) is (harm is kept)


def test_a_view_that_is_removed_meanwhile_is_made_anew(tmp_path):
    selector = search(3)
    selector.on_opened(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            (tmp_path / "optuna.db").unlink(missing_ok=True)
            told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    assert len(in_file(tmp_path).trials) == 3


def test_a_view_that_is_damaged_meanwhile_is_said_and_made_anew(tmp_path):
    selector = search(3)
    selector.on_opened(tmp_path)
    told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    damaged(tmp_path / "optuna.db")
    with pytest.warns(RuntimeWarning, match="optuna.db could not be written"):
        told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    assert len(in_file(tmp_path).trials) == 3


def test_trials_are_written_in_their_order_once_they_have_finished(tmp_path):
    study = search().study
    view = StudyView(tmp_path / "optuna.db", study)
    trials = [study.ask() for _ in range(3)]
    study.tell(trials[1], 1.0)
    view.update()
    assert in_file(tmp_path).trials == []
    study.tell(trials[0], 2.0)
    view.update()
    assert [trial.value for trial in in_file(tmp_path).trials] == [2.0, 1.0]


def test_a_view_that_cannot_be_written_is_said_once_and_written_later(tmp_path):
    folder = tmp_path / "folder"
    selector = search(6)
    selector.on_opened(folder)
    with pytest.warns(RuntimeWarning, match=r"optuna.db could not be written.* goes on"):
        told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    folder.mkdir()
    told(selector, selector.get_next_trials()[0], perf_val=[0.5])
    assert len(in_file(folder).trials) == 4


def test_a_view_that_is_locked_is_left_as_it_is(tmp_path):
    selector = searched(tmp_path, 2)
    connection = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    view = StudyView(tmp_path / "optuna.db", selector.study)
    with pytest.warns(RuntimeWarning, match="locked"):
        view.update()
    connection.execute("ROLLBACK")
    connection.close()
    assert len(in_file(tmp_path).trials) == 2


def test_nothing_is_written_through_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "optuna.db").symlink_to(elsewhere)
    with pytest.warns(RuntimeWarning, match="symbolic link"):
        searched(tmp_path)
    assert not elsewhere.exists()


def test_a_sampler_keeps_its_state_to_itself(tmp_path):
    selector = search(8, sampler="cmaes", look_ahead=2)
    selector.on_opened(tmp_path)
    drive(selector)
    assert any(trial.system_attrs for trial in selector.study.trials)
    assert not any(trial.system_attrs for trial in in_file(tmp_path).trials)


# -- in sweeps ------------------------------------------------------------------------------------


def test_a_sweep_keeps_the_view_in_its_folder(tmp_path):
    def sweep(points):
        selector = search(points, 2, domain={"hidden": IntUniform(2, 4)}, look_ahead=2)
        options = {"cores": 1, "hparams": QUICK, "backend": "inline", "progress": False}
        results = sweeper.sweep("blobs", selector, folder=tmp_path, **options)
        return results, selector

    sweep(2)
    results, selector = sweep(3)
    assert shown(in_file(tmp_path).trials) == shown(selector.study.trials)
    means = {(point.params["hidden"], round(point.perf_val.mean(), 9)) for point in results}
    trials = in_file(tmp_path).trials
    if len(results) == 3:  # no point was suggested twice
        assert {(t.params["hidden"], round(t.value, 9)) for t in trials} == means
    assert sum(len(point.perf_val) for point in results) == 6


def test_what_a_domain_function_raises_stops_the_sweep_with_its_words():
    def fails(trial):
        raise RuntimeError("no such thing")

    with pytest.raises(AssertionError, match=r"OptunaSearch raised in get_next_trials.*no such"):
        simulate(search(domain=fails), 1, memory())


def test_optuna_is_imported_only_when_a_search_is_made():
    code = (
        "import sys, sweeper; sweeper.OptunaSearch; assert 'optuna' not in sys.modules\n"
        "sweeper.OptunaSearch({'a': [1]}, 1); assert 'torch' not in sys.modules\n"
        "assert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError, match=r"pip install 'sweeper\[optuna\]'"):
        search()


def test_in_simulation_it_is_told_what_the_trials_came_to():
    selector = search(5, 2, sampler="random")
    asked = points_of(simulate(selector, 2, memory()))
    for params, trial in zip(asked, selector.study.trials, strict=True):
        values = [metrics_of(params, number)["perf_val"] for number in range(2)]
        assert trial.value == pytest.approx(np.mean(values))
