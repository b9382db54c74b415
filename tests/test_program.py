"""Programs: the user's own functions and generators as workloads."""

import json
import math
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
import torch

import programs
import programs_torch
import sweeper
from sweeper.errors import (
    ChangedCodeError,
    FolderError,
    ParamError,
    SelectorError,
    SettingsError,
    StoppedError,
    UsageError,
)
from sweeper.program.inline import own_generators
from sweeper.program.metrics import as_number, read_metrics, read_values
from sweeper.records import Metric
from sweeper.store.paths import Paths
from sweeping import check_nothing_was_repeated, outcomes, python

XS = [{"x": 1}, {"x": 2}, {"x": 3}]
ACC = {"acc": "maximize"}


def run(objective, folder, points=XS, trials=2, **options):
    """A silent sweep in this process, unless another backend is named."""
    options = {"backend": "inline", **options}
    if isinstance(points, list):
        options["trials"] = trials
    return sweeper.sweep(objective, points, folder=folder, progress=False, **options)


# -- from one call to the table --------------------------------------------------------------------


def test_a_function_that_returns_a_number_is_swept(tmp_path):
    results = run(programs.number, tmp_path)
    assert [point.params for point in results] == XS
    assert [point.metrics["value"].tolist() for point in results] == [[1, 1], [4, 4], [9, 9]]
    assert [metric.name for metric in results.metrics] == ["value"]
    assert results.of_program
    assert not results.failures
    assert results.notes == ("each trial is one call of the function programs.number",)


def test_it_may_be_given_by_name_or_by_file(tmp_path):
    direct = run(programs.named, tmp_path / "a")
    named = run("programs:named", tmp_path / "b")
    file = run(f"{programs.__file__}:named", tmp_path / "c")
    assert outcomes(tmp_path / "a") == outcomes(tmp_path / "b") == outcomes(tmp_path / "c")
    assert repr(direct) == repr(named) == repr(file)


def test_the_default_folder_has_the_name_of_module_and_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(programs.number, None)
    assert (tmp_path / "out" / "programs.number" / "sweep.db").is_file()


def test_points_by_position_by_name_and_with_defaults(tmp_path):
    results = run(programs.named, tmp_path, [(0.5,), (0.5, 1.0), {"x": 0.5, "shift": 2.0}], 1)
    assert [point.metrics["acc"].tolist() for point in results] == [[0.5], [1.5], [2.5]]


def test_a_parameter_named_seed_is_like_any_other(tmp_path):
    results = run(programs.keyed, tmp_path, [{"x": 1, "seed": 10, "more": 5}], 1)
    assert results[0].metrics["value"].tolist() == [16]


def test_a_class_of_the_module_may_be_a_parameter(tmp_path):
    results = run(f"{programs.__file__}:by_class", tmp_path, [{"kind": programs.Kind}], 1)
    assert results[0].metrics["is"].tolist() == [1.0]


def test_trial_is_no_parameter_of_an_objective_that_takes_any(tmp_path):
    with pytest.raises(ParamError, match=r"'trial' is the name by which .*: rename the parameter"):
        run(programs.keyed, tmp_path, [{"x": 1, "trial": 1}])


def test_a_seed_that_no_point_gives_is_answered_with_that_of_the_trial(tmp_path):
    class Branches:
        def setup(self, seed):
            pass

        def run(self, x):
            pass

    said = r"seed is missing; .*; the seed of each trial is trial\.seed: give the objective a para"
    with pytest.raises(ParamError, match=said):
        run(lambda x, seed: x + seed, tmp_path, [{"x": 1}])
    with pytest.raises(ParamError, match=r"takes seed, x$"):  # a root is of no trial
        run(Branches, tmp_path, [{"x": 1}])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"y": 1}, "no parameter 'y'; the objective takes x, shift"),
        ({"shift": 1}, "x is missing"),
        ({"x": 1, "trial": 1}, "'trial' is the name by which an objective takes its Trial"),
        ((1, 2, 3), "these are 3 values"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, params, said):
    with pytest.raises(ParamError, match=said):
        run(programs.named, tmp_path, [params])


def test_a_refused_sweep_leaves_nothing_behind_and_takes_nothing_away(tmp_path):
    def files():
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    with pytest.raises(ParamError):
        run(programs.named, tmp_path / "out" / "deep", [{"y": 1}])
    with pytest.raises(UsageError, match="has no missing"):
        run("programs:missing", tmp_path / "out")
    assert files() == []
    (tmp_path / "mine.txt").touch()
    (tmp_path / "lock").touch()
    with pytest.raises(ParamError):
        run(programs.named, tmp_path, [{"y": 1}])
    assert files() == ["lock", "mine.txt"]
    run(programs.named, tmp_path, [{"x": 1}])
    before = files()
    with pytest.raises(ParamError):
        run(programs.named, tmp_path, [{"y": 1}])
    assert files() == before


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (programs.Kind, "is a class"),
        (programs.Kind.__call__, "cannot be given by name"),
        ("programs:missing", "has no missing"),
        ("programs:nam", "did you mean named"),
        ("programs:Kind", "give a function"),
        ("programs:XS", "has no XS"),
        ("nowhere:named", "cannot be found"),
        ("nowhere.py:named", "there is no such file"),
        (programs.positional, "cannot be given by name"),
    ],
)
def test_what_is_no_objective_is_refused_in_words(tmp_path, objective, said):
    with pytest.raises(UsageError, match=said):
        run(objective, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cores", 2),
        ("hparams", "slow"),
        ("hparams", "fast"),  # the default, but given
        ("tuning_inits", 3),
        ("save_models", "none"),
        ("checkpoint_every", 1.0),
        ("curve_samples", 0),
        ("pack", "off"),
    ],
)
def test_arguments_that_mean_nothing_for_a_program_are_refused(tmp_path, name, value):
    with pytest.raises(SettingsError, match=f"{name}={value!r}: it means nothing for a program"):
        run(programs.number, tmp_path, **{name: value})
    assert not any(tmp_path.iterdir())


def test_metrics_are_for_programs(tmp_path):
    with pytest.raises(SettingsError, match="metrics= goes with a program"):
        run("blobs", tmp_path, [{"hidden": 2}], metrics=ACC)


# -- the same results, however it is run -----------------------------------------------------------


@pytest.mark.parametrize("objective", [programs.drawn, programs_torch.tensors])
def test_one_core_two_cores_and_this_process_give_the_same_bits(tmp_path, objective):
    run(objective, tmp_path / "here", trials=4)
    run(objective, tmp_path / "one", trials=4, backend="local", total_cores=1)
    run(objective, tmp_path / "two", trials=4, backend="local", total_cores=2)
    here = outcomes(tmp_path / "here")
    assert len(here) == 12
    assert len({values for values, _ in here.values()}) == 12, "each trial has its own seed"
    assert here == outcomes(tmp_path / "one") == outcomes(tmp_path / "two")


def test_another_seed_gives_other_numbers(tmp_path):
    one = run(programs.drawn, tmp_path / "one")
    other = run(programs.drawn, tmp_path / "other", seed=1)
    assert one[0].metrics["python"][0] != other[0].metrics["python"][0]


@pytest.mark.parametrize("cores", [1, 2])
def test_numeric_libraries_have_the_threads_of_a_trial(tmp_path, cores, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    info = threadpoolctl.threadpool_info()
    results = run(programs.threads, tmp_path, [{"x": 1}], 1, cores_per_trial=cores)
    assert {results.values(name)[0][0] for name in ("loaded", "OMP", "OPENBLAS")} == {cores}
    assert threadpoolctl.threadpool_info() == info
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"


def test_a_seed_fits_every_library(tmp_path):
    results = run(programs.drawn, tmp_path, trials=20)
    seeds = np.concatenate(results.values("seed"))
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_the_generators_of_this_process_are_left_alone():
    def states():
        numpys = np.random.get_state()[1].tobytes()  # noqa: NPY002
        return random.getstate(), numpys, torch.get_rng_state().tolist(), torch.get_num_threads()

    before = states()
    with own_generators():
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        torch.set_num_threads(3)
        assert states() != before
    assert states() == before


def test_a_driver_imports_neither_the_program_nor_torch(tmp_path):
    script = (
        "import sys, sweeper\n"
        "found = sweeper.sweep('programs:number', [{'x': 1}], trials=1, progress=False,\n"
        f"                      folder={str(tmp_path)!r})\n"
        "print('torch' in sys.modules, 'programs' in sys.modules)"
    )
    process = python("-c", script, stdout=subprocess.PIPE)
    assert process.communicate()[0].split() == ["False", "False"]


def test_a_script_sweeps_a_function_of_its_own(tmp_path):
    script = tmp_path / "own.py"
    script.write_text(
        "import random, sys, sweeper\n"
        "def objective(x):\n"
        "    return {'acc': random.random() + x, 'torch': 'torch' in sys.modules}\n"
        "results = sweeper.sweep(objective, [{'x': 1}, {'x': 5}], trials=2, folder='out',\n"
        "                        metrics={'acc': 'maximize'}, progress=False)\n"
        "print(results.best().params, results[0].metrics['torch'].sum())\n"
    )
    process = python(str(script), stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.communicate()[0].strip() == "{'x': 5} 0.0"
    assert process.returncode == 0


# -- failures, kills, resume -----------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_a_function_below_a_scripts_first_sweep_is_refused_in_words(tmp_path, named):
    script = tmp_path / "own.py"
    swept = "'own:below'" if named else "below"
    script.write_text(
        "import sweeper\n"
        "def above(x):\n"
        "    return x\n"
        "sweeper.sweep(above, [{'x': 1}], trials=1, keep=False, backend='inline', progress=False)\n"
        "def below(x):\n"
        "    return x\n"
        f"sweeper.sweep({swept}, [{{'x': 1}}], trials=1, folder='out', progress=False)\n"
    )
    process = python(str(script), stderr=subprocess.PIPE, cwd=tmp_path)
    assert re.search(
        r"objective='own\.below': .* has no below above its first call of sweep, where its import "
        r"ends: define below above that, or call sweep below `if __name__ == '__main__':`",
        process.communicate()[1],
    )


def test_an_objective_that_raises_fails_its_trials_alone(tmp_path):
    results = run(programs.raising, tmp_path)
    assert [len(numbers) for numbers in results.trial_numbers] == [2, 0, 2]
    first, second = results.failures
    assert (first.stage, first.number, second.number) == ("trial", 0, 1)
    assert first.message == "ValueError: no good at all"
    assert 'raise ValueError("no good at all")' in first.detail
    assert "sweeper/program" not in first.detail, "the traceback begins in the user's code"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nothing", "gave None"),
        ("text", "gave '0.9' .a str."),
        ("list", "expected a number, a dict of named numbers"),
        ("empty", "empty dict"),
        ("taken", "have a column 'budget'"),
        ("no name", "is no name of a metric"),
    ],
)
def test_what_is_no_result_is_a_failure_in_words(tmp_path, kind, said):
    results = run(programs.odd, tmp_path, [{"kind": kind}], 1)
    (failure,) = results.failures
    assert re.search(said, failure.message)


def test_three_alike_stop_the_sweep(tmp_path):
    with pytest.raises(StoppedError, match="SystemExit: 3"):
        run(programs.exits, tmp_path, trials=30)


def test_a_worker_that_is_killed_is_replaced_and_its_trial_tried_again(tmp_path):
    points = [{"x": 1, "mark": str(tmp_path / "mark")}]
    results = run(programs.kills_itself_once, tmp_path / "out", points, backend="local")
    assert results.values("value")[0].tolist() == [1, 1]
    assert not results.failures


def test_killed_and_run_again_nothing_finished_runs_twice(tmp_path):
    folder, quiet = tmp_path / "out", tmp_path / "quiet"
    run(programs.kills_its_driver, quiet, trials=8)
    call = (
        "import os, sweeper\n"
        "os.environ['PROGRAMS_DRIVER'] = str(os.getpid())\n"
        "sweeper.sweep('programs:kills_its_driver', [{'x': 1}, {'x': 2}, {'x': 3}], trials=8, "
        f"folder={str(folder)!r}, progress=False, total_cores=1)"
    )
    assert python("-c", call).wait() == -signal.SIGKILL
    assert 0 < len(outcomes(folder)) < 24, "it was killed in the middle"
    run(programs.kills_its_driver, folder, trials=8, backend="local")
    check_nothing_was_repeated(folder)
    assert outcomes(folder) == outcomes(quiet)


def test_edited_code_is_refused_unless_it_is_allowed(tmp_path):
    script, folder = tmp_path / "mine.py", tmp_path / "out"
    text = "def objective(x):\n    return x + {}\n"
    script.write_text(text.format(1))
    given = f"{script}:objective"
    assert run(given, folder, backend="local").values("value")[0].tolist() == [2, 2]
    script.write_text("# a comment\n" + text.format(1))
    run(given, folder, backend="local")
    script.write_text(text.format(2))
    with pytest.raises(ChangedCodeError, match="what a program does cannot be compared"):
        run(given, folder, trials=3, backend="local")
    results = run(given, folder, trials=3, backend="local", allow_changed_code=True)
    assert results.values("value")[0].tolist() == [2, 2, 3]
    assert any("code changed during this sweep" in note for note in results.notes)


def test_a_folder_belongs_to_one_program(tmp_path):
    run(programs.number, tmp_path)
    with pytest.raises(FolderError, match=r"program is 'programs.number' in the folder"):
        run(programs.named, tmp_path)


def test_a_trial_knows_its_folder_number_and_cores(tmp_path):
    run(programs.writes, tmp_path, [{"x": 1}], 2)
    for number in (0, 1):
        wrote = Paths(tmp_path).trial(0, number) / "wrote"
        assert wrote.read_text() == f"{number} 1 {{'x': 1}}"


# -- metrics ---------------------------------------------------------------------------------------


def test_points_are_judged_by_the_first_metric_with_a_direction(tmp_path):
    metrics = {"note": "none", "loss": "minimize", "acc": "maximize"}
    results = run(programs.drifting, tmp_path, trials=4, metrics=metrics)
    assert [metric.name for metric in results.metrics] == ["note", "loss", "acc"]
    assert results.judged.name == "loss"
    assert results.best().params == {"x": 1}
    assert results.best("acc").params == {"x": 3}
    assert results.ranking() == [0, 1, 2]
    assert results.compare().metric == "loss"
    assert results.compare(metric="acc").leader.name == "x=3"
    lines = str(results.summary()).splitlines()
    assert lines[0].split() == ["params", "n", "diverged", "failed", "loss", "std", "note", "acc"]
    assert "What can be said in loss (95 % for all together; 4 trials a point):" in lines
    assert "tuning" not in str(results.summary())
    assert "★" in show(tmp_path)


def test_what_is_not_declared_is_learned_and_has_no_direction(tmp_path):
    results = run(programs.named, tmp_path)
    assert results.metrics == (Metric("acc", "none"), Metric("loss", "none"))
    for ask in (results.best, results.compare, results.ranking, results.intervals):
        with pytest.raises(
            UsageError, match=r"run the sweep again with metrics=\{'acc': 'maximize'\}"
        ):
            ask()
    with pytest.raises(UsageError, match=r"'loss': 'maximize'\} or 'minimize': no trial runs anew"):
        results.compare(metric="loss")
    assert results.summary().comparison is None
    assert "★" not in show(tmp_path)


def test_a_direction_may_be_given_afterwards_and_no_trial_runs_anew(tmp_path):
    run(programs.drifting, tmp_path)
    before = outcomes(tmp_path)
    results = run(programs.drifting, tmp_path, metrics=ACC)
    assert outcomes(tmp_path) == before
    assert [metric.direction for metric in results.metrics] == ["maximize", "none", "none"]
    assert results.best().params == {"x": 3}


def test_a_metric_that_is_missing_or_no_number_is_nan_and_said(tmp_path):
    results = run(programs.gaps, tmp_path, [{"x": 1}], 4)
    assert results[0].metrics["acc"].tolist() == [1.0] * 4
    assert np.isnan(results[0].metrics["loss"]).tolist() == [False, True, True, False]
    assert "loss is missing or not a number in 2 of 4 trials" in results.notes
    assert not results.failures


def test_a_metric_that_only_some_points_measure_is_nan_elsewhere(tmp_path):
    results = run(programs.differs, tmp_path, [{"x": 1}, {"x": 2}], 1)
    assert [metric.name for metric in results.metrics] == ["acc", "only 1", "only 2"]
    assert [math.isnan(values[0]) for values in results.values("only 1")] == [False, True]


def test_rows_csv_and_json_have_the_metrics_of_the_program(tmp_path):
    results = run(programs.named, tmp_path, [{"x": 0.5}], 2, metrics=ACC)
    assert results.rows() == [
        {"x": 0.5, "trial": number, "acc": 0.5, "loss": 0.5} for number in (0, 1)
    ]
    assert results.to_dataframe().columns.tolist() == ["x", "trial", "acc", "loss"]
    assert command("export", tmp_path).splitlines()[0] == "x,trial,acc,loss"
    document = json.loads(command("export", tmp_path, "--format", "json"))
    assert document["program"] == "programs.named"
    assert document["metrics"] == {"acc": "maximize", "loss": "none"}
    (point,) = document["points"]
    assert point["acc"] == [0.5, 0.5]
    assert point["summary"]["acc"]["mean"] == 0.5
    assert not {"perf_val", "lr_min", "batch_size", "tunings", "settings"} & point.keys()
    assert document["cores_per_trial"] == 1
    assert "settings" not in document
    saved = np.load(Paths(tmp_path).results(0))
    assert sorted(saved) == ["final_acc", "final_loss", "trial_numbers"]
    assert not Paths(tmp_path).hparams(0).exists()


def test_a_parameter_with_the_name_of_a_metric_is_told_apart(tmp_path):
    results = run(programs.same_name, tmp_path, [{"loss": 2}], 1)
    assert results.rows() == [{"param_loss": 2, "trial": 0, "loss": 4.0}]


def test_status_names_the_program_and_its_best_point(tmp_path):
    run(programs.drifting, tmp_path, metrics=ACC)
    said = command("status", tmp_path)
    assert "program      programs.drifting" in said
    assert "settings" not in said
    assert re.search(r"points +3: 3 done", said)
    assert re.search(r"best so far +x=3", said)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["acc"], "give names with directions"),
        ({"acc": "up"}, "acc='up': choose one of 'maximize', 'minimize', 'none'"),
        ({"budget": "maximize"}, "tables have a column 'budget'"),
        ({"": "maximize"}, "is no name of a metric"),
        ([Metric("a"), Metric("a")], "'a' is given twice"),
    ],
)
def test_wrong_metrics_are_refused(given, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        read_metrics(given)


def test_effects_of_a_program_go_by_its_trials(tmp_path):
    points = [{"x": x, "shift": shift} for x in (1, 2, 3) for shift in (0.0, 0.1, 0.2, 0.3)]
    results = run(programs.noisy, tmp_path / "out", points, 3, metrics=ACC)
    effects = results.effects()
    assert "12 points, 3 trials each; compared with what varies between trials;" in str(effects)
    assert [one.name for one in effects.effects] == ["x", "shift", "x × shift", "seed"]
    assert "tun" not in f"{effects}{results.summary()}{results.compare()}"
    once = run(programs.noisy, tmp_path / "once", points, 1, metrics=ACC).effects()
    assert "1 trial each; compared with what is left of points;" in str(once)
    assert once.effects[-1].name == "what is left of points (pairs too), and seed"
    lost = run(
        programs.gaps, tmp_path / "lost", [{"x": 1}, {"x": 2}], 5, metrics={"loss": "minimize"}
    )
    assert "4 trials without a number left out" in lost.effects().caveats
    assert "4 trials without a number left out" in lost.compare().caveats


def test_metrics_may_have_bounds(tmp_path):
    results = run(programs.drifting, tmp_path, metrics=[Metric("acc", bounds=(0.0, 9.0))])
    assert results.metrics[0].bounds == (0.0, 9.0)
    assert sweeper.load(tmp_path).metrics == results.metrics


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.array([[2.0]]), 2.0),
        (np.array([1.0, 2.0]), None),
        ("3", None),
        (None, None),
        (1j, None),
        (np.complex128(1), None),
    ],
)
def test_what_counts_as_a_number(value, number):
    assert as_number(value) == number


def test_a_number_where_others_are_declared_is_refused():
    assert read_values(3, ["value"]) == read_values(3, []) == {"value": 3.0}
    with pytest.raises(ValueError, match=r"give \{'acc': …\} instead"):
        read_values(3, ["acc"])


# -- iterations ------------------------------------------------------------------------------------


def curves(folder, budget=None):
    stage = "trial" if budget is None else f"trial@{budget}"
    return dict(np.load(Paths(folder).curves(0, stage)))


def test_a_generator_yields_metrics_and_the_last_values_count(tmp_path):
    results = run(programs.steps, tmp_path, [{"rate": 0.5}], 2)
    assert results[0].metrics["loss"].tolist() == [0.5**5] * 2
    assert results[0].metrics["late"].tolist() == [4.0] * 2
    assert results.notes == ("each trial is one call of the generator programs.steps",)
    found = curves(tmp_path)
    assert found["trial_numbers"].tolist() == [0, 1]
    assert found["iterations"].tolist() == [5, 5]
    assert found["loss"].tolist() == [[0.5**step for step in range(1, 6)]] * 2
    assert np.isnan(found["late"][0]).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("objective", [programs.steps, programs.endless])
def test_a_budget_bounds_its_iterations(tmp_path, objective):
    results = run(objective, tmp_path, Asks([sweeper.Ask({"rate": 0.5}, 2, budget=3)]))
    assert results.budgets == (3,)
    assert curves(tmp_path, 3)["iterations"].tolist() == [3, 3]
    assert results[0].metrics["loss"].tolist() in ([0.5**3] * 2, [0.5] * 2)


def test_trials_of_several_budgets_are_trials_of_their_own(tmp_path):
    asks = [sweeper.Ask({"rate": 0.5}, 1, budget) for budget in (2, None)]
    results = run(programs.steps, tmp_path, Asks(asks))
    assert results.budgets == (2, None)
    assert [values.tolist() for values in results.values("loss")] == [[0.5**2], [0.5**5]]


def test_a_budget_that_nothing_could_bound_is_a_failure_in_words(tmp_path):
    results = run(programs.number, tmp_path, Asks([sweeper.Ask({"x": 1}, 1, budget=3)]))
    assert "neither yields nor takes trial.budget" in results.failures[0].message


@pytest.mark.parametrize(
    ("objective", "said"),
    [(programs.yields_nothing, "has yielded nothing"), (programs.stops_halfway, "halfway")],
)
def test_a_generator_that_fails_fails_its_trial(tmp_path, objective, said):
    results = run(objective, tmp_path, [{"rate": 1.0}], 1)
    assert said in results.failures[0].message


def test_a_function_that_only_reports_has_its_last_values(tmp_path):
    results = run(programs.reports, tmp_path, [{"rate": 0.5}], 1)
    assert results[0].metrics["loss"].tolist() == [0.25]
    assert curves(tmp_path)["loss"].tolist() == [[1.0, 0.5, 0.25]]


def test_histories_of_different_lengths_are_padded(tmp_path):
    run(programs.as_many_as_its_number, tmp_path, [{"x": 1}], 3)
    found = curves(tmp_path)
    assert found["iterations"].tolist() == [1, 2, 3]
    assert np.isnan(found["count"]).sum(axis=1).tolist() == [2, 1, 0]


def test_halving_compares_a_generator_by_budget(tmp_path):
    selector = sweeper.SuccessiveHalving(
        [{"rate": rate} for rate in (0.1, 0.5, 0.9)],
        trials=1,
        min_budget=1,
        max_budget=3,
        metric="loss",
        direction="minimize",
    )
    results = run(programs.steps, tmp_path, selector, metrics={"loss": "minimize"})
    assert set(results.budgets) == {1, 3}
    assert results.best().params == {"rate": 0.1}


# -- selectors -------------------------------------------------------------------------------------


class Asks(sweeper.ParamSelector):
    """Asks for these."""

    def __init__(self, asks):
        self.asks = list(asks)

    def has_more_trials(self):
        return bool(self.asks)

    def get_next_trials(self):
        return self.asks.pop(0)


class Told(sweeper.ParamSelector):
    """Asks for one point after the other, and keeps what it is told."""

    adaptive = True
    look_ahead = 2

    def __init__(self, points):
        self.points = list(points)
        self.heard = []

    def has_more_trials(self):
        return bool(self.points)

    def get_next_trials(self):
        return self.points.pop(0), 2

    def on_hparams_found(self, *values):
        raise AssertionError("nothing is tuned")

    def on_results(self, result):
        self.heard.append({name: values.tolist() for name, values in result.metrics.items()})


@pytest.mark.parametrize("cores", [1, 2])
def test_a_selector_is_told_what_the_trials_of_its_ask_have_measured(tmp_path, cores):
    points = [{"x": number} for number in (1, 2, 1)]
    selector = Told(points)
    run(programs.differs, tmp_path, selector, backend="local", total_cores=cores)
    assert selector.heard == [{"acc": [1.0, 1.0], f"only {x}": [float(x)] * 2} for x in (1, 2, 1)]
    again = Told(points)
    run(programs.differs, tmp_path, again)
    assert again.heard == selector.heard, "replayed from the folder"


def test_a_selector_for_the_four_metrics_of_problems_is_refused_in_words(tmp_path):
    class Classic(Told):
        on_results = sweeper.SweepListener.on_results

        def on_trials_completed(self, *_):
            raise AssertionError

    with pytest.raises(SelectorError, match="override on_results"):
        run(programs.number, tmp_path, Classic(XS))


def test_a_race_is_run_by_a_metric_of_the_program(tmp_path):
    def race(**goal):
        return sweeper.Race(sweeper.Grid(trials=1, x=[1, 2, 3]), 12, **goal)

    with pytest.raises(SelectorError, match="metric='perf_val': choose one of note, acc, loss"):
        run(programs.drifting, tmp_path / "wrong", race())
    goal = {"metric": "loss", "direction": "minimize"}
    results = run(programs.drifting, tmp_path / "out", race(**goal), metrics={"loss": "minimize"})
    assert results.best().params == {"x": 1}
    assert sum(map(len, results.trial_numbers)) < 36


def test_no_better_needs_a_direction(tmp_path):
    with pytest.raises(SettingsError, match="no metric says what is better"):
        run(programs.number, tmp_path, stop_when={"no_better": 2})
    results = run(
        programs.drifting,
        tmp_path / "out",
        [{"x": x} for x in range(1, 501)],  # more than workers are handed ahead
        metrics={"loss": "minimize"},
        stop_when={"no_better": 2},
    )
    assert sum(map(len, results.trial_numbers)) < 1000
    assert "no better mean" in results.notes[0]


# -- from the shell --------------------------------------------------------------------------------


def command(*arguments, code=0, stream="stdout"):
    process = python(
        "-m",
        "sweeper",
        *map(str, arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(programs.__file__).parent,
    )
    printed = dict(zip(("stdout", "stderr"), process.communicate(), strict=True))
    assert process.returncode == code, printed
    return printed[stream]


def show(folder):
    return command("show", folder)


def test_run_compare_and_effects_from_the_shell(tmp_path):
    swept = command(
        *("run", "programs:drifting", "--grid", "x=1,2,3", "--trials", "4", "--folder", tmp_path),
        *("--metric", "acc:max", "--metric", "loss:min", "--backend", "inline"),
    )
    assert swept.splitlines()[1].split() == ["params", "n", "acc", "loss", "note"]
    assert "★ x=3 reached" in swept
    assert "What can be said in loss" in command("compare", tmp_path, "--metric", "loss")
    assert "★ x=3 reached" in command("compare", tmp_path)
    effects = command("effects", tmp_path)
    assert "4 trials each; compared with what varies between trials; 95 %" in effects
    assert "tun" not in effects
    best_first = command("show", tmp_path, "--sort", "loss", "--top", "1")
    assert "x=1" in best_first.splitlines()[3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["programs:named", "--grid", "y=1"], "no parameter 'y'"),
        (["programs:named"], "nothing says what to try"),
        (["programs:named", "--grid", "x=1", "--metric", "acc:up"], "'up' is no direction"),
        (["programs:named", "--grid", "x=1", "--hparams", "fast"], "means nothing for a program"),
        (["programs:named", "--grid", "x=1", "--race"], "give --selector race --option metric="),
        (["blobs", "--grid", "hidden=2", "--metric", "f1:max"], "--metric goes with a program"),
    ],
)
def test_wrong_command_lines_are_refused(tmp_path, arguments, said):
    given = ("run", *arguments, "--folder", tmp_path / "out", "--backend", "inline")
    assert said in command(*given, code=2, stream="stderr")


def test_a_dry_run_of_a_program(tmp_path):
    given = ("run", "programs:named", "--grid", "x=1,2", "--trials", "3", "--folder", tmp_path)
    assert "6 trials would be run: how long" in command(*given, "--dry-run", "--backend", "inline")


@pytest.mark.parametrize(
    ("name", "scale", "ends"), [("val_acc", 1, True), ("val_acc", 100, False), ("gain", 1, False)]
)
def test_the_interval_of_an_accuracy_ends_at_1(tmp_path, name, scale, ends):
    def objective(trial):
        return {name: scale * (0.9 if trial.number == 0 else 1.0)}

    metrics = {name: "maximize"}
    options = {"backend": "inline", "progress": False, "metrics": metrics}
    found = sweeper.sweep(objective, [{}], trials=4, folder=tmp_path, **options)
    (interval,) = found.intervals(name)
    assert (interval.high <= scale) == ends
