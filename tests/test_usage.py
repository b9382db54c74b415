"""What trials of a program used: measured in their worker, stored apart, and shown."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import psutil
import pytest

import sweeper
import using
from sweeper import cli
from sweeper.program.records import usage
from sweeper.records import USAGE
from sweeper.results.table import USAGE_COLUMNS
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.usage import read_usage

MIB = 2**20


def run(objective, folder, points, **options):
    options = {"trials": 1, "progress": False, **options}
    return sweeper.sweep(objective, points, folder=folder, **options)


def test_each_trial_has_its_own_peak_of_memory(tmp_path):
    points = [{"mib": 200}, {"mib": 0}, {"mib": 100}]
    results = run(using.allocates, tmp_path, points, total_cores=1)
    large, least, middle = (used.peak_bytes for (used,) in results.usage)
    assert 180 * MIB < large - least < 230 * MIB
    assert 80 * MIB < middle - least < 130 * MIB


def test_processor_time_is_that_of_the_trial_and_its_children(tmp_path):
    points = [{"seconds": 0.2}, {"seconds": 0.0}]
    results = run(using.works, tmp_path, points, backend="inline")
    much, little = (used.cpu_seconds for (used,) in results.usage)
    assert much >= 0.4 > little


def test_a_child_counts_while_it_lives():
    meter = usage.Meter(usage.read_place())
    hold = f"block = bytearray(100 * {MIB}); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold], **pipes) as child:
        child.stdout.readline()
        children = list(usage._descendants(os.getpid()))
        assert child.pid in children
        both = usage._resident(os.getpid()) + usage._resident(child.pid)
        usage._watch().look()
        child.communicate(b"\n")
    assert json.loads(meter.text())["peak_bytes"] >= both > 100 * MIB
    usage.close()


def test_no_thread_is_left_after_a_sweep_in_this_process(tmp_path):
    before = psutil.Process().num_threads()
    run(using.allocates, tmp_path, [{"mib": 1}], backend="inline")
    assert usage._watch_of.cache_info().currsize == 0
    assert psutil.Process().num_threads() <= before + 1  # it ends by itself


@pytest.fixture
def results(tmp_path):
    return run(using.allocates, tmp_path, [{"mib": 1}, {"mib": 2}], trials=2, backend="inline")


def test_rows_have_it_where_it_is_asked_for(results, tmp_path):
    assert list(results.rows()[0]) == ["mib", "trial", "value"]
    rows = sweeper.load(tmp_path).rows(usage=True)
    assert list(rows[0]) == ["mib", *USAGE_COLUMNS, "trial", "value"]
    cores = " ".join(map(str, sorted(os.sched_getaffinity(0))))
    for row in rows:
        assert (row["host"], row["cores"]) == (socket.gethostname(), cores)
        assert row["started"] <= row["ended"]
        assert row["peak_mib"] > 1
    frame = results.to_dataframe(usage=True)
    assert frame["cpu_seconds"].tolist() == [row["cpu_seconds"] for row in rows]
    chosen = results.where(mib=2)
    assert [row["started"] for row in chosen.rows(usage=True)] == [
        row["started"] for row in rows if row["mib"] == 2
    ]


def test_the_command_line_shows_it(results, tmp_path, capsys):
    def said(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.run_and_exit([*arguments])
        assert ended.value.code == 0
        return capsys.readouterr().out

    head, *lines = said("show", str(tmp_path), "--usage").splitlines()
    assert head.split()[:2] == ["trial", "started"]
    assert len(lines) == 4
    assert lines[0].endswith("mib=1")
    assert " MiB " in lines[0]
    assert said("export", str(tmp_path)).splitlines()[0] == "mib,trial,value"
    with_usage = said("export", str(tmp_path), "--usage").splitlines()[0]
    assert with_usage == f"mib,{','.join(USAGE_COLUMNS)},trial,value"


def test_it_is_ordered_by_a_column_and_cut(results, tmp_path, capsys):
    def said(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.run_and_exit(["show", str(tmp_path), *arguments])
        return ended.value.code, capsys.readouterr()

    used = [one for of_point in results.usage for one in of_point]
    code, printed = said("--usage", "--sort", "started", "--top", "3")
    assert code == 0
    latest = sorted(used, key=lambda one: one.started, reverse=True)[:3]
    lines = printed.out.splitlines()[1:]
    assert [f"{one.ended - one.started:.2f}" for one in latest] == [row.split()[3] for row in lines]
    for arguments, expected in [
        (("--usage", "--sort", "value"), "--usage --sort value: it orders by started, seconds, "),
        (("--usage", "--top", "3"), "--usage --top 3: by what? Give --sort with one of started, "),
        (("--usage", "--top", "0"), "--top 0: it must be a whole number, 1 or more"),
        (("--usage", "--failures"), "--failures and --usage do not go together: --failures goes"),
        (("--failures", "--sort", "value"), "--failures and --sort do not go together"),
        (("--code", "--all"), "--code and --all do not go together: --code goes with no other"),
    ]:
        code, printed = said(*arguments)
        assert code == 2
        assert expected in printed.err


def test_a_trial_that_failed_has_it_too_and_outcomes_are_as_without(tmp_path):
    run(using.fails, tmp_path, [{"mib": 1}], backend="inline")
    with Store.read(Paths(tmp_path).database) as store:
        query = "SELECT value FROM events WHERE kind = ?"
        (told,) = store.connection.execute(query, (USAGE,)).fetchone()
        assert next(iter(store.outcomes())).arrays == b""
    assert json.loads(told)["used"][0]["host"] == socket.gethostname()


def test_a_sweep_without_points_says_so_in_place_of_a_table(tmp_path, capsys):
    run(using.allocates, tmp_path, [], backend="inline")
    with pytest.raises(SystemExit):
        cli.run_and_exit(["show", str(tmp_path)])
    assert capsys.readouterr().out.startswith("no point has been asked for yet\n")


def test_a_sweep_that_is_begun_anew_after_failures_has_that_of_its_own_trials(tmp_path):
    run(using.fails, tmp_path, [{"mib": 1}], backend="inline")
    again = run(using.fails, tmp_path, [{"mib": 1}, {"mib": 2}], backend="inline")
    assert len(again.failures) == 2
    with Store.read(Paths(tmp_path).database) as store:
        query = "SELECT count(*) FROM events WHERE kind = ? AND point IS NULL"
        assert store.connection.execute(query, (USAGE,)).fetchone() == (1,)
        assert {point for point, _ in read_usage(store)} == set(store.ids())


def test_a_folder_without_it_says_so(tmp_path, capsys):
    run(using.allocates, tmp_path, [{"mib": 1}], backend="inline")
    with Store.open(Paths(tmp_path).database) as store:
        store.connection.execute("DELETE FROM events WHERE kind = ?", (USAGE,))
    found = sweeper.load(tmp_path)
    assert found.usage == ((None,),)
    assert found.rows(usage=True)[0]["host"] is None


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        '{"number": 0}',
        '{"number": 0, "used": {}}',
        '{"number": 0, "used": [1]}',
        '{"numbers": [0], "used": []}',
        '{"numbers": [0], "used": [1]}',
        "{",
    ],
)
def test_what_no_sweep_writes_is_refused(tmp_path, value):
    run(using.allocates, tmp_path, [{"mib": 1}], backend="inline")
    with Store.open(Paths(tmp_path).database) as store:
        store.connection.execute("UPDATE events SET value = ? WHERE kind = ?", (value, USAGE))
    with pytest.raises(sweeper.FolderError):
        sweeper.load(tmp_path)


def test_what_a_trial_used_is_of_no_iteration(tmp_path):
    results = run(using.works, tmp_path, [{"seconds": 0.0}], backend="inline")
    with pytest.raises(sweeper.UsageError, match="history=True, usage=True"):
        results.to_dataframe(history=True, usage=True)
