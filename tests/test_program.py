"""Programs: the user's own functions and generators as workloads."""

import random
import re
import signal
import subprocess

import numpy as np
import pytest

import programs
import programs_torch
import sweeper
from sweeper.errors import (
    ChangedCodeError,
    FolderError,
    ParamError,
    SettingsError,
    StoppedError,
    UsageError,
)
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


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"y": 1}, "no parameter 'y'; the objective takes x, shift"),
        ({"shift": 1}, "x is missing"),
        ({"x": 1, "trial": 1}, "no parameter 'trial'"),
        ((1, 2, 3), "these are 3 values"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, params, said):
    with pytest.raises(ParamError, match=said):
        run(programs.named, tmp_path, [params])


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (programs.Kind, "is a class"),
        (programs.make_closure(), "put it into a module"),
        (programs.Kind.__call__, "cannot be imported by name|put it into a module"),
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


def test_a_seed_fits_every_library(tmp_path):
    results = run(programs.drawn, tmp_path, trials=20)
    seeds = np.concatenate(results.values("seed"))
    assert seeds.min() >= 0
    assert seeds.max() < 2**31


def test_the_generators_of_this_process_are_left_alone(tmp_path):
    def states():
        return random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002

    before = states()
    run(programs.drawn, tmp_path)
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


def test_a_function_that_was_typed_in_is_refused(tmp_path):
    code = "import sweeper\ndef f(x): return x\nsweeper.sweep(f, [{'x': 1}], trials=1)"
    process = python("-c", code, stderr=subprocess.PIPE, cwd=tmp_path)
    assert "put it into a .py file" in process.communicate()[1]


# -- failures, kills, resume -----------------------------------------------------------------------


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
        ("list", "expected a number, or a dict"),
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
        run(programs.exits, tmp_path)


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
        f"folder={str(folder)!r}, progress=False)"
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
    with pytest.raises(FolderError, match=r"problem is 'programs.number' in the folder"):
        run(programs.named, tmp_path)


def test_a_trial_knows_its_folder_number_and_cores(tmp_path):
    run(programs.writes, tmp_path, [{"x": 1}], 2)
    for number in (0, 1):
        wrote = Paths(tmp_path).trial(0, number) / "wrote"
        assert wrote.read_text() == f"{number} 1 {{'x': 1}}"
