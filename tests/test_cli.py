"""The command line, as a process: what it prints, where, and how it ends."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from sweeper import cli
from sweeper.disk.locking import folder_lock
from sweeper.errors import ProblemError, SelectorError, UsageError
from sweeper.search import FixedSweep, Grid, RandomSearch
from sweeper.search.domain import Domain, IntUniform, LogIntUniform, LogUniform, Uniform
from sweeper.search.reading.spaces import (
    Space,
    modules_own,
    race_of,
    read_domain,
    read_grid,
    read_ranges,
    read_value,
)
from sweeper.testing.selectors import drive
from sweeper.train.problem.routing import Routes
from sweeper.train.problem.spec import said_of_search

ROOT = Path(__file__).parents[1]

CLOUDS = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss


def model(hidden=4, act="Tanh"):
    return nn.Sequential(nn.Linear(2, hidden), getattr(nn, act)(), nn.Linear(hidden, 2))


def dataset():
    y = torch.arange(100) % 2
    x = torch.randn(100, 2) + 4 * y[:, None]
    return TensorDataset(x[:80], y[:80]), TensorDataset(x[80:], y[80:])
"""

FAILS_SOMETIMES = """
points = [{"hidden": 3}, {"hidden": 4}]
trials = 2


def handlers(trainer, evaluator, trial):
    if trial.params["hidden"] == 3 and trial.number == 1:
        raise RuntimeError("boom \\x1b[31mred")
"""

RAISES_IN_SELECTOR = """
from sweeper import ParamSelector


class Broken(ParamSelector):
    def get_next_trials(self):
        return {"hidden": 1 / 0}, 1

    def has_more_trials(self):
        return True


selector = Broken
"""

QUICK = (
    *("--hparams", "fastest", "--cores", "1"),
    *("--set", "cycle_epochs=2", "--set", "cycles=1", "--set", "probe_length=0.25"),
)


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT)}


def sweeper(*arguments, folder, **options):
    return subprocess.run(
        [sys.executable, "-m", "sweeper", *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


def called(*arguments, folder):
    """As `sweeper`, but in this process: for what a process of its own would do the same."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(folder), *sys.path])
        code = cli._run_command_line([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with problem modules in it."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "clouds.py").write_text(CLOUDS)
    (folder / "fails.py").write_text(CLOUDS + FAILS_SOMETIMES)
    (folder / "broken.py").write_text(CLOUDS + RAISES_IN_SELECTOR)
    (folder / "faulty.py").write_text("import math\n\nmath.sqrt(-1)\n")
    (folder / "empty.py").write_text("")
    return folder


SWEEP = ("run", "clouds", "--grid", "hidden=2,4", "--trials", "2", *QUICK)


@pytest.fixture(scope="module")
def swept(here):
    """What sweeping the clouds printed; their folder is out/clouds."""
    return sweeper(*SWEEP, folder=here)


# -- a sweep, and what can be done with its folder ------------------------------------------------


def test_run_prints_the_table_and_where_the_files_are(swept):
    assert swept.returncode == 0, swept.stderr
    rows = [line.split() for line in swept.stdout.splitlines() if "hidden=" in line]
    assert {"hidden=2", "hidden=4"} <= {word for row in rows for word in row}
    assert swept.stdout.count("★") == 2  # beside the point, and what it reached
    assert "What can be said" in swept.stdout
    assert "files are in out/clouds; load them with sweeper.load('out/clouds')" in swept.stdout
    assert "trials 4/4" in swept.stderr
    assert "\x1b" not in swept.stdout + swept.stderr


@pytest.mark.slow
def test_a_race_says_who_was_dropped_and_goes_on_where_it_was(here):
    grid = ("--grid", "hidden=2,4", "--trials", "4", "--race", "--folder", "out/race")
    first = sweeper("run", "clouds", *grid, *QUICK, folder=here)
    assert first.returncode == 0, first.stderr
    summary = first.stdout.partition("\nrace:\n")[2].splitlines()
    assert any(line.startswith("left: hidden=") for line in summary)
    again = sweeper("run", "clouds", *grid, *QUICK, "--quiet", folder=here)
    assert (again.returncode, again.stdout) == (0, first.stdout)


@pytest.mark.slow
def test_a_manual_search_trains_what_is_added_and_says_how_to_add(here):
    where = ("--folder", "out/manual")
    for command in (
        ("add", "out/manual", "hidden=3", "act=ReLU", "--trials", "2"),
        ("finish", "out/manual"),
    ):
        assert sweeper(*command, folder=here).returncode == 0
    run = sweeper("run", "clouds", "--selector", "manual", *where, *QUICK, folder=here)
    assert run.returncode == 0, run.stderr
    assert "hidden=3 act=ReLU" in run.stdout
    assert "sweeper add out/manual NAME=VALUE --trials N; end with: sweeper finish" in run.stderr
    added = sweeper("add", "out/manual", "hidden=4", folder=here)
    assert added.stdout == (
        "added hidden=4 with 10 trials; the search was finished: run it again to train this point\n"
    )
    wrong = sweeper("run", "clouds", "--selector", "manual", "--trials", "3", *QUICK, folder=here)
    assert_wrong(wrong, "--trials 3: selector manual takes no trials")


def test_run_again_trains_nothing_and_says_json(swept, here):
    before = (here / "out/clouds/points/funcres.pt").read_bytes()
    again = called(*SWEEP, "--json", "--quiet", folder=here)
    assert (again.returncode, again.stderr) == (0, "")
    read = json.loads(again.stdout)
    assert [point["params"] for point in read["points"]] == [{"hidden": 2}, {"hidden": 4}]
    assert [point["trial_numbers"] for point in read["points"]] == [[0, 1], [0, 1]]
    assert (read["problem"], read["settings"]["cycles"], read["failures"]) == ("clouds", 1, [])
    assert (here / "out/clouds/points/funcres.pt").read_bytes() == before


def test_status_says_how_far_it_is(swept, here):
    status = called("status", "out/clouds", folder=here)
    assert status.returncode == 0
    assert "4 of 4 done" in status.stdout
    assert "2: 2 done" in status.stdout
    assert "no process at the moment" in status.stdout
    assert "fastest, probe_length=0.25, cycle_epochs=2, cycles=1, cores=1" in status.stdout


def test_status_says_who_drives_the_folder(swept, here):
    with folder_lock(here / "out/clouds/lock"):
        status = called("status", "out/clouds", folder=here)
        export = called("export", "out/clouds", folder=here)
    assert f"process {os.getpid()} on" in status.stdout
    assert export.returncode == 0
    assert "were not rebuilt" in export.stderr
    assert len(export.stdout.splitlines()) == 5


def test_show_prints_what_run_printed(swept, here):
    show = called("show", "out/clouds", folder=here)
    assert show.returncode == 0
    assert show.stdout.strip() == swept.stdout.partition("files are in")[0].strip()
    assert called("show", "out/clouds", "--failures", folder=here).stdout == "nothing failed\n"


def test_compare_says_what_show_says_and_more(swept, here):
    everything = called("compare", "out/clouds", folder=here)
    assert (everything.returncode, everything.stderr) == (0, "")
    assert everything.stdout in swept.stdout
    two = called("compare", "out/clouds", "2", "hidden=4", "--metric", "loss_val", folder=here)
    assert "in loss_val" in two.stdout
    assert len(two.stdout.splitlines()) == 2
    table = called("compare", "out/clouds", "--by", "all", "--markdown", folder=here)
    assert table.stdout.startswith("| first | second | difference |")
    wrong = called("compare", "out/clouds", "--baseline", "hidden=5", folder=here)
    assert wrong.returncode == 2
    assert "'hidden=5' is no part of any point's name: hidden=2" in wrong.stderr


def test_effects_says_what_matters(swept, here):
    said = called("effects", "out/clouds", "--metric", "loss_val", folder=here)
    assert (said.returncode, said.stderr) == (0, "")
    assert "what matters in loss_val" in said.stdout.lower()
    table = called("effects", "out/clouds", "--markdown", folder=here)
    assert table.returncode == 0
    wrong = called("effects", "out/clouds", "--metric", "accuracy", folder=here)
    assert wrong.returncode == 2
    assert "metric='accuracy': choose one of" in wrong.stderr


def test_show_into_a_pipe_that_closes_is_no_fault_of_ours(swept, here):
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", "export", "out/clouds"],
        cwd=here,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr as stream:
        complaint = stream.read()
    assert process.wait() == cli.BROKEN_PIPE
    assert complaint == b""


def test_export_writes_a_row_a_trial_and_rebuilds_the_views(swept, here):
    funcres = here / "out/clouds/points/funcres.pt"
    before = funcres.read_bytes()
    funcres.unlink()
    export = called("export", "out/clouds", "--format", "csv", folder=here)
    assert (export.returncode, export.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(export.stdout)))
    assert [(row["hidden"], row["trial"]) for row in rows] == [
        ("2", "0"),
        ("2", "1"),
        ("4", "0"),
        ("4", "1"),
    ]
    assert funcres.read_bytes() == before
    loaded = pickle.loads(before)
    assert float(rows[0]["perf_val"]) == loaded[0][6][0]


def test_export_writes_json_to_a_file(swept, here):
    export = called("export", "out/clouds", "--format", "json", "--output", "x.json", folder=here)
    assert (export.returncode, export.stdout) == (0, "")
    read = json.loads((here / "x.json").read_text())
    assert read["points"][0]["summary"]["n"] == 2
    nowhere = called("export", "out/clouds", "--output", "no/where", folder=here)
    assert_wrong(nowhere, "--output no/where", "No such file")


def test_a_failed_trial_ends_in_1_and_is_explained(here):
    run = called("run", "fails.py", *QUICK, "--folder", "out/a b", "--no-models", folder=here)
    assert run.returncode == 1
    assert "1 failure:" in run.stdout
    assert "hidden=3 · trial 1: RuntimeError: boom red" in run.stdout
    assert "sweeper show 'out/a b' --failures" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert not list((here / "out/a b").rglob("model.pt"))
    show = called("show", "out/a b", "--failures", folder=here)
    assert show.returncode == 0
    assert "Traceback" in show.stdout
    assert "\x1b" not in show.stdout
    export = called("export", "out/a b", folder=here)
    assert len(export.stdout.splitlines()) == 4
    assert "1 failure not in the CSV" in export.stderr


def test_a_selector_that_raises_is_shown_with_its_own_traceback(here):
    run = called("run", "broken", *QUICK, "--quiet", folder=here)
    assert run.returncode == 1
    lines = run.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.search(r'broken\.py", line \d+, in get_next_trials$', lines[1])
    assert lines[-1].startswith("sweeper: selector Broken raised in get_next_trials(): ZeroDiv")


def test_interrupted_is_130_and_says_how_to_go_on(here):
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", *SWEEP[:4], "--trials", "5000", *QUICK, "--folder", "i"],
        cwd=here,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Made once signals are looked after.
    while not (here / "i/logs").exists():
        assert process.poll() is None
        time.sleep(0.05)
    with process.stderr as stream:
        process.send_signal(signal.SIGINT)
        rest = stream.read()
    assert process.wait(timeout=20) == 130
    assert "run the same command again to resume" in rest
    assert "Traceback" not in rest


def test_doctor_proves_that_workers_are_pinned(here):
    doctor = sweeper("doctor", folder=here)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "torch 2" in doctor.stdout
    assert "start method" in doctor.stdout
    workers = [line for line in doctor.stdout.splitlines() if line.startswith("worker ")]
    assert workers
    assert all(line.endswith(", 1 thread - ok") for line in workers)


# -- help and wrong usage -------------------------------------------------------------------------


def test_help_helps(tmp_path):
    for arguments, expected in (
        (
            ["--help"],
            ["Examples:", "run", "status", "show", "compare", "effects", "export", "doctor"],
        ),
        (
            ["run", "--help"],
            ["--grid", "--points", "--random", "--range", "--set", "--no-resume", "--json"],
        ),
        (["export", "--help"], ["--format", "csv", "json", "--output"]),
        (["--version"], ["sweeper 0."]),
    ):
        shown = called(*arguments, folder=tmp_path)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert [word for word in expected if word not in shown.stdout] == []
    nothing = sweeper(folder=tmp_path)
    assert nothing.returncode == 2
    assert "Commands:" in nothing.stdout


def test_what_only_reads_does_not_import_torch(swept, here):
    script = (
        "import sys; sys.argv = ['sweeper', 'show', 'out/clouds']; from sweeper.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.endswith("\n0 False\n")


def assert_wrong(ended, *expected):
    """Wrong usage: code 2, one line on standard error, with these texts in it."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert ended.stderr.startswith("sweeper: ")
    assert [text for text in expected if text not in ended.stderr] == []


def test_the_script_finds_a_module_in_the_current_folder(here, tmp_path):
    script = tmp_path / "sweeper-script.py"
    script.write_text("from sweeper.cli import main\nmain()\n")
    ended = subprocess.run(
        [sys.executable, script, "run", "clouds", "--grid", "hiden=2"],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert_wrong(ended, "--grid hiden", "did you mean hidden?", "it takes hidden, act")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("nonsense", ["No such command 'nonsense'"]),
        ("show .", ["holds no sweep"]),
    ],
)
def test_wrong_usage_of_a_process(arguments, expected, here):
    assert_wrong(sweeper(*arguments.split(), folder=here), *expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("status nowhere", ["nowhere holds no sweep"]),
        ("export . --format xml", ["--format", "xml", "csv", "json"]),
        ("export clouds.py", ["holds no sweep"]),
        ("run clouds --bogus", ["--bogus"]),
        ("run clouds --cores many", ["--cores", "integer"]),
        ("run", ["MODULE", "sweeper run --help"]),
        ("run nope", ["module='nope' cannot be found"]),
        ("run nope.py", ["module='nope.py'", "no such file"]),
        ("run empty", ["problem empty: model is missing", "expected a callable model"]),
        ("run faulty", ["ValueError: math domain error", "faulty.py, line 3)"]),
        ("run clouds", ["nothing says what to try", "--grid", "--points", "points", "clouds"]),
        ("run clouds --grid hidden", ["--grid 'hidden'", "name=value"]),
        ("run clouds --grid hidden=", ["--grid 'hidden='", "name=value"]),
        ("run clouds --grid hidden=1,,2", ["--grid hidden=1,,2", "empty"]),
        ("run clouds --grid hidden=1,1", ["--grid hidden=1,1", "twice"]),
        ("run clouds --grid hidden=1 --grid hidden=2", ["hidden is given twice"]),
        ("run clouds --grid trials=1", ["--trials"]),
        ("run clouds --grid depth=1", ["--grid depth", "it takes hidden, act"]),
        ("run clouds --grid hidden=1 --trials -1", ["trials=-1", "0 or more"]),
        (
            "run clouds --grid hidden=1 --random 3 --range act=a",
            ["--random 3: with --grid, give --points 3"],
        ),
        ("run clouds --range hidden=1:3", ["--points N"]),
        ("run clouds --points 3", ["--points 3: it needs --range"]),
        ("run clouds --points 3 --random 3 --range hidden=1:3", ["give --points alone"]),
        ("run clouds --random 3 --range hidden=1:9:log", ["--range hidden=1:9:log", "--points N"]),
        ("run clouds --points 3 --range hidden=0:9:log", ["both above 0"]),
        ("run clouds --points 3 --range hidden=1:9:lin", ["low:high:log"]),
        ("run clouds --points 3 --range depth=1:2", ["--range depth", "it takes hidden, act"]),
        ("run clouds --points 3 --range hidden=1:2 --grid hidden=1", ["hidden has values by --g"]),
        ("run clouds --points 9 --range hidden=1:3", ["points=9", "only 3 were found"]),
        ("run clouds --random 3", ["--range"]),
        ("run clouds --random 3 --range depth=1:2", ["--range depth", "it takes hidden, act"]),
        ("run clouds --random 3 --range hidden=9:1", ["--range hidden=9:1", "low:high"]),
        ("run clouds --random 3 --range hidden=a:b", ["--range hidden=a:b", "low:high"]),
        ("run clouds --random 3 --range hidden=1:2:3", ["--range hidden=1:2:3", "low:high"]),
        ("run clouds --random 9 --range hidden=1:3", ["points=9", "only 3 were found"]),
        ("run clouds --hparams fats", ["hparams='fats'", "fastest, fast, slow"]),
        ("run clouds --set cycle=1", ["--set cycle", "did you mean cycles?", "batch_pts"]),
        ("run clouds --set cycles=1.5", ["cycles=1.5", "whole number"]),
        ("run clouds --set cycles=none", ["cycles=None", "whole number"]),
        ("run clouds --hparams ranges-fast --set lr_start=2", ["lr_start=2", "below lr_end"]),
        ("run clouds --grid hidden=1 --cores 0", ["cores=0"]),
        ("run clouds --grid hidden=1 --total-cores 0", ["total_cores=0"]),
        ("run clouds --grid hidden=1 --cores-per-trial 9999", ["cores_per_trial=9999"]),
        ("run clouds --grid hidden=1 --seed -1", ["seed=-1"]),
        ("run clouds --grid hidden=1 --curve-samples -1", ["curve_samples=-1"]),
        ("run clouds --grid hidden=1 --backend cloud", ["backend='cloud'", "'local'", "'inline'"]),
        ("run clouds --grid hidden=1 --max-tries 0", ["max_tries=0", "1 or more"]),
        ("run clouds --grid hidden=1 --stop-after-failures 0", ["stop_after_failures=0"]),
        ("run clouds --grid hidden=1 --trial-timeout 0", ["trial_timeout=0", "above 0"]),
        ("run broken --trials 3", ["--trials 3", "selector"]),
    ],
)
def test_wrong_usage_is_explained_in_a_line(arguments, expected, here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    monkeypatch.setattr(sys, "argv", ["sweeper", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert_wrong(
        subprocess.CompletedProcess([], end.value.code, printed.out, printed.err), *expected
    )


def test_a_sweep_that_stops_itself_ends_in_1_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    command = "run troubled --grid trouble=raise --grid stage=every --trials 150 --backend inline"
    options = ["--folder", str(tmp_path), "--stop-after-failures", "2", *QUICK]
    monkeypatch.setattr(sys, "argv", ["sweeper", *command.split(), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("sweeper: stopped: ")
    assert "RuntimeError: no model today" in said
    assert re.search(
        rf"\d+ of 150 trials are done and kept in {tmp_path}; run the same command", said
    )
    assert (tmp_path / "points/funcres.pt").exists()


# -- search spaces --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        ("-3", -3),
        ("+3", 3),
        ("1.0", 1.0),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("2.", 2.0),
        ("inf", float("inf")),
        ("True", True),
        ("false", False),
        ("None", None),
        ("none", None),
        ("null", None),
        ("NULL", None),
        ("TRUE", True),
        ("nullable", "nullable"),
        ("ReLU", "ReLU"),
        ("1_0", 10),
        ("1_000.5", 1000.5),
        ("1__0", "1__0"),
        ("_1", "_1"),
        ("0x1F", 31),
        ("1E5", 1e5),
        ("-Infinity", float("-inf")),
        ("1e", "1e"),
        ("'nan'", "nan"),
        ("nano", "nano"),
        ("it's", "it's"),
        ("'a,b'", "a,b"),
        ('"it\'s"', "it's"),
        ("[]", []),
        ("[16, 32]", [16, 32]),
        ("[16,]", [16]),
        ("(1,'a,b')", (1, "a,b")),
        ("(1,)", (1,)),
        ("()", ()),
        ("{}", {}),
        ("{a: 1, 'b:c': [none, (true,)]}", {"a": 1, "b:c": [None, (True,)]}),
        ("[[1,2],['[']]", [[1, 2], ["["]]),
        ("f(1,2)", "f(1,2)"),
        ("٣", "٣"),
        ("'16'", "16"),
        ('""', ""),
        (" 8 ", 8),
    ],
)
def test_values_are_read_as_what_they_look_like(text, value):
    read = read_value(text)
    assert (type(read), read) == (type(value), value)


def test_axes_and_ranges():
    assert read_grid(["hidden=16,64", "act=Tanh,'1'"]) == {"hidden": [16, 64], "act": ["Tanh", "1"]}
    assert read_ranges(["a=8:128", "b=0.1:1", "c=x,y", "d='1:2'", "e=-2:-1"]) == {
        "a": (8, 128),
        "b": (0.1, 1),
        "c": frozenset({"x", "y"}),
        "d": frozenset({"1:2"}),
        "e": (-2, -1),
    }
    with pytest.raises(UsageError, match="twice"):
        read_ranges(["a=1,1.0"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("'a,b',c", ["a,b", "c"]),
        ("[16,32],[64]", [[16, 32], [64]]),
        ("(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("{a: 1}, {a: 2}", [{"a": 1}, {"a": 2}]),
        ("none,null_,1_000,1e-3,inf", [None, "null_", 1000, 1e-3, math.inf]),
        ("it's,f(1,2)", ["it's", "f(1,2)"]),
        ("' a '", [" a "]),
    ],
)
def test_commas_in_quotes_and_brackets_belong_to_the_value(text, values):
    assert read_grid([f"h={text}"]) == {"h": values}


def test_choices_and_ends_of_ranges_are_read_alike():
    assert read_ranges(["h='a,b',c", "k=(1,2),(3,4)", "w=1_000:2_000"]) == {
        "h": frozenset({"a,b", "c"}),
        "k": frozenset({(1, 2), (3, 4)}),
        "w": (1000, 2000),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nan", "NaN cannot be a parameter"),
        ("1,[NaN]", "NaN cannot be a parameter"),
        ("1e400", "too large for a float"),
        ("9" * 5000, "more than 1000 digits"),
        ("'a,b", "a quote is not closed"),
        ("'a'b", "b stands after a closing quote"),
        ("[1,2", "a bracket is not closed"),
        ("[1,2)", "closes no bracket"),
        ("1]", "closes no bracket"),
        ("[1]2", "there is text after a closing bracket"),
        ("[1][2]", "there is text after a closing bracket"),
        ("(1)", r"for a tuple of one write \(1,\)"),
        ("{1,2}", "sets are not supported"),
        ("{[1]: 2}", "cannot be the key"),
        ("[1,,2]", "a value is empty"),
        ("[" * 1000, "nested more than 40 deep"),
        ("[1,2],[1,2]", "twice"),
        ("1_000:2_000", "a grid takes values"),
    ],
)
def test_what_cannot_be_meant_is_said(text, expected):
    with pytest.raises(UsageError, match=rf"^--grid h=.*: .*{expected}"):
        read_grid([f"h={text}"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("nan:1", "NaN"), ("none:1", "low:high"), ("true:2", "low:high"), ("[1],[2]", "a tuple")],
)
def test_ranges_that_cannot_be_meant_are_said(text, expected):
    with pytest.raises(UsageError, match=rf"^--range h=.*: .*{expected}"):
        read_ranges([f"h={text}"])


def module_with(**attributes):
    module = ModuleType("toy")
    module.model = lambda hidden, *, act="Tanh": None
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def selector_of(space, module):
    found = space.selector("toy", Routes.of(module).known)
    return found or modules_own("toy", "toy", said_of_search(module), space.trials)


def asked(space, module):
    selector = selector_of(space, module)
    found = []
    while selector.has_more_trials():
        found.append(selector.get_next_trials())
    return found


def test_a_grid_goes_before_what_the_module_says():
    space = Space.read(["hidden=1,2"], None, [], None, 0)
    module = module_with(selector=Grid(trials=1), points=[(9,)])
    assert asked(space, module) == [({"hidden": 1}, 10), ({"hidden": 2}, 10)]


def test_random_points_depend_on_the_seed_alone():
    def points(seed):
        return asked(Space.read([], 5, ["hidden=1:1000", "act=a,b"], 3, seed), module_with())

    assert points(1) == points(1)
    assert points(1) != points(2)
    assert all(set(params) == {"hidden", "act"} and trials == 3 for params, trials in points(1))


def test_a_domain_is_read_from_axes_and_ranges():
    ranges = ["width=8:256:log", "depth=1:4", "rate=0.0:0.5", "lr=1e-4:1:log", "c=x,y", "one=3:3"]
    assert read_domain(["act=ReLU,Tanh"], ranges) == Domain(
        act=["ReLU", "Tanh"],
        width=LogIntUniform(8, 256),
        depth=IntUniform(1, 4),
        rate=Uniform(0.0, 0.5),
        lr=LogUniform(1e-4, 1),
        c=["x", "y"],
        one=[3],
    )
    assert read_domain([], ["h='8:9:log'", "k=(1,2),(3,4)"]) == Domain(
        h=["8:9:log"], k=[(1, 2), (3, 4)]
    )


def test_points_of_a_domain_depend_on_the_seed_alone():
    def points(seed):
        space = Space.read(["act=a,b"], None, ["hidden=1:1000:log"], 3, seed, points=9)
        return asked(space, module_with())

    domain = Domain(act=["a", "b"], hidden=LogIntUniform(1, 1000))
    search = RandomSearch(domain, 9, 3, seed=1)
    assert points(1) == [(ask.params, ask.trials) for ask in drive(search)]
    assert points(1) != points(2)


def test_points_of_a_grid_are_some_of_it():
    asks = asked(Space.read(["hidden=1,2,3"], None, [], 1, 0, points=2), module_with())
    assert len(asks) == 2
    assert all(params["hidden"] in (1, 2, 3) for params, _ in asks)


def test_the_module_may_give_a_domain():
    nothing = Space.read([], None, [], None, 0)
    module = module_with(points=Domain(a=[1, 2]) + Domain(a=[2]), trials=2)
    assert asked(nothing, module) == [({"a": 1}, 2), ({"a": 2}, 2)]
    with pytest.raises(UsageError, match=r"has no end: .*RandomSearch"):
        asked(nothing, module_with(points=Domain(a=Uniform(0, 1))))


def test_the_modules_points_and_trials():
    nothing, three = Space.read([], None, [], None, 0), Space.read([], None, [], 3, 0)
    assert asked(nothing, module_with(points=[(1,)])) == [((1,), 10)]
    assert asked(nothing, module_with(points=[(1,)], trials=4)) == [((1,), 4)]
    assert asked(three, module_with(points=[(1,)], trials=4)) == [((1,), 3)]


def test_a_race_takes_the_points_and_the_most_trials():
    race = race_of(Grid(trials=30, hidden=[1, 2]), "toy")
    assert [race.get_next_trials() for _ in range(3)] == [
        ({"hidden": 1}, 3),
        ({"hidden": 2}, 3),
        None,
    ]
    with pytest.raises(UsageError, match="--trials 2 there is nothing to save"):
        race_of(Grid(trials=2, hidden=[1, 2]), "toy")
    with pytest.raises(UsageError, match="--race: the selector of problem toy is adaptive"):
        race_of(race, "toy")


def test_the_modules_selector_may_be_one_or_make_one():
    nothing = Space.read([], None, [], None, 0)
    selector = FixedSweep([((1,), 2)])
    assert selector_of(nothing, module_with(selector=selector)) is selector
    assert selector_of(nothing, module_with(selector=lambda: selector)) is selector
    with pytest.raises(SelectorError, match=r"selector\(\) of problem toy raised ZeroDivision"):
        selector_of(nothing, module_with(selector=lambda: 1 / 0))
    with pytest.raises(ProblemError, match="expected a ParamSelector"):
        selector_of(nothing, module_with(selector=[(1,)]))
    with pytest.raises(ProblemError, match="a list of params"):
        selector_of(nothing, module_with(points=3))


def test_a_model_that_takes_any_name_is_not_checked():
    module = module_with(model=lambda **anything: None)
    space = Space.read(["depth=1"], None, [], 1, 0)
    assert asked(space, module) == [({"depth": 1}, 1)]
