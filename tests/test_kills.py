"""Real processes, killed at every moment and in every state; their jobs are made up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import psutil
import pytest

from noop import STATES
from sweeper.run.backends import local
from sweeper.run.processes import server
from sweeper.store.database.store import Store
from sweeping import check_nothing_was_repeated, processes_with, python
from tests.noop import sweep
from toys import results_in

ROOT = Path(__file__).parents[1]


def driver(folder, stdout=None, environment=None, **options):
    """A driver's process, and the mark of all that it starts."""
    mark = uuid.uuid4().hex
    arguments = ("-m", "tests.noop", str(folder), json.dumps(options))
    environment = {"SWEEPER_TEST_MARK": mark, **(environment or {})}
    process = python(*arguments, cwd=ROOT, environment=environment, stdout=stdout)
    return process, mark


def finish(process, mark):
    """The exit code; at the end of the driver nothing of it is left."""
    code = process.wait(100)
    _, alive = psutil.wait_procs(processes_with(mark), timeout=10)
    assert not alive, "processes outlive their driver"
    return code


def results(folder):
    with Store.read(folder / "sweep.db") as store:
        return results_in(store)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiet")
    assert finish(*driver(folder)) == 0
    return results(folder)


# -- the driver -----------------------------------------------------------------------------------


def test_killed_before_and_after_every_commit_it_goes_on(quiet, tmp_path):
    process, _ = driver(tmp_path, subprocess.PIPE, do="kill everywhere")
    moments = int(process.communicate()[0])
    assert moments > 50, "there are two moments for each outcome at least"
    for at in range(moments):
        assert results(tmp_path / str(at)) == quiet, f"killed at moment {at}"
        check_nothing_was_repeated(tmp_path / str(at))


def test_killed_twenty_times_in_a_row_it_goes_on(quiet, tmp_path):
    assert finish(*driver(tmp_path, do="kill often", times=20)) == 0
    assert results(tmp_path) == quiet
    check_nothing_was_repeated(tmp_path)


@pytest.mark.parametrize("at", [2, 5, 8])
def test_killed_with_workers_it_goes_on(quiet, tmp_path, at):
    options = {"backend": "local", "slots": 3}
    assert finish(*driver(tmp_path, action="SIGKILL", at=at, **options)) == -signal.SIGKILL
    assert finish(*driver(tmp_path, **options)) == 0
    assert results(tmp_path) == quiet
    check_nothing_was_repeated(tmp_path)


INTERRUPTED = 3
"""The exit code of `tests.noop`."""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_told_to_stop_in_any_way_it_stops_and_goes_on(quiet, tmp_path, name):
    options = {"backend": "local", "slots": 2}
    assert finish(*driver(tmp_path, action=name, at=5, **options)) == INTERRUPTED
    assert finish(*driver(tmp_path, **options)) == 0
    assert results(tmp_path) == quiet
    check_nothing_was_repeated(tmp_path)


def test_stopped_and_continued_it_goes_on(quiet, tmp_path):
    process, mark = driver(tmp_path, action="SIGSTOP", at=5, backend="local", slots=2)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    others = [one for one in processes_with(mark) if one.pid != process.pid]
    assert others
    for one in others:  # as a laptop is closed
        one.suspend()
    for one in [*others, psutil.Process(process.pid)]:
        one.resume()
    assert finish(process, mark) == 0
    assert results(tmp_path) == quiet


# -- workers --------------------------------------------------------------------------------------


def test_a_worker_killed_at_any_moment_of_a_job_costs_a_try_and_no_result(tmp_path):
    moments = ("loading", "training", "writing", "sending", "idle")
    context = {"marks": str(tmp_path), "dies": {str(n): when for n, when in enumerate(moments)}}
    asks = [((n,), 3) for n in range(len(moments))]
    kept = {}
    for name, given in (("quiet", {}), ("killed", context)):
        folder = tmp_path / name
        process = driver(folder, asks=asks, context=given, backend="local", slots=2)
        assert finish(*process) == 0
        kept[name] = results(folder)
    assert kept["killed"] == kept["quiet"]
    assert {mark.name for mark in tmp_path.iterdir() if mark.is_file()} == set(moments)
    with Store.read(tmp_path / "killed/sweep.db") as store:
        lost = store.connection.execute("SELECT value FROM events WHERE kind = 'lost'").fetchall()
    causes = [json.loads(value)["cause"]["message"] for (value,) in lost]
    # Whoever dies idle may have been handed nothing.
    assert len(causes) in (len(moments) - 1, len(moments))
    assert set(causes) == {"the worker was ended by signal 9 (SIGKILL)"}


@pytest.mark.parametrize("how", ["driver", "group", "terminate", "server"])
def test_no_worker_and_no_child_of_one_outlives_its_driver(tmp_path, how):
    process, mark = driver(tmp_path, subprocess.PIPE, do="keep workers")
    assert process.stdout.readline() == "ready\n"
    found = processes_with(mark)
    assert sum(one.name() == "sleep" for one in found) == len(STATES)
    match how:
        case "driver":
            process.kill()
        case "group":
            os.killpg(process.pid, signal.SIGKILL)
        case "terminate":
            process.terminate()
        case "server":
            (server,) = psutil.Process(process.pid).children()
            server.kill()
            said = [process.stdout.readline() for _ in STATES]
            assert {line.partition(": ")[2] for line in said} == {
                "the worker ended together with the fork server\n"
            }
    _, alive = psutil.wait_procs(found, timeout=10)
    assert [one.name() for one in alive] == []
    process.wait()


@pytest.mark.parametrize("when", ["importing", "asked"])
def test_a_fork_server_killed_as_a_worker_is_asked_of_it_is_followed_by_another(
    quiet, tmp_path, monkeypatch, when
):
    fork, send_fds, killed = server.ForkServer.fork, socket.send_fds, []

    def end(process, action):
        if not killed:
            killed.append(process.pid)
            process.send_signal(signal.SIGSTOP)  # so that it does not read what it is sent
            found = action()
            process.kill()
            return found
        return action()

    def asked(self, *fds):
        if when == "importing":
            end(self._process, lambda: None)
            return fork(self, *fds)
        monkeypatch.setattr(
            socket, "send_fds", lambda *sent: end(self._process, lambda: send_fds(*sent))
        )
        return fork(self, *fds)

    monkeypatch.setattr(server.ForkServer, "fork", asked)
    local._close_servers()
    assert not sweep(tmp_path, {"backend": "local"})
    assert len(killed) == 1
    assert results(tmp_path) == quiet
    local._close_servers()


def test_a_driver_killed_while_its_fork_server_imports_leaves_nothing(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process, mark = driver(tmp_path, do="import", environment={"SWEEPER_TEST_FIFO": str(fifo)})
    assert fifo.read_text() == "importing"
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(processes_with(mark), timeout=10)
    assert not alive
