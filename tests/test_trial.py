"""The trial that an objective is given: reports, checkpoints, its folder and its log."""

from __future__ import annotations

import json
import re
import signal

import numpy as np
import pytest
import torch

import programs
import programs_trial
import sweeper
from sweeper.errors import SettingsError, UsageError
from sweeper.program.trial.checkpoints import Checkpoints, Saved
from sweeper.program.trial.random_state import read_random, restore_random, seed_random
from sweeper.program.trial.trial import Trial
from sweeper.records import TRIAL, Failure, Outcome
from sweeper.store.checkpoints import remove_checkpoints
from sweeper.store.paths import Paths
from sweeping import check_nothing_was_repeated, outcomes, python
from test_program import Asks, run

RATE = [{"rate": 0.5}]


def make(folder, budget=None, number=0, identity="5e" * 32):
    """A trial, begun, in this process."""
    name = str(number) if budget is None else f"{number}@{budget}"
    checkpoints = Checkpoints(folder / "checkpoints", name, identity, budget)
    trial = Trial(number, 7, {}, folder / "trials" / name, 1, budget, (), checkpoints)
    trial.begin()
    return trial


def lines(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


# -- what it reports -------------------------------------------------------------------------------


def test_what_was_reported_is_in_a_file_at_once(tmp_path):
    trial = make(tmp_path)
    for step in range(3):
        trial.report(loss=1 / (step + 1), acc=np.float32(0.5))
        assert lines(trial.folder) == trial.history
    assert trial.history[2] == {"loss": 1 / 3, "acc": 0.5}


def test_a_report_is_told_from_the_others_after_a_kill_with_every_bit(tmp_path):
    values = [0.1, 1e-300, float("inf"), -0.0, 1 / 3]
    trial = make(tmp_path)
    for value in values:
        trial.report(value=value)
    trial.report(value=float("nan"))
    found = [one["value"] for one in lines(trial.folder)]
    assert np.array(found).tobytes() == np.array([*values, np.nan]).tobytes()


def test_what_was_not_saved_is_forgotten_by_the_next_attempt(tmp_path):
    make(tmp_path).report(loss=1.0)
    again = make(tmp_path)
    assert (again.history, again.resumed, again.load()) == ([], False, None)
    assert not (again.folder / "history.jsonl").exists()


def test_a_log_has_lines_with_times(tmp_path):
    trial = make(tmp_path)
    trial.log("first")
    trial.log(2)
    first, second = (trial.folder / "log.txt").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z first", first)
    assert second.endswith(" 2")


def test_nothing_is_written_through_a_link(tmp_path):
    trial = make(tmp_path)
    target = tmp_path / "precious"
    target.touch()
    (trial.folder / "log.txt").symlink_to(target)
    with pytest.raises(sweeper.UsageError):
        trial.log("text")
    assert target.stat().st_size == 0


def test_it_should_stop_when_its_budget_is_used_up(tmp_path):
    trial, free = make(tmp_path, budget=2), make(tmp_path)
    told = []
    for _ in range(2):
        told.append(trial.should_stop)
        trial.report(a=1)
        free.report(a=1)
    assert (told, trial.should_stop, free.should_stop) == ([False, False], True, False)


def test_devices_and_parents_are_none_yet(tmp_path):
    trial = make(tmp_path)
    assert (trial.devices, trial.parent_folder) == ((), None)


# -- what it saves ---------------------------------------------------------------------------------


def test_what_was_saved_is_loaded_with_the_history_up_to_there(tmp_path):
    trial = make(tmp_path)
    trial.report(loss=2.0)
    weights = torch.tensor([1.0, 2.0], requires_grad=True)
    trial.save(weights=weights, epoch=1, name="adam", table=np.arange(6.0).reshape(2, 3))
    trial.report(loss=1.0)
    again = make(tmp_path)
    assert again.resumed
    assert again.history == [{"loss": 2.0}] == lines(again.folder)
    loaded = again.load()
    assert list(loaded) == ["weights", "epoch", "name", "table"]
    assert loaded["weights"].dtype == np.float32
    assert int(loaded["epoch"]) == 1
    assert str(loaded["name"]) == "adam"
    assert loaded["table"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_random_generators_go_on_from_where_they_were(tmp_path):
    def draw():
        return programs.random.random(), np.random.normal(), torch.rand(1).item()  # noqa: NPY002

    before = read_random()
    try:
        seed_random(3, with_torch=True)
        np.random.normal()  # noqa: NPY002 - half of a pair is kept for the next call
        trial = make(tmp_path)
        trial.save()
        expected = draw()
        draw()
        make(tmp_path).load()
        assert draw() == expected
    finally:
        restore_random(before)


@pytest.mark.parametrize("value", [object(), [[1], [1, 2]], {"a": 1}])
def test_what_is_no_array_cannot_be_saved(tmp_path, value):
    with pytest.raises(TypeError, match=r"trial.save: 'mine' is .*, which is no array"):
        make(tmp_path).save(mine=value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another trial's"])
def test_a_file_that_is_damaged_or_another_trials_is_ignored(tmp_path, damage):
    trial = make(tmp_path)
    trial.report(loss=2.0)
    trial.save(a=1)
    path = tmp_path / "checkpoints" / "0.part"
    data = path.read_bytes()
    if damage == "another trial's":
        assert not make(tmp_path, identity="6f" * 32).resumed
        return
    at = len(data) // 2
    flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    path.write_bytes({"cut": data[:-1], "flipped": flipped, "empty": b""}[damage])
    assert not make(tmp_path).resumed


def test_a_larger_budget_goes_on_from_the_latest_save_within_it(tmp_path):
    def saved_at(*lengths):
        for length in lengths:
            at = Checkpoints(tmp_path / "checkpoints", f"0@{length}", "5e" * 32, length)
            at.write(Saved([{"a": 0.0}] * length, read_random(), {"at": np.array(length)}))
            at.end()

    saved_at(1, 3, 9)
    assert int(make(tmp_path, budget=5).load()["at"]) == 3
    assert int(make(tmp_path, budget=3).load()["at"]) == 3
    assert int(make(tmp_path, budget=27).load()["at"]) == 9
    assert not make(tmp_path).resumed, "a trial without a budget is another"
    assert not make(tmp_path, budget=5, number=1).resumed


# -- whole sweeps ----------------------------------------------------------------------------------


def same(one, other):
    """Whether two folders have the same outcomes; those of either."""
    assert outcomes(one) == outcomes(other)
    return outcomes(one)


MOMENTS = "0:0 0:1 0:3 0:5 1:0 1:2 1:3 1:4 2:1 2:5"
"""Ten of them, as `die` reads them: the first and the last step, and several of one trial."""


@pytest.mark.parametrize(("objective", "each"), [("walk", (1, 2)), ("reported_walk", (2,))])
def test_killed_at_ten_moments_a_trial_goes_on_with_the_same_bits(
    tmp_path, monkeypatch, objective, each
):
    given = f"programs_trial:{objective}"
    run(given, tmp_path / "quiet", RATE, 3)
    monkeypatch.setenv("PROGRAMS_KILLS", MOMENTS)
    for cores in each:
        options = {"backend": "local", "total_cores": cores, "max_tries": 9}
        results = run(given, tmp_path / str(cores), RATE, 3, **options)
        assert not results.failures
        assert len(same(tmp_path / "quiet", tmp_path / str(cores))) == 3
        folder = Paths(tmp_path / str(cores))
        assert not folder.checkpoints.exists(), "nobody goes on from finished trials"
        marks = [path.name for path in folder.points.rglob("killed at *")]
        assert len(marks) == 10


def test_a_trial_goes_on_from_its_last_save_and_repeats_nothing_before(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAMS_KILLS", "0:4")
    monkeypatch.setenv("PROGRAMS_STEPS", str(tmp_path / "steps"))
    run(programs_trial.walk, tmp_path / "out", [{"rate": 0.5, "every": 2}], 1, backend="local")
    assert (tmp_path / "steps").read_text().split() == ["0", "1", "2", "3", "4", "4", "5"]


def test_killed_with_its_driver_a_trial_goes_on_from_its_last_save(tmp_path):
    run(programs_trial.walk, tmp_path / "quiet", RATE, 2)
    call = (
        "import os, sweeper\n"
        "os.environ['PROGRAMS_DRIVER'] = str(os.getpid())\n"
        "sweeper.sweep('programs_trial:walk', [{'rate': 0.5}], trials=2, "
        f"folder={str(tmp_path / 'out')!r}, progress=False, total_cores=1)"
    )
    steps = {"PROGRAMS_STEPS": str(tmp_path / "steps")}
    environment = {"PROGRAMS_KILLS": "1:4", **steps}
    assert python("-c", call, environment=environment).wait() == -signal.SIGKILL
    assert python("-c", call, environment=steps).wait() == 0
    same(tmp_path / "quiet", tmp_path / "out")
    check_nothing_was_repeated(tmp_path / "out")
    taken = (tmp_path / "steps").read_text().split()
    assert taken == [*"012345", *"01234", *"45"]


@pytest.mark.parametrize("objective", ["walk", "reported_walk", "endless_walk"])
def test_a_larger_budget_is_one_long_trial(tmp_path, monkeypatch, objective):
    monkeypatch.setenv("PROGRAMS_STEPS", str(tmp_path / "steps"))
    given = f"programs_trial:{objective}"

    def swept(name, *budgets):
        for budget in budgets:
            run(given, tmp_path / name, Asks([sweeper.Ask(RATE[0], 2, budget)]))
        steps = (tmp_path / "steps").read_text().split()
        (tmp_path / "steps").unlink()
        return outcomes(tmp_path / name), steps

    long, through = swept("long", 9)
    parts, taken = swept("parts", 2, 3, 9)
    assert long.items() <= parts.items()
    assert len(taken) == len(through), "no step is taken twice"
    kept = [path.name for path in Paths(tmp_path / "parts").checkpoints.rglob("*.*")]
    assert sorted(kept) == ["0@9.end", "1@9.end"]


def test_halving_goes_on_from_what_generators_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAMS_STEPS", str(tmp_path / "steps"))
    goal = {"metric": "place", "direction": "minimize"}
    selector = sweeper.SuccessiveHalving(
        [{"rate": rate} for rate in (0.1, 0.5, 0.9)], trials=1, min_budget=1, max_budget=3, **goal
    )
    results = run(programs_trial.walk, tmp_path / "out", selector, metrics={"place": "minimize"})
    assert set(results.budgets) == {1, 3}
    steps = (tmp_path / "steps").read_text().split()
    assert sorted(steps) == ["0", "0", "0", "1", "2"]


def test_edited_code_goes_on_from_nothing(tmp_path):
    script = tmp_path / "mine.py"
    text = (
        "def objective(x, trial):\n"
        "    for step in range(len(trial.history), trial.budget):\n"
        "        yield {'a': step + x, 'resumed': trial.resumed}\n"
        "        trial.save()\n"
    )
    script.write_text(text)

    def swept(budget):
        asks = Asks([sweeper.Ask({"x": 1}, 1, budget)])
        given = f"{script}:objective"
        found = run(given, tmp_path / "out", asks, backend="local", allow_changed_code=True)
        return found[0].metrics["resumed"].tolist()

    assert [swept(1), swept(2)] == [[0.0], [1.0]]
    script.write_text(text.replace("step + x", "step - x"))
    assert swept(3) == [0.0]


def test_checkpoints_lie_where_the_store_looks_for_them(tmp_path):
    run(programs_trial.walk, tmp_path, Asks([sweeper.Ask(RATE[0], 1, 2)]))
    paths = Paths(tmp_path)
    ((point, stage, number),) = outcomes(tmp_path)
    end = paths.checkpoints / point / "0@2.end"
    assert [*paths.checkpoints.rglob("*.*")] == [end]
    failed = Outcome(point, "trial@3", number, 0.0, 0.0, failure=Failure("exception", "it raised"))
    remove_checkpoints(paths, [failed, Outcome(point, TRIAL, number, 0.0, 0.0)])
    assert (stage, end.exists()) == ("trial@2", True)
    remove_checkpoints(paths, [Outcome(point, "trial@3", number, 0.0, 0.0)])
    assert not end.exists()


# -- exceptions of one iteration, artifacts, histories ---------------------------------------------


def test_an_exception_may_be_recorded_and_is_said(tmp_path):
    failed = run(programs.stops_halfway, tmp_path / "a", RATE, 1)
    assert failed.failures[0].message == "RuntimeError: halfway"
    found = run(programs.stops_halfway, tmp_path / "b", RATE, 2, on_error="record")
    assert not found.failures
    assert found.values("loss")[0].tolist() == [1.0, 1.0]
    assert found.notes[-1] == (
        "2 trials raised an exception in an iteration and count with what they yielded before; "
        "the first, trial 0 of rate=0.5: RuntimeError: halfway"
    )
    assert sweeper.load(tmp_path / "b").notes == found.notes


def test_wrong_values_of_on_error_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="on_error='ignore': choose 'raise' or 'record'"):
        run(programs.steps, tmp_path, RATE, 1, on_error="ignore")
    with pytest.raises(SettingsError, match="on_error='record': on_error= goes with a program"):
        run("blobs", tmp_path, [{"hidden": 2}], 1, on_error="record")


def test_histories_are_rows(tmp_path):
    results = run(programs.steps, tmp_path, Asks([sweeper.Ask(RATE[0], 2, 3)]))
    table = results.to_dataframe(history=True)
    assert table.columns.tolist() == ["rate", "budget", "trial", "iteration", "loss", "late"]
    assert table["iteration"].tolist() == [1, 2, 3] * 2
    assert table["loss"].tolist() == [0.5, 0.25, 0.125] * 2
    assert np.isnan(table["late"]).tolist() == [True, True, False] * 2
    assert sweeper.load(tmp_path).where(budget=3).to_dataframe(history=True).equals(table)
    long = results.to_dataframe(history=True, pivot=False)
    assert long.columns.tolist() == ["rate", "budget", "trial", "iteration", "metric", "value"]
    assert len(long) == 8
    assert long[long["metric"] == "late"]["iteration"].tolist() == [3, 3]
    last = results.to_dataframe(pivot=False)
    assert last["value"].tolist() == [0.125, 2.0] * 2


def test_histories_need_a_folder(tmp_path):
    pooled = run(programs.steps, tmp_path, RATE, 1).by("rate")
    for ask in (pooled.artifacts, lambda: pooled.to_dataframe(history=True)):
        with pytest.raises(UsageError, match="have no histories and artifacts"):
            ask()


def test_artifacts_are_beside_the_metrics(tmp_path):
    results = run(programs_trial.with_artifacts, tmp_path, [{"x": 2}, {"x": 0}], 2)
    assert [values.tolist() for values in results.values("value")] == [[2, 2], [0, 0]]
    found = results.artifacts()
    assert list(found) == [(0, 0), (0, 1)], "empty ones are none"
    assert {name: array.tolist() for name, array in found[0, 1].items()} == {"odd": [1, 3]}
    assert found[0, 1].path == Paths(tmp_path.resolve()).trial(0, 1) / "artifacts.npz"
    assert list(sweeper.load(tmp_path).where(x=2).artifacts()) == [(0, 0), (0, 1)]
