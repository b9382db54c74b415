"""Two of everything: drivers of one folder, readers beside a driver, and what is not the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from dataclasses import asdict

import numpy as np
import psutil
import pytest

import blobs
import sweeper
from sweeper import cli
from sweeper.disk import locking
from sweeper.disk.arrays import unpack_arrays
from sweeper.disk.files import sha256_of_file
from sweeper.disk.locking import Holder, folder_lock, read_lock
from sweeper.errors import FolderError
from sweeper.records import METRICS, TRIAL
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.load import load
from sweeping import python, run

# -- drivers --------------------------------------------------------------------------------------


def write_holder(lock, **changes):
    me = psutil.Process()
    holder = Holder(socket.gethostname(), me.pid, me.create_time())
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps(asdict(holder) | changes))
    return holder


def test_a_pid_that_was_given_to_another_process_is_no_driver(tmp_path, capsys):
    lock = tmp_path / "lock"
    holder = write_holder(lock)
    assert read_lock(lock) == holder
    # The driver died, and this process has its number.
    write_holder(lock, start=holder.start - 1000)
    assert read_lock(lock) is None
    with folder_lock(lock) as dead:
        assert (dead.pid, dead.start) == (holder.pid, holder.start - 1000)
    write_holder(lock, start=holder.start - 1000)
    sweeper.sweep(
        "blobs", sweeper.Grid(trials=0, hidden=[2]), 1, blobs.QUICK, tmp_path, backend="inline"
    )
    assert f"took over the lock that process {holder.pid}" in capsys.readouterr().err


# Each tries to get the folder when it is told, and lets go when its standard input ends.
RIVAL = """
import pathlib, sys
from sweeper.errors import FolderError
from sweeper.disk.locking import folder_lock
print("ready", flush=True)
sys.stdin.readline()
try:
    with folder_lock(pathlib.Path(sys.argv[1])) as dead:
        print("held after", dead, flush=True)
        sys.stdin.read()
except FolderError as error:
    print("refused:", error, flush=True)
"""


def test_of_several_that_find_a_stale_lock_at_once_one_wins(tmp_path):
    lock = tmp_path / "lock"
    write_holder(lock, start=5.0)
    pipe = subprocess.PIPE
    rivals = [python("-c", RIVAL, str(lock), stdin=pipe, stdout=pipe) for _ in range(4)]
    assert [rival.stdout.readline() for rival in rivals] == ["ready\n"] * 4
    for rival in rivals:
        rival.stdin.write("now\n")
        rival.stdin.flush()
    said = {rival.pid: rival.stdout.readline() for rival in rivals}
    for rival in rivals:
        rival.communicate("")
    winners = [pid for pid, text in said.items() if text.startswith("held")]
    assert len(winners) == 1
    assert f"held after process {os.getpid()} on" in said[winners[0]]
    for pid, text in said.items():
        # One that came in the very moment before the winner had signed is told the old name.
        assert pid == winners[0] or text.startswith(f"refused: {tmp_path} is being swept by ")
    with folder_lock(lock) as dead:
        assert dead is None


def test_a_lock_that_is_removed_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    flock, calls = locking.fcntl.flock, []

    def somebody_removes_it(*arguments):
        if not calls:
            lock.unlink()
        calls.append(arguments)
        return flock(*arguments)

    monkeypatch.setattr(locking.fcntl, "flock", somebody_removes_it)
    with folder_lock(lock):
        assert len(calls) == 2
        with pytest.raises(FolderError, match="is being swept by"), folder_lock(lock):
            pass


# -- readers --------------------------------------------------------------------------------------


def read_all(folder):
    """What a reader sees at one moment: each trial's metrics, by point and number."""
    found = {}
    results = load(folder)
    for place, (point, numbers) in enumerate(zip(results, results.trial_numbers, strict=True)):
        columns = np.array([getattr(point, metric) for metric in METRICS])
        found |= {(place, int(n)): columns[:, k].tobytes() for k, n in enumerate(numbers)}
    return found


def test_a_reader_beside_a_sweep_sees_whole_outcomes_and_no_fewer_than_before(tmp_path):
    seen, faults, stop = [], [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.append(read_all(tmp_path))
                see_models(tmp_path)
            except FolderError as error:  # it has not begun
                if seen:
                    faults.append(error)
            except Exception as error:  # noqa: BLE001 - told to the main thread
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        run(tmp_path, sweeper.Grid(trials=4, hidden=[2, 3]))
    finally:
        stop.set()
        reader.join()
    assert not faults
    final = read_all(tmp_path)
    assert len(final) == 8
    assert all(one.items() <= final.items() for one in seen), "half an outcome"
    counts = [len(one) for one in seen]
    assert counts == sorted(counts)


def see_models(folder):
    """Every outcome that can be read has its model on disk already."""
    with Store.read(Paths(folder).database) as store, store.snapshot():
        ids = {signature: point_id for point_id, signature in store.signatures().items()}
        for outcome in store.outcomes("stage = ?", (TRIAL,)):
            model = Paths(folder).model(ids[outcome.point], outcome.number)
            assert str(unpack_arrays(outcome.arrays)["model_sha256"]) == sha256_of_file(model)


# -- what is not the same -------------------------------------------------------------------------

READS_A_FILE = """
import blobs, pathlib, torch
from blobs import model, loss, accuracy_style
def dataset():
    torch.manual_seed(int(pathlib.Path(__file__).with_name("data.txt").read_text()))
    x, y = torch.randn(40, 2), torch.arange(40) % 2
    data = torch.utils.data.TensorDataset(x + y[:, None], y)
    return torch.utils.data.random_split(data, [30, 10])
"""


@pytest.fixture
def problem(tmp_path):
    (tmp_path / "data.txt").write_text("1")
    path = tmp_path / "reads_a_file.py"
    path.write_text(READS_A_FILE)
    return path


def test_other_data_is_refused_before_anything_is_trained(problem, tmp_path):
    selector = {"trials": 1, "hidden": [2]}
    first = run(tmp_path / "out", sweeper.Grid(**selector), problem)
    problem.with_name("data.txt").write_text("2")
    with pytest.raises(FolderError, match=r"other data: dataset\(\) does not return what it did"):
        run(tmp_path / "out", sweeper.Grid(**selector), problem)
    problem.with_name("data.txt").write_text("1")
    again = run(tmp_path / "out", sweeper.Grid(**selector), problem)
    assert again[0].loss_val.tobytes() == first[0].loss_val.tobytes()


READS_TEXT = """
import blobs, pathlib, torch
from torch import nn
from blobs import loss, accuracy_style
def dataset():
    word = pathlib.Path(__file__).with_name("data.txt").read_text()
    items = [({"text": word + str(n), "x": torch.randn(2)}, n % 2) for n in range(40)]
    return items[:30], items[30:]
class Model(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.inner = blobs.model(hidden)
    def forward(self, x):
        lengths = torch.tensor([float(len(text)) for text in x["text"]])
        return self.inner(x["x"] + lengths[:, None])
model = Model
"""


def test_text_that_changed_is_other_data(tmp_path):
    selector = {"trials": 1, "hidden": [2]}
    path = tmp_path / "reads_text.py"
    path.write_text(READS_TEXT)
    (tmp_path / "data.txt").write_text("one")
    first = run(tmp_path / "out", sweeper.Grid(**selector), path)
    assert not first.failures
    (tmp_path / "data.txt").write_text("two")
    with pytest.raises(FolderError, match=r"other data: dataset\(\) does not return what it did"):
        run(tmp_path / "out", sweeper.Grid(**selector), path)
    (tmp_path / "data.txt").write_text("one")
    again = run(tmp_path / "out", sweeper.Grid(**selector), path)
    assert again[0].loss_val.tobytes() == first[0].loss_val.tobytes()


HANDLES = "def handlers(trainer, evaluator, trial): pass\n"


def test_changed_code_is_refused_or_allowed_noted_and_shown(problem, tmp_path, capsys):
    folder = tmp_path / "out"
    usual = ("--grid", "hidden=2", "--trials", "1", "--cores", "1")
    usual += ("--hparams", "fastest", "--set", "cycles=1", "--set", "cycle_epochs=2")
    command = ["run", str(problem), *usual, "--backend", "inline", "--folder", str(folder)]
    # What handlers do is not seen by any fingerprint.
    problem.write_text(READS_A_FILE + HANDLES)
    assert cli._run_command_line(command) == 0
    problem.write_text(READS_A_FILE + HANDLES + "better = True\n")
    assert cli._run_command_line(command) == 2
    assert "holds results of other code" in capsys.readouterr().err
    assert cli._run_command_line([*command, "--allow-changed-code"]) == 0
    note = "the problem's code changed during this sweep, and that was allowed"
    assert note in capsys.readouterr().out
    for name in ("show", "status"):
        assert cli._run_command_line([name, str(folder)]) == 0
        assert note in capsys.readouterr().out
    assert note in str(load(folder).summary())
    with Store.read(folder / "sweep.db") as store:
        query = "SELECT value FROM events WHERE kind = 'code_changed'"
        (event,) = store.connection.execute(query).fetchall()
    assert json.loads(event[0]) == {"sha256": sha256_of_file(problem), "files": [problem.name]}
