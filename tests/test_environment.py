"""Programs are started in all sorts of ways: a sweep works there as Python does, or says why.

Each test is a program of its own, since it is about how that is started.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sweeper
from sweeper import cli
from sweeper.cli.execute import look_in_current_folder
from sweeper.errors import BackendError, DiskError
from sweeper.records import Job, Start, Target
from sweeper.run.backends.local import LocalBackend
from sweeper.run.processes.signals import Interrupts
from sweeper.show.progress import LineView, NoView, make_view
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeping import run

SHORT = "--hparams fastest --set cycles=1 --set cycle_epochs=2"

HERE = Path(__file__).parent
PATH = os.pathsep.join([str(HERE), str(HERE.parent)])

PROBLEM = """
import os, sys
from torch import nn
from blobs import QUICK, accuracy_style, dataset, loss

print("imported")

def model(hidden=2):
    os.write(1, b"to the descriptor\\n")
    print("made")
    sys.stderr.write("to standard error\\n")
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
"""

SWEPT = """
import sweeper

def swept(problem, folder, **options):
    options = {"cores": 1, "hparams": QUICK, **options}
    selector = sweeper.Grid(trials=2, hidden=[2])
    return sweeper.sweep(problem, selector, folder=folder, **options)
"""

MAIN = """
if __name__ == "__main__":
    swept(__name__, sys.argv[1])
"""


@pytest.fixture
def program(tmp_path):
    """A script that sweeps itself, in a folder of its own."""
    script = tmp_path / "scripts" / "own.py"
    script.parent.mkdir()
    script.write_text(PROBLEM + SWEPT + MAIN)
    return script


def shell(line, **options):
    """A line of shell with Python as `$PYTHON`; what it came to."""
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": PATH}
    return subprocess.run(
        ["sh", "-c", line], env=environment, capture_output=True, text=True, check=False, **options
    )


def quoted(*words):
    return shlex.join(map(str, words))


def check_swept(folder, done=None, name="own"):
    assert done is None or done.returncode == 0, done.stderr
    assert [len(point.perf_val) for point in sweeper.load(folder)] == [2]
    with Store.read(Paths(folder).database) as store:
        assert store.meta["identity"]["problem"] == name


# -- standard streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["2>&-", pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow)])
def test_a_program_without_standard_streams_sweeps(program, tmp_path, closed):
    done = shell(f"$PYTHON {quoted(program, tmp_path / 'out')} {closed}")
    check_swept(tmp_path / "out", done)
    assert not done.stderr
    assert "trials" not in done.stdout, "progress is for standard error"


@pytest.mark.slow
def test_the_command_line_without_standard_output_sweeps(program, tmp_path):
    folder = tmp_path / "out"
    line = quoted("run", program, "--grid", "hidden=2", "--trials", "2", "--cores", "1")
    done = shell(f"$PYTHON -m sweeper {line} {SHORT} --folder {folder} >&- 2>&-")
    check_swept(folder, done)
    assert shell(f"$PYTHON -m sweeper show {folder} >&-").returncode == 0
    assert shell(f"$PYTHON -m sweeper show {folder}/no 2>&-").returncode == cli.WRONG


def test_a_standard_output_that_takes_nothing_is_said():
    done = shell("$PYTHON -m sweeper --version > /dev/full")
    assert done.returncode == cli.FAILED
    assert done.stderr.startswith("sweeper: ")
    assert done.stderr.endswith("No space left on device\n")
    assert len(done.stderr.splitlines()) == 1


def test_progress_is_not_shown_where_standard_error_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert type(make_view(progress=True)) is NoView


def test_progress_that_nobody_can_read_any_more_ends_nothing():
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails
    with LineView(full, lambda: 0.0) as view:
        view.note("hello")
    with contextlib.suppress(OSError):
        full.close()
    with LineView(full, lambda: 0.0) as view:
        view.note("hello")


def _started(target, logs):
    backend = LocalBackend([(0,)], pinned=False, target=target, logs=logs)
    backend.start([Start(Job(0, "", "trial", "x", (0,)), 0)])
    return backend


def _wait_for(backend):
    with Interrupts() as interrupts:
        backend.wait(60, interrupts)


def test_a_worker_that_cannot_be_set_up_is_no_fault_of_its_job(tmp_path):
    backend = _started(Target("noop:missing", None, None, ("noop",)), tmp_path)
    try:
        with pytest.raises(BackendError, match=r"could not be set up(?s:.*)no attribute 'missing'"):
            _wait_for(backend)
    finally:
        backend.close()


def test_a_log_that_cannot_be_written_is_no_fault_of_the_job(tmp_path):
    (tmp_path / "worker-0.log").mkdir()
    backend = _started(Target("noop:execute", None, None, ("noop",)), tmp_path)
    try:
        with pytest.raises((DiskError, BackendError), match=r"worker-0.log.*Is a directory"):
            _wait_for(backend)
    finally:
        backend.close()


# -- where modules are found ----------------------------------------------------------------------

SHADOWING = ("json", "random", "types", "ast", "socket")


@pytest.fixture
def shadowed(tmp_path):
    """A current folder whose modules have names of the standard library's."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in SHADOWING:
        (folder / f"{name}.py").write_text("raise SystemExit('not this one')\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_modules_of_the_current_folder_do_not_take_the_place_of_others(
    program, shadowed, tmp_path, method
):
    chosen = f"""
from sweeper.run.processes import helper
from sweeper.run.backends import local
local.default_start_method = helper.default_start_method = lambda: {method!r}
"""
    program.write_text(PROBLEM + SWEPT + chosen + MAIN)
    done = shell(f"$PYTHON {quoted(program, tmp_path / 'out')}", cwd=shadowed)
    check_swept(tmp_path / "out", done)


def test_a_process_to_compile_in_does_not_look_into_the_current_folder(shadowed):
    program = "from sweeper.train.native.toolchain import run_apart; run_apart('given', ['x'], b'')"
    (shadowed.parent / "given.py").write_text(
        "import json, random\ndef main(words): assert words == ['x']\n"
    )
    script = shadowed.parent / "script.py"
    script.write_text(program)
    done = shell(f"$PYTHON {quoted(script)}", cwd=shadowed)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_path_may_hold_what_is_no_text(program, tmp_path):
    begin = "import sys, pathlib\nsys.path.append(pathlib.Path('x'))\n"
    program.write_text(begin + PROBLEM + SWEPT + MAIN)
    check_swept(tmp_path / "out", shell(f"$PYTHON {quoted(program, tmp_path / 'out')}"))


# -- threads --------------------------------------------------------------------------------------

THREADS = """
import os
import torch
from torch import nn
import blobs
from blobs import accuracy_style

torch.set_num_threads(3)

def seen(where):
    with open(os.environ["SEEN"], "a") as file:
        print(where, torch.get_num_threads(), file=file)

class Layer(nn.Linear):
    def forward(self, x):
        seen("forward")
        return super().forward(x)

class Loss(nn.CrossEntropyLoss):
    def forward(self, output, y):
        seen("loss")
        return super().forward(output, y)

def loss():
    torch.set_num_threads(4)
    return Loss()

def dataset():
    sets = blobs.dataset()
    seen("dataset")
    torch.set_num_threads(5)
    return sets

def handlers(trainer, evaluator, trial):
    torch.set_num_threads(6)

def model(hidden):
    torch.set_num_threads(7)
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), Layer(hidden, 2))
"""


@pytest.mark.parametrize("backend", ["local", "inline"])
def test_a_module_does_not_say_how_many_threads_compute(tmp_path, monkeypatch, backend):
    name = f"threads_{backend}"
    (tmp_path / f"{name}.py").write_text(THREADS)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(
            tmp_path / "out",
            sweeper.Grid(trials=1, hidden=[2]),
            tmp_path / f"{name}.py",
            backend=backend,
            total_cores=1,
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    seen = set((tmp_path / "seen").read_text().splitlines())
    assert seen == {"dataset 1", "forward 1", "loss 1"}


# -- what a program is ----------------------------------------------------------------------------


def _as_folder(program):
    program.rename(program.with_name("__main__.py"))
    return quoted(program.parent), "scripts"


def _without_suffix(program):
    # A namesake with the suffix, whose byte code must not be taken for this one's.
    program.with_name("tool.py").write_text(program.read_text().replace("own", "other"))
    program.rename(program.with_name("tool"))
    return quoted(program.with_name("tool")), "tool"


PROGRAMS = {
    "profiled": lambda program: (f"-m cProfile {quoted(program)}", "own"),
    "traced": lambda program: (f"-m trace --count --coverdir /tmp/no {quoted(program)}", "own"),
    "a folder": _as_folder,
    "without suffix": _without_suffix,
}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["profiled", "a folder", "without suffix"])
def test_a_program_that_is_started_otherwise_sweeps_itself(program, tmp_path, how):
    words, name = PROGRAMS[how](program)
    done = shell(f"$PYTHON {words} {quoted(tmp_path / 'out')}")
    check_swept(tmp_path / "out", done, name)


CLASSES = """
class Tanh(nn.Tanh): pass

if __name__ == "__main__":
    from sweeper.code.references import reference
    from sweeper.code.importing import find_ref
    print(reference(Tanh), find_ref(__name__).module, find_ref("__main__").path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["profiled", "traced", "a folder", "without suffix"])
def test_classes_of_a_program_are_found_by_its_name(program, how):
    program.write_text("from torch import nn\n" + CLASSES)
    words, name = PROGRAMS[how](program)
    done = shell(f"$PYTHON {words}", cwd=program.parent.parent)
    file = {"a folder": "__main__.py", "without suffix": "tool"}.get(how, "own.py")
    assert done.stdout.splitlines()[0] == f"{name}:Tanh {name} {program.with_name(file)}"


STARTED_WITHOUT_FILE = {
    "standard input": "$PYTHON < {program}",
    "a minus": "$PYTHON - < {program}",
    "a string": '$PYTHON -c "$(cat {program})"',
    "a pipe": "cat {program} | $PYTHON /dev/stdin",
}


@pytest.mark.parametrize("how", STARTED_WITHOUT_FILE)
def test_a_program_without_a_file_is_carried(program, how):
    program.write_text(
        "def model(): pass\n"
        "from sweeper.code.importing import find_ref, import_module\n"
        "print(import_module(find_ref(__name__)).model.__name__)\n"
    )
    done = shell(STARTED_WITHOUT_FILE[how].format(program=quoted(program)))
    assert done.stdout == "model\n", done.stderr


@pytest.mark.slow
def test_a_program_from_standard_input_sweeps_a_module(program, tmp_path):
    program.write_text("from blobs import QUICK" + SWEPT + "swept('blobs', sys.argv[1])")
    done = shell(f"(echo import sys; cat {quoted(program)}) | $PYTHON - {quoted(tmp_path / 'out')}")
    check_swept(tmp_path / "out", done, "blobs")


# -- the current folder ---------------------------------------------------------------------------

GONE = "mkdir {gone} && cd {gone} && rmdir {gone} && "


@pytest.mark.slow
def test_a_current_folder_that_is_gone_does_no_harm(program, tmp_path):
    program.write_text(
        PROBLEM + SWEPT + MAIN.replace("    swept", "    os.rmdir(os.getcwd())\n    swept")
    )
    (tmp_path / "here").mkdir()
    done = shell(f"$PYTHON {quoted(program, tmp_path / 'out')}", cwd=tmp_path / "here")
    check_swept(tmp_path / "out", done)


@pytest.mark.slow
def test_the_command_line_in_a_folder_that_is_gone(program, tmp_path):
    gone = GONE.format(gone=tmp_path / "gone")
    line = quoted("run", program, "--grid", "hidden=2", "--trials", "2")
    line += f" {SHORT}"
    done = shell(f"{gone} $PYTHON -m sweeper {line} --cores 1 --folder {tmp_path}/out")
    check_swept(tmp_path / "out", done)
    line += " --folder out"
    refused = shell(f"{gone} $PYTHON -m sweeper {line}")
    assert refused.returncode == cli.WRONG
    assert refused.stderr == (
        "sweeper: out: the current folder is gone: change to an existing one, or give an "
        "absolute folder\n"
    )
    refused = shell(f"{gone} $PYTHON -m sweeper {line} --folder /tmp/no --backend inline")
    assert "the current folder is gone, where torch cannot be imported" in refused.stderr
    refused = shell(f"{gone} $PYTHON -m sweeper run own.py --grid hidden=2")
    assert "module='own.py': the current folder is gone" in refused.stderr


def test_where_the_command_line_looks_for_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near.py").touch()
    before = ["/first", "/last"]
    for module, expected in {
        "near": [str(tmp_path), *before],
        "near.py": [str(tmp_path), *before],
        "/far/away.py": [*before, str(tmp_path)],
    }.items():
        monkeypatch.setattr(sys, "path", [*before])
        look_in_current_folder(module)
        assert sys.path == expected, module
