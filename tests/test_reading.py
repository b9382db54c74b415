"""A problem that is read for the driver, by a process beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import sweeper
from sweeper.api.reading import read_problem
from sweeper.disk.files import nameless_file
from sweeper.errors import BackendError, ProblemError
from sweeper.run.processes.helper import HelperProcess, ThereError
from sweeper.workload import TargetOptions

TOY = """
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset
    accuracy_style = "classification"
    loss = nn.CrossEntropyLoss
    points = [{"hidden": 2}, {"hidden": 3}]
    trials = 1
    def model(hidden, act=nn.Tanh):
        return nn.Sequential(nn.Linear(2, hidden), act(), nn.Linear(hidden, 2))
    def dataset():
        x = torch.randn(40, 2)
        y = (x[:, 0] > 0).long()
        return TensorDataset(x[:30], y[:30]), TensorDataset(x[30:], y[30:])
"""


@pytest.fixture
def problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text=""):
        (tmp_path / "asides.py").write_text(textwrap.dedent(TOY) + textwrap.dedent(text))
        return str(tmp_path / "asides.py")

    return write


HEAVY = ("torch", "sklearn", "asides")


def printed_by(program, request):
    """What a driver of its own prints."""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(request.config.rootpath)},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def test_a_driver_imports_neither_torch_nor_the_problem(problem, request):
    program = f"""
import sys
from sweeper import cli
words = "run {problem()} --hparams fastest --set cycles=1 --set cycle_epochs=1 --folder out --quiet"
code = cli._run_command_line(words.split())
print(code, [name for name in {HEAVY} if name in sys.modules])
"""
    assert printed_by(program, request).splitlines()[-1] == "0 []"
    assert len(sweeper.load("out")) == 2


def test_what_takes_long_to_import_is_left_until_the_fork_server_has_begun(request):
    late = ("numpy", "rich", "sweeper.api.arguments", "sweeper.engine.engine", "sweeper.search")
    program = (
        f"import sys, sweeper.api.sweep; print([name for name in {late} if name in sys.modules])"
    )
    assert printed_by(program, request) == "[]\n"


def test_a_list_of_points_is_made_before_numpy_is_imported(request):
    """Scripts make their selector before they call `sweep`, which starts the fork server."""
    made = "FixedSweep.with_fixed_trials([(1,), (2,)], 3)"
    program = f"import sys, sweeper; sweeper.{made}; print('numpy' in sys.modules)"
    assert printed_by(program, request) == "False\n"


TARGET = {
    "logs": "",
    "seed": 7,
    "threads": 1,
    "numerics": 3,
    "model_path": "",
    "checkpoints": "",
    "checkpoint_every": 60.0,
    "curve_samples": 0,
    "save_models": False,
    "allow_changed_code": False,
}


@pytest.mark.parametrize("backend", ["local", "inline"])
def test_what_is_known_of_a_problem(problem, backend):
    path = problem()
    with read_problem(path, backend) as reading:
        assert (reading.spec.ref.name, reading.spec.ref.path) == ("asides", path)
        assert not reading.spec.has_handlers
        assert reading.spec.routes.calls["model"].names == ["hidden", "act"]
        assert reading.spec.search() == {"points": [{"hidden": 2}, {"hidden": 3}], "trials": 1}
        opened = reading.open(7, 1)
        target = opened.target(TargetOptions(**TARGET))
    data = opened.data
    assert (data.n_train, data.n_val, data.seed) == (30, 10, 7)
    assert data.layouts
    assert target.fd is not None


def test_both_places_read_the_same_data(problem):
    sums = set()
    for backend in ("local", "inline"):
        with read_problem(problem(), backend) as reading:
            sums.add(reading.open(7, 1).data.sha256)
    assert len(sums) == 1


def test_what_cannot_be_pickled_is_asked_of_the_module_itself(problem):
    with read_problem(problem("trials = lambda: 3"), "local") as reading:
        assert reading.spec.own is None
        assert reading.spec.search()["trials"]() == 3


def test_points_of_the_problems_own_classes_are_found(problem):
    own = """
        class Act(nn.Tanh): pass
        points = [{"hidden": 2, "act": Act}]
    """
    with read_problem(problem(own), "local") as reading:
        (point,) = reading.spec.search()["points"]
    assert point["act"].__name__ == "Act"


def test_an_error_of_the_problem_is_raised_here_and_says_where_it_was(problem):
    raises = pytest.raises(ProblemError, match="ZeroDivisionError")
    with raises as found, read_problem(problem("1 / 0"), "local") as reading:
        _ = reading.spec
    assert "asides.py" in str(found.value.__cause__)
    assert found.value.__cause__.frames[-1].filename.endswith("asides.py")


def test_what_it_prints_is_printed(problem, capfd):
    with read_problem(problem("print('printed on import')"), "local") as reading:
        reading.open(0, 1)
    assert "printed on import" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("dies", "message"),
    [
        ("os._exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", r"signal 9 \(SIGKILL\).*out of memory"),
        ("os.closerange(3, 100); import time; time.sleep(1000)", "reading the problem"),
    ],
)
def test_a_problem_that_kills_its_process_is_a_clear_error(problem, dies, message):
    text = f"import os\ndef dataset(): {dies}\n"
    path = problem(text)
    with pytest.raises(BackendError, match=message), read_problem(path, "local") as reading:
        reading.open(0, 1)


def test_an_error_that_cannot_be_pickled_is_said(problem):
    fd = nameless_file()
    aside = HelperProcess("testing", fd, ("json",), {})
    try:
        with pytest.raises(BackendError, match="Unpicklable: no") as found:
            aside.call("tests.test_reading:raise_unpicklable")
        assert isinstance(found.value.__cause__, ThereError)
        assert aside.call("tests.test_reading:add", 1, 2) == 3, "it goes on"
    finally:
        aside.close()
        aside.close()
        os.close(fd)


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError


def raise_unpicklable(fd):
    raise Unpicklable("no")


def add(fd, one, other):
    return one + other


def test_a_fork_server_that_is_killed_meanwhile_is_followed_by_another(tmp_path):
    fd = nameless_file()
    aside = HelperProcess("testing", fd, ("json",), {})
    try:
        assert aside.call("tests.test_reading:kill_parent_once", str(tmp_path / "mark")) == "again"
    finally:
        aside.close()
        os.close(fd)


def kill_parent_once(fd, mark):
    if Path(mark).exists():
        return "again"
    Path(mark).touch()
    os.kill(os.getppid(), signal.SIGKILL)
    return signal.pause()
