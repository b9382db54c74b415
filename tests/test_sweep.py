"""Whole sweeps on small data, through every backend."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import blobs
import sweeper
from sweeper.errors import (
    FolderError,
    ParamError,
    ProblemError,
    SelectorError,
    SettingsError,
    StoppedError,
)
from sweeper.run.backends import BACKENDS, find_backend
from sweeper.run.backends.local import LocalBackend
from sweeper.run.machine.topology import usable_cores
from sweeper.settings import PRESETS
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeping import (
    GRID,
    HERE,
    assert_same_bits,
    outcomes,
    processes_with,
    python,
    replicas_started,
    run,
)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The reference: in one process, one replica after the other."""
    folder = tmp_path_factory.mktemp("quiet")
    return folder, run(folder)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_gives_the_same_bits(quiet, tmp_path, backend):
    folder, reference = quiet
    # In this process alone, cores are but a number.
    for cores in (1, None) if find_backend(backend).own_processes else (1,):
        elsewhere = tmp_path / str(cores)
        result = run(elsewhere, backend=backend, total_cores=cores)
        assert_same_bits(reference, result)
        assert outcomes(elsewhere) == outcomes(folder)


@pytest.mark.slow
def test_spawned_workers_give_the_same_bits(quiet, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.run.backends.local.default_start_method", lambda: "spawn")
    assert_same_bits(quiet[1], run(tmp_path, backend="local"))


def test_no_two_trials_and_no_two_points_are_alike(quiet):
    losses = np.concatenate([point.loss_train for point in quiet[1]])
    assert len(set(losses)) == len(losses) == 12


def test_another_seed_gives_other_results(quiet, tmp_path):
    other = run(tmp_path, sweeper.Grid(trials=3, hidden=[2], dropout=[0.0]), seed=1)
    assert not np.array_equal(other[0].loss_train, quiet[1][0].loss_train)


def test_points_come_in_the_order_of_asking_with_their_names_in_order(quiet):
    shown = [json.dumps(point.params) for point in quiet[1]]
    wanted = [{"hidden": h, "dropout": d} for h in GRID["hidden"] for d in GRID["dropout"]]
    assert shown == [json.dumps(params) for params in wanted]


def test_run_again_it_trains_nothing_and_gives_the_same(quiet):
    folder, reference = quiet
    before = replicas_started(folder)
    assert_same_bits(reference, run(folder))
    assert_same_bits(reference, sweeper.load(folder))
    assert replicas_started(folder) == before


def test_more_trials_and_points_extend_a_folder_and_fewer_leave_it(tmp_path):
    first = run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    started = len(replicas_started(tmp_path))
    more = run(tmp_path, sweeper.Grid(trials=3, hidden=[2, 3]))
    assert np.array_equal(more[0].perf_val[:2], first[0].perf_val)
    new = replicas_started(tmp_path)[started:]
    assert [row for row in new if row[0] == 0] == [(0, "trial", 2)]
    fewer = run(tmp_path, sweeper.Grid(trials=1, hidden=[3]))
    assert [point.params for point in fewer] == [{"hidden": 3}]
    assert np.array_equal(fewer[0].loss_val, more[1].loss_val[:1])
    assert len(replicas_started(tmp_path)) == started + len(new)


def test_a_point_without_trials_is_only_tuned(tmp_path):
    (point,) = run(tmp_path, sweeper.Grid(trials=0, hidden=[2]))
    assert 0 < point.lr_min < point.lr_max
    assert 4 <= point.batch_size <= 16
    assert all(len(values) == 0 for values in point[4:])


def test_params_by_position_and_classes_among_them(tmp_path):
    points = [(3, 0.0, nn.Tanh), (3, 0.0, nn.ReLU)]
    for backend in ("inline", "local"):
        selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
        result = run(tmp_path / backend, selector, backend=backend, hparams=blobs.UNTUNED)
        assert result[1].params == (3, 0.0, "torch.nn.modules.activation:ReLU")
        assert len(result[1].perf_val) == 1


class Climber(sweeper.ParamSelector):
    """Widens the hidden layer as long as that lowers the loss; notes all it hears."""

    adaptive = True
    look_ahead = 2

    def __init__(self, most=4):
        self.history = []
        self.asked = 0
        self.most = most

    def get_next_trials(self):
        self.asked += 1
        width = 1 + self.asked + sum(1 for kind, *_ in self.history if kind == "trials") % 2
        return {"hidden": width}, 2

    def has_more_trials(self):
        return self.asked < self.most

    def on_hparams_found(self, params, lr_min, lr_max, batch_size):
        self.history.append(("hparams", params, lr_min, lr_max, batch_size))

    def on_trials_completed(self, params, *arrays):
        self.history.append(("trials", params, *(tuple(values) for values in arrays)))


def test_an_adaptive_selector_hears_the_same_on_any_number_of_cores_and_when_resumed(tmp_path):
    heard = {}
    for name, options in {
        "inline": {},
        "local": {"backend": "local"},
        "one": {"backend": "local", "total_cores": 1},
    }.items():
        selector = Climber()
        run(tmp_path / name, selector, **options)
        heard[name] = selector.history
    assert heard["inline"] == heard["local"] == heard["one"]
    assert len(heard["one"]) >= 6
    resumed = Climber(most=5)
    run(tmp_path / "one", resumed)
    assert resumed.history[: len(heard["one"])] == heard["one"]
    assert len(resumed.history) > len(heard["one"])


def test_an_adaptive_selector_that_decides_otherwise_on_resume_is_refused(tmp_path):
    run(tmp_path, Climber(most=2))
    fickle = Climber(most=3)
    fickle.asked = 1
    with pytest.raises(SelectorError, match=r"hidden=2.*hidden=3"):
        run(tmp_path, fickle)


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_a_trial_that_raises_is_a_failure_and_the_others_go_on(tmp_path, backend):
    selector = sweeper.FixedSweep.with_fixed_trials(
        [{"trouble": "raise", "stage": "trial"}, {"trouble": "none"}], 3
    )
    result = run(tmp_path, selector, "troubled", backend=backend)
    assert list(result.trial_numbers[0]) == [0, 2]
    assert list(result.trial_numbers[1]) == [0, 1, 2]
    (failure,) = result.failures
    assert (failure.stage, failure.number) == ("trial", 1)
    assert "no model today" in failure.message
    assert "troubled.py" in failure.detail
    assert [point.failed for point in result.summary().points] == [1, 0]


CRASHES = {
    # What a model does, what is said of it, the likely cause, and how often it is tried.
    "_exit": ("the worker ended with exit code 7, 2 times", "the code that is swept", 2),
    "segfault": ("the worker was ended by signal 11 (SIGSEGV), 2 times", "compiled code", 2),
    "kill": ("the worker was ended by signal 9 (SIGKILL), 2 times", "ran out of memory", 2),
    "abort": ("the worker was ended by signal 6 (SIGABRT), 2 times", "compiled code aborted", 2),
    "interrupt": ("the worker ended with exit code 1, 2 times", "the code that is swept", 2),
    "half": ("the worker ended with exit code 9, 2 times", "the code that is swept", 2),
    "close": ("the worker ended with exit code 1, 2 times", "the code that is swept", 2),
    "silent": ("the worker closed its connection and went on, 2 times", "not its own", 2),
    "memory": ("MemoryError: no room, 2 times", "troubled.py", 2),
    "tensor": ("can't allocate memory", "troubled.py", 2),
    "raise": ("RuntimeError: no model today", "troubled.py", 1),
    "unpicklable": ("NotPicklable: cannot be sent", "troubled.py", 1),
    "exit": ("SystemExit: 3", "troubled.py", 1),
    "recursion": ("RecursionError: maximum recursion", "troubled.py", 1),
}


def test_whatever_a_worker_dies_of_is_named_and_costs_nobody_else(tmp_path):
    points = [{"trouble": "none"}] + [{"trouble": trouble} for trouble in CRASHES]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 2)
    result = run(tmp_path, selector, "troubled", backend="local", cores=1, max_tries=2)
    assert len(result[0].perf_val) == 2
    assert all(len(point.perf_val) == 0 for point in result[1:])
    said = {failure.params["trouble"]: failure for failure in result.failures}
    assert set(said) == set(CRASHES)
    started = replicas_started(tmp_path)
    for point, (trouble, (message, likely, tries)) in enumerate(CRASHES.items(), 1):
        assert message in said[trouble].message
        assert likely in said[trouble].detail
        if "the worker" in message:
            assert "what it printed is in" in said[trouble].detail
        begun = [row for row in started if row[0] == point and row[1] != "check"]
        assert len(begun) == tries, trouble


def test_what_prints_for_ever_is_ended_after_its_time(tmp_path):
    def go_on(trials, **limits):
        params = {"trouble": "print", "stage": "trial"}
        selector = sweeper.FixedSweep.with_fixed_trials([params], trials)
        return run(tmp_path, selector, "troubled", backend="local", total_cores=1, **limits)

    before = go_on(1)
    # Nothing but what never ends is left, so that no machine is too busy for this.
    result = go_on(2, trial_timeout=3)
    (failure,) = result.failures
    assert (failure.stage, failure.number) == ("trial", 1)
    assert failure.message == "stopped: exceeded its time (trial_timeout=3)"
    assert "what it printed is in" in failure.detail
    assert "for ever" in (tmp_path / "logs/worker-0.log").read_text()
    assert_same_bits(before, result)


def test_what_a_job_does_to_its_process_the_next_one_does_not_see(tmp_path):
    points = [{"trouble": trouble} for trouble in ("look", "wander", "look")]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
    run(tmp_path, selector, "troubled", backend="local", total_cores=1)
    seen = [
        line
        for line in (tmp_path / "logs/worker-0.log").read_text().splitlines()
        if line.startswith("sees")
    ]
    assert len(seen) > 2
    assert set(seen) == {f"sees {Path.cwd()} [{usable_cores(1).cores[0]}] 1"}


def test_a_log_begins_anew_before_it_fills_the_disk(tmp_path, monkeypatch):
    printing = tmp_path / "printing.py"
    printing.write_text(PRINTING)
    selector = sweeper.Grid(trials=3, hidden=[2])
    run(tmp_path / "out", selector, printing, backend="local", total_cores=1)
    log = tmp_path / "out/logs/worker-0.log"
    assert 1 << 25 < log.stat().st_size < 1 << 27


PRINTING = """
import blobs
from blobs import dataset, loss, accuracy_style
def model(hidden):
    print("much " * (1 << 23))
    return blobs.model(hidden)
"""


def test_a_full_disk_stops_the_sweep_which_goes_on_once_there_is_room(tmp_path):
    full = {"trouble": "disk", "stage": "trial"}
    points = sweeper.FixedSweep.with_fixed_trials([full, {"trouble": "none"}], 2)
    with pytest.raises(StoppedError, match=r"No space left on device: 'model.pt': make room"):
        run(tmp_path, points, "troubled")
    assert not sweeper.load(tmp_path).failures


def test_three_first_trials_that_fail_alike_stop_the_sweep(tmp_path):
    failing = {"trouble": "raise", "stage": "every"}

    def go_on():
        selector = sweeper.FixedSweep.with_fixed_trials([failing], 150)
        return run(tmp_path, selector, "troubled")

    with pytest.raises(StoppedError, match=r"first 3 trials have all failed alike.*no model today"):
        go_on()
    # More may have ended together with the third.
    assert 3 <= len(sweeper.load(tmp_path).failures) < 150
    assert (tmp_path / "points/funcres.pt").exists()
    assert len(go_on().failures) == 150


def test_a_sweep_stops_after_so_many_failures(tmp_path):
    points = [{"trouble": "none"}, *({"trouble": "raise", "seed": n} for n in range(60))]

    def go_on(**limits):
        selector = sweeper.FixedSweep.with_fixed_trials(points, 1)
        return run(tmp_path, selector, "troubled", **limits)

    with pytest.raises(
        StoppedError, match=r"\d+ trials or points have failed.*failures=2; the last"
    ):
        go_on(stop_after_failures=2)
    assert 2 <= len(sweeper.load(tmp_path).failures) < 60
    result = go_on()
    assert len(result.failures) == 60
    assert len(result[0].perf_val) == 1


def test_a_trial_that_diverges_is_a_measurement(tmp_path):
    selector = sweeper.FixedSweep.with_fixed_trials([{"trouble": "nan", "stage": "trial"}], 3)
    result = run(tmp_path, selector, "troubled")
    (point,) = result
    assert np.isnan(point.loss_train).tolist() == [False, True, False]
    assert np.isnan(point.loss_val).tolist() == [False, True, False]
    assert point.perf_val[1] == point.perf_train[1] == 0
    assert not result.failures
    assert result.summary().points[0].diverged == 1
    with np.load(tmp_path / "points/0/curves.npz") as curves:
        assert np.isfinite(curves["loss_val"][0]).all()
        assert np.isnan(curves["loss_val"][1]).any()


def test_handlers_see_the_trial_and_every_evaluation(tmp_path):
    result = run(
        tmp_path,
        sweeper.Grid(trials=2, trouble=["none"]),
        "troubled",
        curve_samples=5,
        backend="local",
    )
    for number in range(2):
        head, *seen = (tmp_path / f"points/0/trials/{number}/seen.txt").read_text().splitlines()
        assert head.split()[0] == str(number)
        assert len(seen) == 2 * 5 + 2
        name, loss, performance = seen[-1].split()
        assert name == "val"
        assert float(loss) == result[0].loss_val[number]
        assert float(performance) == result[0].perf_val[number]


def test_curves_do_not_change_results_and_end_at_the_last_step(quiet, tmp_path):
    assert_same_bits(quiet[1], run(tmp_path, curve_samples=0))
    assert not list(tmp_path.glob("points/*/curves.npz"))
    with np.load(quiet[0] / "points/0/curves.npz") as curves:
        assert curves["loss_val"].shape == (3, len(curves["step"]))
        assert np.all(np.diff(curves["step"]) > 0)


def test_models_are_kept_where_asked_for(quiet, tmp_path):
    import torch

    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]), save_models="none")
    assert not list(tmp_path.rglob("model.pt"))
    state = torch.load(quiet[0] / "points/0/trials/2/model.pt", weights_only=True)
    blobs.model(2).load_state_dict(state)


def test_a_folder_of_another_sweep_is_refused_and_moved_away_on_demand(tmp_path):
    selector = sweeper.Grid(trials=1, hidden=[2])
    first = run(tmp_path, selector)
    with pytest.raises(FolderError, match=r"seed is 0 in the folder and 5 here"):
        run(tmp_path, sweeper.Grid(trials=1, hidden=[2]), seed=5)
    with pytest.raises(FolderError, match=r"cores is 2 in the folder and 3 here"):
        run(tmp_path, sweeper.Grid(trials=1, hidden=[2]), cores=3)
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]), seed=5, resume=False)
    (old,) = (tmp_path / "history").iterdir()
    assert_same_bits(first, sweeper.load(old))


def test_a_folder_of_before_there_were_two_methods_goes_on_and_says_so(tmp_path, capsys):
    def grid():
        return sweeper.Grid(trials=2, hidden=[2])

    short = {"cycles": 1, "cycle_epochs": 2}
    before, now = (replace(PRESETS[name], **short) for name in ("ranges-fastest", "fastest"))
    first = run(tmp_path, grid(), hparams=before)
    with Store.open(Paths(tmp_path).database) as store:
        identity = store.meta["identity"]
        later = ("method", "tunings", "probe_inits", "full_length_inits", "probe_length")
        for name in (*later, "tune", "lr", "batch_size"):
            del identity["settings"][name]
        store.set_meta({"identity": identity})
    started = replicas_started(tmp_path)
    options = {"cores": 2, "hparams": now, "backend": "inline", "progress": True}
    again = sweeper.sweep("blobs", grid(), folder=tmp_path, **options)
    assert_same_bits(first, again)
    assert replicas_started(tmp_path) == started
    said = "was begun with an earlier release: its points are tuned as in that release, by method="
    assert said in capsys.readouterr().err
    with pytest.raises(FolderError, match=r"lr_sweep_len is 4\.0 in the folder and 6\.0 here"):
        run(tmp_path, grid(), hparams="fast")
    sweeper.sweep("blobs", grid(), folder=tmp_path, **options, resume=False)
    assert said not in capsys.readouterr().err


def test_a_folder_of_before_there_was_a_full_length_round_goes_on_and_says_so(tmp_path, capsys):
    def grid():
        return sweeper.Grid(trials=2, hidden=[2])

    before = replace(PRESETS["fastest"], cycles=1, cycle_epochs=2)
    first = run(tmp_path, grid(), hparams=before)
    with Store.open(Paths(tmp_path).database) as store:
        identity = store.meta["identity"]
        del identity["settings"]["full_length_inits"]
        store.set_meta({"identity": identity})
    started = replicas_started(tmp_path)
    now = replace(before, full_length_inits=2)
    options = {"cores": 2, "hparams": now, "backend": "inline", "progress": True}
    assert_same_bits(first, sweeper.sweep("blobs", grid(), folder=tmp_path, **options))
    assert replicas_started(tmp_path) == started
    assert "tuned as in that release, by full_length_inits=0" in " ".join(
        capsys.readouterr().err.split()
    )


def test_usage_errors_come_before_any_worker(tmp_path):
    grid = sweeper.Grid(trials=1, hidden=[2])
    with pytest.raises(SettingsError, match="fats"):
        run(tmp_path, grid, hparams="fats")
    with pytest.raises(SettingsError, match=r"backend='cloud'.*'local' or 'inline'"):
        run(tmp_path, grid, backend="cloud")
    with pytest.raises(SettingsError, match=r"backend='lokal' \(did you mean local\?\): choose"):
        run(tmp_path, grid, backend="lokal")
    with pytest.raises(SettingsError, match="save_models='all'"):
        run(tmp_path, grid, save_models="all")
    with pytest.raises(SettingsError, match="cores_per_trial=4096"):
        run(tmp_path, grid, cores_per_trial=4096)
    with pytest.raises(SettingsError, match="seed=-1"):
        run(tmp_path, grid, seed=-1)
    with pytest.raises(SettingsError, match="max_tries=0: it must be a whole number, 1 or more"):
        run(tmp_path, grid, max_tries=0)
    with pytest.raises(SettingsError, match=r"stop_after_failures=0: .*1 or more, or None"):
        run(tmp_path, grid, stop_after_failures=0)
    with pytest.raises(SettingsError, match=r"trial_timeout=-1: .*above 0, or None"):
        run(tmp_path, grid, trial_timeout=-1, backend="local")
    with pytest.raises(SettingsError, match=r"trial_timeout=5: backend='inline' cannot stop"):
        run(tmp_path, grid, trial_timeout=5)
    with pytest.raises(ParamError, match=r"hiden.*hidden"):
        run(tmp_path, sweeper.Grid(trials=1, hiden=[2]))
    with pytest.raises(ProblemError, match="no_such_problem"):
        run(tmp_path, grid, "no_such_problem")
    assert not (tmp_path / "sweep.db").exists() or not replicas_started(tmp_path)


def test_a_fault_of_the_first_point_is_a_problem_error_of_a_later_one_its_own(tmp_path):
    raising = {"trouble": "raise"}
    with pytest.raises(ProblemError, match=r"model\(trouble=raise\).*no model today"):
        run(tmp_path, sweeper.FixedSweep.with_fixed_trials([raising], 1), "troubled")
    points = [{"trouble": "none"}, raising]
    result = run(tmp_path, sweeper.FixedSweep.with_fixed_trials(points, 1), "troubled")
    assert len(result[0].perf_val) == 1
    assert [failure.params for failure in result.failures] == [raising]


AUGMENTED = """
import torch, blobs
from blobs import model, loss, accuracy_style
class Noisy(torch.utils.data.Dataset):
    def __init__(self, base): self.base = base
    def __len__(self): return len(self.base)
    def __getitem__(self, place):
        x, y = self.base[place]
        return x + 0.1 * torch.randn(2), y
def dataset():
    train, val = blobs.dataset()
    return Noisy(train), val
"""


def test_augmented_data_is_loaded_as_it_goes_with_the_same_bits_everywhere(tmp_path):
    path = tmp_path / "augmented.py"
    path.write_text(AUGMENTED)
    grid = {"trials": 2, "hidden": [2], "dropout": [0.5]}
    inline = run(tmp_path / "inline", sweeper.Grid(**grid), str(path))
    local = run(tmp_path / "local", sweeper.Grid(**grid), str(path), backend="local")
    assert_same_bits(inline, local)
    without = run(tmp_path / "none", sweeper.Grid(**grid), str(path), curve_samples=0)
    assert_same_bits(inline, without)
    assert "random on access" in str(inline.summary())


LOOKING = """
import os, torch, blobs
from blobs import dataset, loss, accuracy_style
def model(width):
    print("sees", torch.get_num_threads(), sorted(os.sched_getaffinity(0)))
    return blobs.model()
"""


@pytest.mark.parametrize("width", [1, 2])
def test_a_job_owns_as_many_cores_as_it_is_wide_and_has_as_many_threads(tmp_path, width):
    cores = usable_cores().cores
    assert len(cores) >= 2, "this test needs two cores"
    (tmp_path / "looking.py").write_text(LOOKING)
    path, options = tmp_path / "looking.py", {"cores_per_trial": width, "hparams": blobs.UNTUNED}
    selector = sweeper.Grid(trials=3, width=[width])
    wide = run(tmp_path / "wide", selector, path, backend="local", **options)
    seen = [
        line
        for log in (tmp_path / "wide/logs").iterdir()
        for line in log.read_text().splitlines()
        if line.startswith("sees")
    ]
    owned = [list(cores[:2])] if width == 2 else [[core] for core in cores]
    assert set(seen) <= {f"sees {width} {sorted(mask)}" for mask in owned}
    assert len(seen) >= 5
    selector = sweeper.Grid(trials=3, width=[width])
    assert_same_bits(wide, run(tmp_path / "inline", selector, path, **options))


def test_nothing_of_the_caller_is_changed_by_a_sweep_in_its_process(tmp_path):
    import random

    import torch

    threads = torch.get_num_threads()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    before = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))
    assert (torch.rand(1), np.random.rand(), random.random()) == before  # noqa: NPY002
    assert torch.get_num_threads() == threads


UNGUARDED = f"""
import sweeper, sys
sys.path.insert(0, {str(HERE)!r})
import blobs
grid = sweeper.Grid(trials=2, hidden=[2])
print(sweeper.sweep("blobs", grid, 1, blobs.QUICK, sys.argv[1]).summary())
"""

OWN_PROBLEM = f"""
import sys
folder = sys.argv[1]
sys.path.insert(0, {str(HERE)!r})
import sweeper, blobs
from blobs import model, dataset, loss, accuracy_style
class Kind: pass
result = sweeper.sweep(__name__, sweeper.Grid(trials=2, hidden=[2]), 1, blobs.QUICK, folder)
print("once", result.summary())
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [UNGUARDED, OWN_PROBLEM])
def test_an_unguarded_script_works(tmp_path, script, monkeypatch):
    path = tmp_path / "script.py"
    path.write_text(script)
    done = python(str(path), str(tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=100)
    assert done.returncode == 0, err
    assert out.count("hidden=2") == 1
    if script is OWN_PROBLEM:
        assert out.count("once") == 1
        monkeypatch.setattr(sys, "argv", ["script.py", str(tmp_path / "out")])
        again = run(tmp_path / "out", sweeper.Grid(trials=2, hidden=[2]), str(path), cores=1)
        assert len(again[0].perf_val) == 2


def test_results_are_read_without_torch(quiet):
    code = (
        "import sys, sweeper; r = sweeper.load(sys.argv[1]); print(r.summary());"
        "assert 'torch' not in sys.modules and 'ignite' not in sys.modules"
    )
    done = python("-c", code, str(quiet[0]), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert "hidden=2 dropout=0.5" in out


def test_a_module_object_a_name_and_a_path_are_one_problem(quiet):
    folder, reference = quiet
    before = replicas_started(folder)
    for given in (blobs, "blobs", str(HERE / "blobs.py"), HERE / "blobs.py"):
        assert_same_bits(reference, run(folder, module=given))
    assert replicas_started(folder) == before


def test_the_local_backend_leaves_no_worker_behind(tmp_path, monkeypatch):
    import psutil

    workers = []
    make = LocalBackend._make_worker

    def noted(self, *given):
        worker = make(self, *given)
        workers.append(worker.pid)
        return worker

    monkeypatch.setattr(LocalBackend, "_make_worker", noted)
    selector = sweeper.Grid(trials=4, hidden=[2, 3])
    run(tmp_path, selector, backend="local", hparams=blobs.UNTUNED)
    assert workers
    assert not any(psutil.pid_exists(pid) for pid in workers)
    assert sys.platform != "linux" or len(set(workers)) <= len(usable_cores().cores)


OWN_GENERATOR = AUGMENTED.replace(
    "self.base = base", "self.base = base; self.rng = torch.Generator()"
)
OWN_GENERATOR = OWN_GENERATOR.replace("torch.randn(2)", "torch.randn(2, generator=self.rng)")


def test_data_with_a_generator_of_its_own_does_not_remember_earlier_replicas(tmp_path):
    path = tmp_path / "own_generator.py"
    path.write_text(OWN_GENERATOR)
    both = run(tmp_path / "both", sweeper.Grid(trials=2, hidden=[2]), str(path), backend="local")
    run(tmp_path / "one", sweeper.Grid(trials=1, hidden=[2]), str(path))
    resumed = run(tmp_path / "one", sweeper.Grid(trials=2, hidden=[2]), str(path))
    assert_same_bits(both, resumed)


OWN_CLASS = """
import blobs
from blobs import dataset, loss, accuracy_style
class Wide: hidden = 3
def model(kind): return blobs.model(kind.hidden)
"""


def test_a_class_of_the_problems_own_is_one_parameter_however_the_problem_was_given(
    tmp_path, monkeypatch
):
    package = tmp_path / "kinds"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "own.py").write_text(OWN_CLASS)
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    by_name = importlib.import_module("kinds.own")
    selector = sweeper.Grid(trials=1, kind=[by_name.Wide])
    first = run(tmp_path / "out", selector, by_name, backend="local")
    before = replicas_started(tmp_path / "out")
    from sweeper.code.importing import find_ref, import_module

    by_path = import_module(find_ref(package / "own.py"))
    again = run(tmp_path / "out", sweeper.Grid(trials=1, kind=[by_path.Wide]), by_path)
    assert len(again) == len(first) == 1
    assert replicas_started(tmp_path / "out") == before


CHANGES_ITSELF = """
import pathlib, blobs
from blobs import dataset, loss, accuracy_style
def model(hidden): return blobs.model(hidden)
def handlers(trainer, evaluator, trial):
    import os
    if trial.number == 1:
        with open(__file__, "a") as file: file.write("# changed\\n")
        os._exit(1)
"""


def test_code_that_changes_while_the_sweep_runs_stops_it(tmp_path):
    path = tmp_path / "changes.py"
    path.write_text(CHANGES_ITSELF)
    selector = sweeper.Grid(trials=3, hidden=[2])
    with pytest.raises(FolderError, match="changed while the sweep ran"):
        run(tmp_path / "out", selector, path, backend="local", total_cores=1)
    assert not sweeper.load(tmp_path / "out").failures


LEAVES_CHILDREN = """
import os, subprocess, blobs
from blobs import dataset, loss, accuracy_style
def model(hidden):
    subprocess.Popen(["sleep", "1000"], env=os.environ | {"SWEEPER_TEST_MARK": __file__})
    if hidden == 3: os._exit(1)
    return blobs.model(hidden)
"""


@pytest.mark.parametrize(
    "start_method", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)]
)
def test_no_process_that_a_model_started_is_left_behind(tmp_path, monkeypatch, start_method):
    import psutil

    path = tmp_path / "children.py"
    path.write_text(LEAVES_CHILDREN)
    monkeypatch.setattr("sweeper.run.backends.local.default_start_method", lambda: start_method)
    run(tmp_path / "out", sweeper.Grid(trials=1, hidden=[2, 3]), path, backend="local", cores=1)
    _, alive = psutil.wait_procs(processes_with(str(path)), timeout=10)
    assert not alive


HASHES = """
import blobs
from blobs import dataset, loss, accuracy_style
def model(kind): return blobs.model(2 + hash(kind) % 50)
"""


@pytest.mark.slow
def test_the_order_of_sets_is_the_same_in_every_run(tmp_path):
    path = tmp_path / "hashes.py"
    path.write_text(HASHES)
    results = []
    for number in range(2):
        from sweeper.run.backends import local

        local._close_servers()  # the next sweep starts one with a hash seed of its own
        selector = sweeper.Grid(trials=1, kind=["tall", "small"])
        results.append(run(tmp_path / str(number), selector, path, backend="local"))
    assert_same_bits(*results)


def test_results_of_an_earlier_sweep_are_swept_again_classes_among_them(tmp_path):
    points = [(3, 0.0, nn.Tanh)]
    first = run(tmp_path / "one", sweeper.FixedSweep.with_fixed_trials(points, 2))
    again = run(tmp_path / "two", sweeper.FixedSweep(first))
    assert_same_bits(first, again)


WRONG_SHAPE = """
import torch, blobs
from torch import nn
from torch.utils.data import TensorDataset
accuracy_style = "inv-loss"
loss = {loss}
def model(hidden): return nn.Linear(2, 1)
def dataset():
    x = torch.randn(40, 2)
    y = x.sum(1){shape}
    return TensorDataset(x[:30], y[:30]), TensorDataset(x[30:], y[30:])
"""


@pytest.mark.parametrize(
    ("loss", "shape", "said"),
    [
        ("nn.MSELoss", "", r"target size \(torch.Size\(\[30\]\)\)"),
        ("lambda: nn.MSELoss(reduction='sum')", "[:, None]", "a loss reduced by mean"),
    ],
)
def test_a_loss_that_broadcasts_or_sums_is_refused(tmp_path, loss, shape, said):
    path = tmp_path / "wrong.py"
    path.write_text(WRONG_SHAPE.format(loss=loss, shape=shape))
    with pytest.raises(ProblemError, match=said):
        run(tmp_path / "out", sweeper.Grid(trials=1, hidden=[2]), path)


def test_a_selector_is_told_its_folder_before_anything_else(tmp_path, monkeypatch):
    class Told(sweeper.Grid):
        told = ()

        def on_opened(self, folder):
            self.told = (*self.told, folder, (folder / "sweep.db").exists())

        def on_begin(self, tunings):
            self.told = (*self.told, "begin")

        def on_hparams_found(self, params, *found):
            self.told = (*self.told, params)

    monkeypatch.chdir(tmp_path)
    selector = Told(trials=0, hidden=[2])
    run(Path("here"), selector)
    assert selector.told == (tmp_path.resolve() / "here", True, "begin", {"hidden": 2})


class FromOutside(sweeper.ParamSelector):
    """Has nothing at first; then a point comes, and then it is known to be the last."""

    def __init__(self):
        self.asked = 0
        self.told = 0

    def get_next_trials(self):
        self.asked += 1
        return ({"hidden": 2}, 1) if self.asked == 2 else None

    def has_more_trials(self):
        return not self.told

    def waiting_outside(self):
        return not self.told

    def on_trials_completed(self, params, *arrays):
        self.told += 1


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_points_may_come_from_outside_and_come_to_an_end(tmp_path, backend, monkeypatch):
    monkeypatch.setattr("sweeper.run.dispatch.LOOK_OUTSIDE", 0.01)
    (point,) = run(tmp_path, FromOutside(), backend=backend)
    assert len(point.perf_val) == 1


@pytest.mark.slow
def test_the_example_of_halving_ends_with_the_best(tmp_path):
    sys.path.append(str(HERE.parent / "examples"))
    from halving import Halving

    points = [{"hidden": hidden} for hidden in (1, 2, 3, 4)]
    result = run(tmp_path, Halving(points, trials=1))
    assert sorted(len(point.perf_val) for point in result) == [1, 1, 3, 3]
