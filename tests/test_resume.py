"""Killed and gone on with: the same bits, and nothing that had finished trained twice."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import uuid
from collections import Counter

import psutil
import pytest
from torch import nn

import blobs
import sweeper
from sweeper.errors import FolderError, SweepInterrupted
from sweeper.records import Finished, Told
from sweeper.search.reading.names import names_of
from sweeper.store.database.damage import seal
from sweeper.store.database.store import Store
from sweeper.train.tuning.names import LADDER
from sweeping import (
    assert_same_bits,
    check_nothing_was_repeated,
    outcomes,
    processes_with,
    python,
    replicas_started,
    run,
)

# The driver: a sweep on every core, which kills itself and its process group, or is told to stop,
# right after it has made its n-th batch of decisions and events durable.
DRIVER = """
import os, signal, sys
import blobs, sweeper
from sweeper.store.database.damage import seal
from sweeper.store.database.store import Store

folder, action, when = sys.argv[1], sys.argv[2], int(sys.argv[3])
append, count = Store.append, 0

def counted(self, records):
    global count
    append(self, records)
    count += 1
    if count == when:
        if action == "kill":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), getattr(signal, action))

Store.append = counted
grid = sweeper.Grid(trials=3, hidden=[2, 4], dropout=[0.0, 0.5])
sweeper.sweep("blobs", grid, 2, blobs.QUICK, folder, progress=False)
"""


def drive(folder, action="none", when=0):
    mark = uuid.uuid4().hex
    process = python(
        "-c",
        DRIVER,
        str(folder),
        action,
        str(when),
        environment={"SWEEPER_TEST_MARK": mark},
        stderr=subprocess.PIPE,
    )
    _, err = process.communicate(timeout=100)
    _, alive = psutil.wait_procs(processes_with(mark), timeout=10)
    assert not alive, "processes outlive their driver"
    return process.returncode, err


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    return folder, run(folder)


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_bits(quiet, tmp_path):
    # Ten batches: all of it takes sixteen or more where the machine is quick.
    for when in (2, 3, 2, 3):
        code, _ = drive(tmp_path, "kill", when)
        assert code == -signal.SIGKILL
    code, err = drive(tmp_path)
    assert code == 0, err
    assert_same_bits(quiet[1], sweeper.load(tmp_path))
    assert outcomes(tmp_path) == outcomes(quiet[0])
    check_nothing_was_repeated(tmp_path)
    started = replicas_started(tmp_path)
    assert len(started) > len(set(started)), "no kill hit a replica: the test shows nothing"


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.slow), "SIGTERM"])
def test_told_to_stop_it_keeps_what_had_finished_and_says_how_to_go_on(quiet, tmp_path, name):
    code, err = drive(tmp_path, name, 8)
    assert code != 0
    assert "SweepInterrupted" in err
    assert "trials are done and kept in" in err
    assert "run the same command again to resume" in err
    assert (tmp_path / "points/funcres.pt").exists()
    kept = outcomes(tmp_path)
    assert kept.items() <= outcomes(quiet[0]).items()
    assert_same_bits(quiet[1], run(tmp_path))
    check_nothing_was_repeated(tmp_path)


def test_an_interrupt_ends_a_loop_that_goes_on_after_failures(tmp_path, monkeypatch):
    begun = []

    def interrupted(self, records):
        append(self, records)
        if not begun:
            begun.append(signal.raise_signal(signal.SIGINT))

    def sweep_and_go_on():
        with contextlib.suppress(Exception):
            run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))

    append = Store.append
    monkeypatch.setattr(Store, "append", interrupted)
    with pytest.raises(SweepInterrupted, match="trials are done and kept in"):
        sweep_and_go_on()
    assert not run(tmp_path, sweeper.Grid(trials=1, hidden=[2])).failures


def test_interrupted_within_a_round_of_probes_it_ends_with_the_same_bits(tmp_path, monkeypatch):
    def swept(folder, **options):
        selector = sweeper.Grid(trials=2, hidden=[2], nonlinearity=[nn.Tanh, nn.RReLU])
        return run(folder, selector, hparams=blobs.LADDER, **options)

    expected = swept(tmp_path / "quiet")
    folder, append, left = tmp_path / "out", Store.append, []

    def interrupted(self, records):
        records = list(records)
        append(self, records)
        ended = [one.outcome.stage for one in records if isinstance(one, Finished)]
        left.extend(stage for stage in ended if stage.startswith(LADDER))
        if len(left) >= 4:
            left.clear()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Store, "append", interrupted)
    within, ended = 0, False
    while not ended:
        left.clear()
        with contextlib.suppress(SweepInterrupted):
            swept(folder, pack=5)
            ended = True
        within += is_within_a_round(folder)
    assert within >= 2, "no interrupt hit a round: the test shows nothing"
    assert_same_bits(expected, sweeper.load(folder))
    assert outcomes(folder) == outcomes(tmp_path / "quiet")
    check_nothing_was_repeated(folder)


def is_within_a_round(folder):
    """Whether some probes of a round of a point have ended, and others have not."""
    with Store.read(folder / "sweep.db") as store:
        steps = store.recorded("").steps
        known = Counter((found.point, found.stage) for found in store.outcomes())
    return any(
        0 < known[signature, step.stage] < step.replicas for signature, step in steps.items()
    )


# Holds a folder's lock as a driver does, says so, and waits to be ended.
HOLDER = """
import sys
from pathlib import Path
from sweeper.disk.locking import folder_lock
with folder_lock(Path(sys.argv[1]) / "lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path, capsys):
    holder = python("-c", HOLDER, str(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == "held\n"
    selector = sweeper.Grid(trials=1, hidden=[2])
    with pytest.raises(FolderError, match=rf"process {holder.pid} on .*, started \d{{4}}-"):
        run(tmp_path, selector)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    sweeper.sweep("blobs", selector, 1, blobs.QUICK, tmp_path, backend="inline", progress=True)
    assert f"took over the lock that process {holder.pid}" in capsys.readouterr().err


# -- the name of a selector's log -----------------------------------------------------------------


def raced(folder):
    points = [{"hidden": 2}, {"hidden": 4}]
    race = sweeper.Race(sweeper.FixedSweep.with_fixed_trials(points, 1), 5)
    return run(folder, race)


def log_in(folder, name):
    with Store.read(folder / "sweep.db") as store:
        return store.log(name)


def rename_log(folder, name):
    """Keep all that the log says under another name, as a release before did."""
    connection = sqlite3.connect(folder / "sweep.db")
    with connection:
        rows = connection.execute("SELECT seq, kind, point, value FROM log").fetchall()
        for seq, *said in rows:
            crc = seal(name, *said)
            connection.execute(
                "UPDATE log SET selector = ?, crc = ? WHERE seq = ?", (name, crc, seq)
            )
    connection.close()
    assert rows


def test_a_log_under_an_earlier_name_goes_on_and_is_replayed(tmp_path, monkeypatch):
    earlier = "sweeper.search.race:Race"
    expected, folder, append = raced(tmp_path / "quiet"), tmp_path / "out", Store.append
    stopped = []

    def interrupted(self, records):
        append(self, records)
        told = [entry for entry in self.log("race") if isinstance(entry, Told)]
        if told and not stopped:
            stopped.append(signal.raise_signal(signal.SIGINT))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", interrupted)
        with pytest.raises(SweepInterrupted):
            raced(folder)
    rename_log(folder, earlier)
    begun = log_in(folder, earlier)
    assert 0 < len(begun) < len(log_in(tmp_path / "quiet", "race"))
    assert_same_bits(expected, raced(folder))
    assert log_in(folder, earlier)[: len(begun)] == begun
    assert log_in(folder, earlier) == log_in(tmp_path / "quiet", "race")
    assert not log_in(folder, "race")
    check_nothing_was_repeated(folder)


def test_a_selector_is_known_by_the_name_of_its_own_class():
    class Named(sweeper.Race):
        name = "mine"

    class Inherits(sweeper.Race):
        pass

    class Computed(sweeper.Grid):
        name = property(lambda self: "grid")

    here = "test_a_selector_is_known_by_the_name_of_its_own_class.<locals>"
    inner = sweeper.FixedSweep([])
    for selector, names in (
        (inner, ("fixed", "sweeper.search.fixed:FixedSweep")),
        (sweeper.Grid(trials=1), ("grid", "sweeper.search.grid:Grid")),
        (sweeper.Race(inner, 5), ("race", "sweeper.search.race:Race")),
        (Named(inner, 5), ("mine", f"test_resume:{here}.Named")),
        (Inherits(inner, 5), (f"test_resume:{here}.Inherits",)),
        (Computed(trials=1), (f"test_resume:{here}.Computed",)),
    ):
        assert names_of(selector)[: len(names)] == names
    assert sweeper.ParamSelector.name == ""
