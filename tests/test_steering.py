"""A sweep looked at, stopped and removed by other processes: the handle, and the command line."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import handled
import programs
import sweeper
from sweeper import cli
from sweeper.api.detach import _located
from sweeper.code.importing import find_ref, import_module
from sweeper.disk.locking import Holder, folder_lock, read_lock
from sweeper.errors import FolderError, ParamError, StillRunningError, UsageError
from sweeper.program.objective.locate import find_objective, is_objective, load_objective
from sweeper.run.processes import stopping
from sweeper.store.paths import Paths
from sweeping import HERE, outcomes, python

PATIENCE = 120.0
"""Seconds after which a condition that was to come is given up."""


def until(condition, *what):
    """Wait until `condition` gives something, and return that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.01)
    return found


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.run_and_exit(list(map(str, arguments)))
    return ended.value.code, *capsys.readouterr()


def run(folder, **options):
    options = {"backend": "inline", "trials": 2, "progress": False, **options}
    return sweeper.sweep(programs.raising, [{"x": 1}, {"x": 2}, {"x": 3}], folder=folder, **options)


@pytest.fixture
def gate(tmp_path):
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@pytest.fixture
def waiting(tmp_path, gate):
    """The handle of a detached sweep of which two trials have begun and wait."""
    found = sweeper.sweep(
        handled.waits,
        [{"x": 1, "gate": str(gate)}, {"x": 2, "gate": str(gate)}],
        folder=tmp_path / "f",
        trials=2,
        total_cores=1,
        detach=True,
    )
    try:
        until(lambda: found.progress().running)
        yield found
    finally:
        found.stop(PATIENCE)


# -- progress -------------------------------------------------------------------------------------


def test_a_sweep_that_rests_says_how_far_it_has_come(tmp_path):
    results = run(tmp_path)
    found = sweeper.open(tmp_path)
    progress = found.progress()
    assert (progress.state, progress.driver, progress.ends) == ("finished", None, None)
    assert (progress.points, progress.done) == (3, 3)
    assert (progress.trials_done, progress.trials_asked, progress.trials_failed) == (6, 6, 2)
    assert (progress.running, progress.slots, progress.seconds_left) == ((), 1, 0.0)
    assert progress.trials_per_hour > 0
    assert progress.workload == "programs.raising"
    assert list(map(str, found.failures)) == list(map(str, results.failures))
    assert len(found.failures) == 2


def test_the_best_so_far_is_that_of_the_results(tmp_path):
    found = sweeper.open(tmp_path)
    metrics = {"acc": "maximize"}
    results = sweeper.sweep(
        programs.drifting,
        [{"x": 1}, {"x": 3}, {"x": 2}],
        folder=tmp_path,
        trials=3,
        metrics=metrics,
        backend="inline",
        progress=False,
    )
    best = found.progress().best
    assert best.params == {"x": 3} == results.best().params
    assert best.mean == results.best().metrics["acc"].mean()
    assert best.trials == 3


def test_without_a_sweep_there_is_no_progress(tmp_path):
    with pytest.raises(FolderError, match="holds no sweep"):
        sweeper.open(tmp_path).progress()


def test_a_name_that_is_not_known_is_told_in_terms_of_what_is_swept(tmp_path):
    run(tmp_path)
    with pytest.raises(UsageError, match=r"y=1: program programs\.raising had no such parameter"):
        sweeper.open(tmp_path).add({"y": 1}, trials=1)


# -- detached -------------------------------------------------------------------------------------


def test_a_detached_sweep_runs_is_stopped_and_goes_on(waiting, tmp_path, gate, capsys):
    progress = waiting.progress()
    assert (progress.state, progress.trials_done, progress.trials_asked) == ("running", 0, 4)
    ((slot, does, since),) = progress.running
    assert (slot, progress.slots) == (0, 1)
    assert does.startswith("x=1 gate=")
    assert since <= progress.seen
    holder = read_lock(tmp_path / "f/lock")
    assert progress.driver == str(holder)
    assert os.getsid(holder.pid) == holder.pid != os.getsid(0)
    with pytest.raises(FolderError, match=f"process {holder.pid} .*: stop it first"):
        waiting.remove(ask=False)
    code, said, _ = command(capsys, "list", tmp_path, "--json")
    (told,) = json.loads(said)
    assert (code, told["state"], told["trials_asked"]) == (0, "running", 4)
    assert len(told["running"]) == 1
    code, said, _ = command(capsys, "stop", tmp_path / "f")
    assert code == 0
    assert "stopped; it is resting: trials 0/4" in said
    until(lambda: not is_running(holder))
    assert waiting.stop() is False
    assert "run the same command again to resume" in (tmp_path / "f/driver.log").read_text()
    handled.open_gate(gate)
    points = [{"x": 1, "gate": str(gate)}, {"x": 2, "gate": str(gate)}]
    again = sweeper.sweep(handled.waits, points, folder=tmp_path / "f", trials=2, detach=True)
    until(lambda: again.progress().state == "finished")
    assert [point.metrics["loss"].tolist() for point in again.results()] == [[1, 1], [2, 2]]
    assert again.is_finished


def is_running(holder):
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(holder.pid)
        return process.create_time() == holder.start and process.status() != "zombie"
    return False


def test_errors_before_the_start_are_raised_where_it_was_called(tmp_path):
    def detached(selector=({"x": 1},), objective=programs.number, **options):
        options = {"trials": 1, "folder": tmp_path / "f", "detach": True, **options}
        return sweeper.sweep(objective, list(selector), **options)

    with pytest.raises(ParamError, match="no parameter 'y'"):
        detached([{"y": 1}])
    with pytest.raises(UsageError, match="has no nothing"):
        detached(objective="programs:nothing")
    with pytest.raises(UsageError, match=r"selector=.*cannot be carried to another process"):
        detached([{"x": lambda: 1}])
    assert not (tmp_path / "f/driver.log").exists()


def test_what_is_swept_is_carried_as_another_process_finds_it():
    (number,) = (pickle.loads(pickle.dumps(_located(given))) for given in (programs.number,))
    assert number == find_objective("programs:number") == find_objective(number)
    assert is_objective(number)
    double = pickle.loads(pickle.dumps(_located(lambda x: 2 * x)))
    assert load_objective(double)[1](3) == 6
    assert _located(programs) == "programs" == _located("programs")
    typed = {"__name__": "__main__", "located": _located}
    exec("def model(): return 7\nproblem = located(__name__)", typed)
    problem = pickle.loads(pickle.dumps(typed["problem"]))
    assert import_module(find_ref(problem)).model() == 7


def test_what_only_the_main_script_has_is_refused_with_words(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sweeper\n"
        "class Kind: pass\n"
        "def objective(kind): return 1\n"
        "if __name__ == '__main__':\n"
        f"    sweeper.sweep(objective, [(Kind,)], trials=1, folder={str(tmp_path / 'f')!r},"
        " detach=True)\n"
    )
    process = python(str(script), stderr=subprocess.PIPE)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert "UsageError: an argument cannot be carried to another process" in said
    assert "into a module" in said


# -- stop -----------------------------------------------------------------------------------------


def test_stop_says_where_none_runs(tmp_path, capsys):
    assert sweeper.open(tmp_path).stop() is False
    assert command(capsys, "stop", tmp_path)[0] == 2
    run(tmp_path)
    code, said, _ = command(capsys, "stop", tmp_path)
    assert (code, f"no sweep runs in {tmp_path}; it is finished" in said) == (0, True)


def holds(folder, **changes):
    """Write a lock as another process would."""
    me = psutil.Process()
    said = {"host": socket.gethostname(), "pid": me.pid, "start": me.create_time(), **changes}
    folder.mkdir(exist_ok=True)
    Paths(folder).lock.write_text(json.dumps(said))


@pytest.fixture
def bystander():
    """A process that an aimless signal would end."""
    process = python("-c", "import sys; sys.stdin.read()", stdin=subprocess.PIPE)
    yield process
    assert process.poll() is None
    process.communicate()
    assert process.returncode == 0


def test_stop_leaves_processes_alone_that_drive_no_sweep(tmp_path, bystander):
    start = psutil.Process(bystander.pid).create_time()
    holds(tmp_path, pid=bystander.pid, start=start - 1)
    assert sweeper.open(tmp_path).stop() is False
    holds(tmp_path, pid=bystander.pid, start=start)  # a lock that nobody holds
    assert sweeper.open(tmp_path).stop() is False
    # It may end, and another get its pid, after the lock was read.
    stopping._signal(Holder(socket.gethostname(), bystander.pid, start - 1), tmp_path)


def test_stop_leaves_a_process_alone_whose_sweep_is_not_in_its_main_thread(tmp_path):
    with pytest.raises(FolderError, match="in a thread that no signal reaches"):
        in_thread(lambda: sweeper.open(tmp_path).stop(), tmp_path)


def in_thread(do, folder):
    """Call `do` while a thread of this process holds the lock of `folder`."""
    held, enough = threading.Event(), threading.Event()

    def hold():
        with folder_lock(Paths(folder).lock):
            held.set()
            enough.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(PATIENCE)
        return do()
    finally:
        enough.set()
        thread.join()


def test_stop_does_not_reach_to_another_host(tmp_path):
    holds(tmp_path, host="elsewhere")
    with pytest.raises(FolderError, match=r"on elsewhere.*stop it there"):
        sweeper.open(tmp_path).stop()


def test_a_driver_that_does_not_stop_in_time_is_named(tmp_path):
    deaf = (
        "import fcntl, signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "lock = open(sys.argv[1], 'a')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "input()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = python("-c", deaf, str(tmp_path / "lock"), **pipes)
    process.stdout.readline()
    holds(tmp_path, pid=process.pid, start=psutil.Process(process.pid).create_time())
    with pytest.raises(StillRunningError, match=f"still being swept by process {process.pid}"):
        sweeper.open(tmp_path).stop(timeout=0)
    process.communicate("\n")


def test_a_dead_driver_that_nobody_has_buried_drives_nothing(tmp_path):
    process = python("-c", "input()", stdin=subprocess.PIPE)
    start = psutil.Process(process.pid).create_time()
    holds(tmp_path, pid=process.pid, start=start)
    assert read_lock(tmp_path / "lock").pid == process.pid
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(process.pid).create_time() == start
    assert read_lock(tmp_path / "lock") is None
    process.communicate()


# -- remove ---------------------------------------------------------------------------------------


def test_remove_deletes_what_a_sweep_wrote_and_nothing_else(tmp_path, monkeypatch):
    folder = tmp_path / "f"
    run(folder)
    run(folder, resume=False)
    (folder / "thesis.tex").touch()
    found = sweeper.open(folder)
    asked = []

    def answer(said):
        def reply(question):
            asked.append(question)
            return said

        monkeypatch.setattr("builtins.input", reply)

    answer("")
    assert found.remove() is False
    assert len(found.results()) == 3
    answer("y")
    assert found.remove() is True
    assert asked == [f"Delete the sweep of programs.raising in {folder}, with 6 trials? [y/N] "] * 2
    assert list(folder.iterdir()) == [folder / "thesis.tex"]
    with pytest.raises(FolderError, match="holds no sweep, but other things"):
        found.remove(ask=False)
    (folder / "thesis.tex").unlink()
    run(folder)
    assert found.remove(ask=False) is True
    assert not folder.exists()
    with pytest.raises(FolderError, match="there is no such folder"):
        found.remove(ask=False)


def test_remove_follows_no_link_and_asks_where_it_can(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    run(tmp_path / "f")
    (tmp_path / "f/history").symlink_to(tmp_path / "kept")
    (tmp_path / "g").symlink_to(tmp_path / "f")
    with pytest.raises(FolderError, match="symbolic link"):
        sweeper.open(tmp_path / "g").remove(ask=False)
    ask = f"import sweeper; sweeper.open({str(tmp_path / 'f')!r}).remove()"
    process = python("-c", ask, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert "give ask=False" in process.communicate()[1]
    assert sweeper.open(tmp_path / "f").remove(ask=False)
    assert (tmp_path / "kept/file").exists()


# -- list -----------------------------------------------------------------------------------------


def run_by_hand(folder):
    """A sweep in `folder` that has run and rests: it had no points then, and has one now."""
    found = sweeper.open(folder)
    found.finish()
    sweeper.sweep(
        programs.raising, sweeper.ManualSearch(), folder=folder, progress=False, backend="inline"
    )
    found.add({"x": 1}, trials=1)


def test_list_has_every_sweep_below_a_folder_and_says_which_cannot_be_read(tmp_path, capsys):
    assert "no sweeps in" in command(capsys, "list", tmp_path)[1]
    run(tmp_path / "a/b")
    run(tmp_path / "a/b", resume=False)
    run_by_hand(tmp_path / "c")
    code, said, _ = command(capsys, "list", tmp_path)
    head, *lines = said.splitlines()
    assert code == 0
    assert head.split()[:3] == ["folder", "sweeps", "state"]
    assert [line.split()[:5] for line in lines] == [
        [str(tmp_path / "a/b"), "programs.raising", "finished", "6", "of"],
        [str(tmp_path / "c"), "programs.raising", "resting", "0", "of"],
    ]
    (tmp_path / "d").mkdir()
    (tmp_path / "d/sweep.db").write_text("no database")
    code, said, _ = command(capsys, "list", tmp_path)
    assert code == 1
    assert f"{tmp_path / 'd'}" in said.splitlines()[-1]
    assert "unreadable" in said.splitlines()[-1]
    assert command(capsys, "list", tmp_path / "e")[0] == 2


# -- terminals ------------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal, with a shell that runs one line in it."""

    def __init__(self, line):
        self.shell, self._end = pty.fork()
        if self.shell == 0:
            os.environ |= {
                "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
                "COLUMNS": "120",
                "TERM": "xterm",
            }
            os.execv("/bin/sh", ["sh", "-c", line])
        self.printed = ""

    def read(self):
        """Read what the terminal shows, if there is something; False: all its users have ended."""
        if not select.select([self._end], [], [], 0.1)[0]:
            return True
        try:
            self.printed += os.read(self._end, 1 << 16).decode(errors="replace")
        except OSError:
            return False
        return True

    def wait_for(self, text):
        """Wait until the terminal has shown this text."""

        def shown():
            there = self.read()
            assert there or text in self.printed, self.printed
            return text in self.printed

        until(shown, text, self.printed)

    def type(self, keys):
        os.write(self._end, keys)

    def end(self):
        """The exit code of the shell, once it has ended by itself."""
        until(lambda: not self.read())
        os.close(self._end)
        return os.waitstatus_to_exitcode(os.waitpid(self.shell, 0)[1])

    def close(self):
        """Close it, as a window is closed: the kernel sends SIGHUP."""
        os.close(self._end)
        return os.waitstatus_to_exitcode(os.waitpid(self.shell, 0)[1])


def sweeper_line(*arguments):
    return " ".join([sys.executable, "-m", "sweeper", *map(str, arguments)])


def test_a_detached_sweep_outlives_its_terminal_and_is_looked_at_in_another(tmp_path, gate):
    folder = tmp_path / "f"
    grid = ("--grid", "x=1,2", "--grid", f"gate={gate}", "--trials", 2, "--folder", folder)
    line = sweeper_line("run", "handled:waits", *grid, "--metric", "loss:min")
    first = Terminal(f"{line} --detach; echo begun; read forever")
    first.wait_for("begun\r\n")
    assert f"sweeper attach {folder}" in first.printed
    holder = read_lock(folder / "lock")
    assert first.close() == -signal.SIGHUP
    assert is_running(holder)
    second = Terminal("exec " + sweeper_line("attach", folder))
    second.wait_for("0 of 4")
    second.wait_for("x=1 gate=")
    second.type(b"\x03")
    second.wait_for("the sweep goes on")
    assert second.end() == 0
    assert is_running(holder)
    third = Terminal("exec " + sweeper_line("attach", folder))
    third.wait_for("0 of 4")
    assert sweeper.open(folder).stop(PATIENCE)
    third.wait_for("the sweep has stopped; finished work is kept")
    assert third.end() == 0
    until(lambda: not is_running(holder))
    handled.open_gate(gate)
    fourth = Terminal("exec " + line)
    fourth.wait_for("files are in")
    assert fourth.end() == 0
    assert len(outcomes(folder)) == 4
    assert sweeper.open(folder).is_finished


def test_a_sweep_in_a_closed_terminal_stops_and_keeps_its_work(tmp_path, gate):
    folder = tmp_path / "f"
    grid = ("--grid", "x=1,2", "--grid", f"gate={gate}", "--folder", folder)
    terminal = Terminal("exec " + sweeper_line("run", "handled:waits", *grid, "--total-cores", 1))
    terminal.wait_for("x=1 gate=")
    holder = read_lock(folder / "lock")
    assert terminal.close() in (130, 1, -signal.SIGHUP)
    until(lambda: not is_running(holder))
    assert read_lock(folder / "lock") is None
    assert sweeper.open(folder).progress().state == "resting"


def test_options_that_mean_nothing_for_a_detached_sweep_are_refused(tmp_path, capsys):
    for option in ("--json", "--dry-run"):
        code, _, said = command(
            capsys, "run", "programs:number", "--grid", "x=1", "--detach", option
        )
        assert code == 2
        assert f"--detach: {option} prints" in said


def test_a_detached_command_that_is_wrong_says_so_with_its_exit_code(tmp_path, capsys):
    grid = ("--grid", "y=1", "--folder", tmp_path)
    code, said, complaint = command(capsys, "run", "programs:number", *grid, "--detach")
    assert (code, said) == (2, "")
    assert "no parameter 'y'" in complaint
    assert not Path(tmp_path / "driver.log").exists()
