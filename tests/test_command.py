"""Commands: any executable as a program, from Python and from the shell."""

import argparse
import json
import math
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sweeper
from sweeper import Command, cli
from sweeper.cli.command import Metrics
from sweeper.cli.command import read_metrics as read_written
from sweeper.errors import (
    ChangedCodeError,
    FolderError,
    ParamError,
    SettingsError,
    StoppedError,
    UsageError,
)
from sweeper.program.command.command import THREADS, inherited
from sweeper.program.command.printed import metrics_by_patterns, metrics_in_json, metrics_in_lines
from sweeper.program.command.process import MOST_READ, CommandFailed, run_command
from sweeper.program.trial.trial import Trial
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeping import check_nothing_was_repeated, outcomes, processes_with, python

ROOT = Path(__file__).parents[1]
GIVEN_HERE = {"seed": 7, "trial": 2, "folder": "/f", "cores": 1, "budget": None}


def sh(script, *arguments, **options):
    """A command that the shell reads; braces stand for themselves where they are doubled."""
    return Command(["/bin/sh", "-c", script, "sh", *arguments], **options)


def run(command, folder, points=({"x": 1},), trials=1, **options):
    """A silent sweep in this process, unless another backend is named."""
    options = {"backend": "inline", "progress": False, **options}
    return sweeper.sweep(command, list(points), folder=folder, trials=trials, **options)


def printed(folder, point=0, number=0, name="stdout.txt"):
    return (Paths(folder).trial(point, number) / name).read_text()


def failure_of(folder):
    """The failure of the only trial."""
    with Store.read(Paths(folder).database) as store:
        (outcome,) = store.outcomes()
    return outcome.failure


def wait_until(holds):
    """Wait for another process; the limit only guards against hanging."""
    limit = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < limit


# -- arguments and environment ---------------------------------------------------------------------


def line(argv, **params):
    return Command(argv).arguments(params, GIVEN_HERE)


def test_placeholders_are_replaced_wherever_they_stand():
    found = line(["a", "--lr={lr}", "{lr}/{seed}/{trial}", "{folder}", "-j{cores}"], lr=0.1, rest=1)
    assert found == ["a", "--lr=0.1", "0.1/7/2", "/f", "-j1"]


def test_without_a_parameter_in_braces_all_are_appended():
    values = {"lr": 1e-05, "n_layers": 3, "act": "re lu", "amp": True, "bias": False, "clip": None}
    found = line(["a", "--seed", "{seed}"], **values, sizes=[16, 32], shape=())
    assert found[3:] == [
        *("--lr", "1e-05", "--n_layers", "3", "--act", "re lu", "--amp"),
        *("--sizes", "16", "32", "--shape"),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, "none"),
        (0.1, "0.1"),
        (math.inf, "inf"),
        (10**20, "1" + "0" * 20),
        ("", ""),
        ("{seed}", "{seed}"),
        ([1, "a"], '[1, "a"]'),
        ((1.5,), "[1.5]"),
        ({"a": [True]}, '{"a": [true]}'),
        (sweeper.Alias([16] * 2, "wide"), "[16, 16]"),
    ],
)
def test_a_value_in_braces(value, text):
    assert line(["a", "<{x}>"], x=value)[1] == f"<{text}>"


def test_a_parameter_goes_before_what_every_trial_has():
    assert line(["a", "{seed}"], seed=3) == ["a", "3"]
    environment = Command(["a"]).environment({"seed": 3}, GIVEN_HERE)
    assert (environment["SWEEPER_SEED"], environment["SWEEPER_PARAM_SEED"]) == ("7", "3")


def test_the_environment_has_parameters_trial_and_threads():
    params = {"lr": 0.1, "n-layers": 3, "off": None, "amp": True}
    environment = Command(["a"]).environment(params, {**GIVEN_HERE, "cores": 3})
    assert {name: value for name, value in environment.items() if name.startswith("SWEEPER_")} == {
        "SWEEPER_PARAM_LR": "0.1",
        "SWEEPER_PARAM_N_LAYERS": "3",
        "SWEEPER_PARAM_AMP": "true",
        "SWEEPER_SEED": "7",
        "SWEEPER_TRIAL": "2",
        "SWEEPER_FOLDER": "/f",
        "SWEEPER_CORES": "3",
    }
    assert {environment[name] for name in THREADS} == {"3"}


def test_a_sweep_within_a_trial_leaves_none_of_its_variables():
    kept = inherited({"SWEEPER_PARAM_LR": "1", "SWEEPER_BUDGET": "3", "SWEEPER_CACHE": "c"})
    assert kept == {"SWEEPER_CACHE": "c", "MKL_CBWR": "AUTO"}
    assert inherited({"MKL_CBWR": "AVX2"}) == {"MKL_CBWR": "AVX2"}


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=30)
@given(texts)
def test_doubled_braces_are_braces(text):
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert line(["a", doubled], x=1) == ["a", text, "--x", "1"]


@settings(max_examples=30)
@given(st.floats(allow_nan=False), st.integers(), texts)
@example(-1e-05, -3, "-x")
def test_argparse_reads_what_was_given(real, whole, text):
    parser = argparse.ArgumentParser()
    for name, kind in (("real", float), ("whole", int), ("text", str)):
        parser.add_argument(f"--{name}", type=kind)
    found = parser.parse_args(line(["a"], real=real, whole=whole, text=text)[1:])
    assert (found.real, found.whole, found.text) == (real, whole, text)


@pytest.mark.parametrize(
    ("argv", "params", "said"),
    [
        (["a", "{rate}"], {"rat": 1}, "placeholder {rate} (did you mean rat?)"),
        (["a", "{x}"], {}, "it may have {seed}, {trial}, {folder}, {cores}, {budget}"),
        (["a"], (1, 2), "give a dict"),
        (["a"], {"act": math.sqrt}, "cannot be given to a command"),
        (["a"], {"act": "\0"}, "cannot be given to a command"),
        (["a"], {"b\0": 1}, "the name 'b\\x00' has a NUL byte"),
        (["a"], {"lr": 1, "LR": 2}, "the same variable of the environment"),
    ],
)
def test_points_that_do_not_fit_are_refused(argv, params, said):
    with pytest.raises(ParamError, match=re.escape(said)):
        Command(argv).check(params)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("python train.py", "give a list, such as ['python', 'train.py']"),
        ([], "give the program and its arguments"),
        (["a", 1], "1 is a int"),
        (["a", "b\0"], "NUL"),
        (["a", '{"x": {x}}'], "write {{ and }} for braces"),
        (["a", "${x"], "write {{ and }} for braces"),
        (["{x}"], "cannot be a placeholder"),
    ],
)
def test_what_is_no_command_is_refused_in_words(argv, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        Command(argv)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({}, "give regular expressions by metric"),
        ({"acc": "maximize"}, "it has 0 groups"),
        ({"acc": "(a)(b)"}, "it has 2 groups"),
        ({"acc": "(a"}, "this is no regular expression"),
        ({"acc": 3}, "give a regular expression"),
        ({"trial": "(a)"}, "tables have a column 'trial'"),
    ],
)
def test_wrong_expressions_are_refused_in_words(metrics, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        Command(["a"], metrics=metrics)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["python", "src/train.py", "--config", "big.yaml"], "train"),
        (["python", "-m", "pkg.train", "--lr", "{lr}"], "train"),
        (["./solve", "--config", "big.yaml"], "solve"),
        (["/bin/sh", "-c", "exit"], "sh"),
        (["env", "A=1", Path("go.sh")], "go"),
    ],
)
def test_the_name_is_that_of_what_is_run(argv, name):
    assert Command(argv).name == name


# -- what it prints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"acc": 1}\n{"acc": 2, "loss": 0.5}\nbye\n', {"acc": 2, "loss": 0.5}),
        ('50 %\r100 %\r{"acc": 1}', {"acc": 1}),
        ('{"acc": 1}\n{"name": "run"}\n{}\n[2]\n{"acc":\n', {"acc": 1}),
        ('{"acc": 1, "name": "run", "sizes": [1], "trial": 3, "on": true}', {"acc": 1, "on": 1}),
        ('{"acc": null, "loss": 1}', {"acc": math.nan, "loss": 1}),
        ('{"loss": NaN}', {"loss": math.nan}),
        ("accuracy 0.9", {}),
        ("{" * 100_000, {}),
        ('{"acc": 1' + "0" * 400 + "}", {}),
    ],
)
def test_metrics_in_the_last_line_that_is_an_object_of_numbers(text, found):
    assert metrics_in_lines(text, ["acc"]) == pytest.approx(found, nan_ok=True)


@settings(max_examples=30)
@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_printed_is_read(text):
    assert isinstance(metrics_in_lines(text, ["acc"]), dict)
    assert isinstance(metrics_in_json(text, ["acc"]), dict)


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        (r"accuracy: ([\d.]+)", 0.75),
        (r"^accuracy: ([\d.]+)$", 0.5),
        (r"loss ([-\d.e]+)", -1e-3),
        (r"took (.*)", math.nan),
        (r"missing (\d+)", math.nan),
    ],
)
def test_the_last_match_of_an_expression_counts(pattern, number):
    out = "accuracy: 0.25\naccuracy: 0.5\nended with accuracy: 0.75.\ntook long\n"
    found = metrics_by_patterns({"m": pattern, "other": "(5)"}, (out, "loss -1e-3\n"))
    assert found == pytest.approx({"m": number, "other": 5}, nan_ok=True)


# -- from one run to the table ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        sh('echo "{{\\"acc\\": {x}}}"'),
        sh(
            'echo "{{\\"acc\\": 9}}" > /dev/null; echo "{{\\"acc\\": {x}}}" > {folder}/metrics.json'
        ),
        sh('echo "acc={x}"', metrics={"acc": r"acc=(\d+)"}),
        sh('echo "acc=$SWEEPER_PARAM_X" >&2', metrics={"acc": r"acc=(\d+)"}),
        sh('echo "{{\\"acc\\": $2}}"'),
    ],
    ids=["json", "file", "expression", "environment", "appended"],
)
def test_a_command_is_swept(tmp_path, command):
    points = [{"x": 1}, {"x": 2}]
    results = run(command, tmp_path, points, 2, metrics={"acc": "maximize"})
    assert [point.metrics["acc"].tolist() for point in results] == [[1, 1], [2, 2]]
    assert results.best().params == {"x": 2}
    assert results.notes == (f"each trial is one run of the command {command.shown}",)
    assert not results.failures


SEEDED = """
import json, os, random, sys
random.seed(int(sys.argv[1]))
names = list({str(number) for number in range(100)})
threads = int(os.environ["OMP_NUM_THREADS"])
print(json.dumps({"drawn": random.random(), "first": int(names[0]), "threads": threads}))
"""


def test_one_core_two_cores_and_this_process_give_the_same_bits(tmp_path):
    command = Command([sys.executable, "-S", "-c", SEEDED.replace("{", "{{").replace("}", "}}")])
    command = Command([*command.argv, "{seed}"])
    points = [{"x": 1}, {"x": 2}]
    for name, options in (
        ("here", {}),
        ("one", {"backend": "local", "total_cores": 1}),
        ("two", {"backend": "local", "total_cores": 2}),
    ):
        results = run(command, tmp_path / name, points, 2, **options)
        assert np.concatenate(results.values("threads")).tolist() == [1] * 4
    here = outcomes(tmp_path / "here")
    assert len({values for values, _ in here.values()}) == 4, "each trial has its own seed"
    assert here == outcomes(tmp_path / "one") == outcomes(tmp_path / "two")


def test_it_runs_on_the_cores_of_its_worker(tmp_path):
    script = 'echo "{{\\"cores\\": $(nproc)}}"; [ -p /dev/stdin ] && exit 1; :'
    results = run(sh(script), tmp_path, backend="local", total_cores=1)
    assert results.values("cores")[0].tolist() == [1]


def test_budgets_are_given_where_the_command_takes_them(tmp_path):
    takes = sh('echo "{{\\"steps\\": {budget}}}"')
    halving = sweeper.SuccessiveHalving(
        [{"x": number} for number in (1, 2, 3)],
        trials=1,
        min_budget=1,
        max_budget=3,
        metric="steps",
        direction="maximize",
    )
    options = {"progress": False, "backend": "inline", "metrics": {"steps": "maximize"}}
    results = sweeper.sweep(takes, halving, folder=tmp_path / "takes", **options)
    assert set(results.budgets) == {1, 3}
    results = run(takes, tmp_path / "without")
    assert "let the selector ask with a budget" in results.failures[0].message


# -- trouble ---------------------------------------------------------------------------------------

LEFT = "sleep 300 & setsid sleep 300 & setsid sh -c 'sleep 300 & sleep 300' & "
JSON = 'echo "{{\\"acc\\": 1}}"; '

TROUBLE = [
    ("exits 0 without metrics", "echo done", "exception", "gave no metrics: no line of its stand"),
    ("exits with 3", "echo a >&2; echo no good >&2; exit 3", "exception", "exit code 3: no good"),
    ("says why on its output", "echo no good; exit 4", "exception", "exit code 4: no good"),
    ("has no memory", "echo MemoryError >&2; exit 1", "memory", "exit code 1: MemoryError, 2 t"),
    ("is ended by a signal", "kill -SEGV $$", "crash", "ended by signal 11 (SIGSEGV)"),
    ("is killed", "kill -KILL $$", "memory", "ended by signal 9 (SIGKILL), 2 times"),
    ("kills its supervisor", "kill -KILL $PPID; sleep 300", "crash", "that supervised the comman"),
    ("prints what is no text", "printf '\\377\\376 no\\n' >&2; exit 1", "exception", "\ufffd no"),
    ("makes metrics.json a pipe", "mkfifo {folder}/metrics.json", "exception", "gave no metrics"),
    ("leaves children", LEFT + JSON, None, ""),
    ("ignores SIGTERM", "trap '' TERM; " + JSON, None, ""),
    ("prints what is no text, and metrics", "printf '\\377\\n';" + JSON, None, ""),
    ("closes its output", JSON + "exec >&- 2>&-", None, ""),
]


@pytest.mark.parametrize(
    ("script", "kind", "said"), [case[1:] for case in TROUBLE], ids=[case[0] for case in TROUBLE]
)
def test_whatever_a_command_does_has_a_name(tmp_path, monkeypatch, script, kind, said):
    monkeypatch.setenv("SWEEPER_TEST_MARK", str(tmp_path))
    results = run(sh(script), tmp_path, max_tries=2)
    if kind is None:
        assert results.values("acc")[0].tolist() == [1]
    else:
        failure = failure_of(tmp_path)
        assert failure.kind == kind
        assert said in failure.message
        assert str(Paths(tmp_path).trial(0, 0)) in failure.detail
    if "$PPID" in script:  # what is killed without a supervisor is waited for by nobody
        wait_until(lambda: not processes_with(str(tmp_path)))
    assert processes_with(str(tmp_path)) == []


def test_a_program_that_cannot_be_started_is_refused_before_anything_is_run(tmp_path):
    script = tmp_path / "script"
    script.write_text("echo 1\n")
    for argv, said in (
        (["no-such-program"], "there is no such program"),
        ([str(tmp_path / "gone")], "there is no such program"),
        ([str(script)], "it is not executable"),
    ):
        with pytest.raises(UsageError, match=said):
            run(Command(argv), tmp_path / "out")
    assert not Paths(tmp_path / "out").database.exists()


@pytest.mark.parametrize(
    ("first_line", "mode", "said"),
    [
        ("", 0o644, "it is not executable"),
        ("", 0o755, "begin it with #!"),
        ("#!/no/such/shell\n", 0o755, "names no interpreter"),
        (None, None, "there is no such program"),
    ],
)
def test_a_program_that_cannot_be_started_later_fails_its_trial(tmp_path, first_line, mode, said):
    script = tmp_path / "script"
    if first_line is not None:
        script.write_text(f"{first_line}echo 1\n")
        script.chmod(mode)
    with pytest.raises(CommandFailed, match=said):
        run_command(Command([script]), Trial(0, 1, {}, tmp_path / "0", 1), (), ())


def test_three_that_fail_alike_stop_the_sweep(tmp_path):
    with pytest.raises(StoppedError, match="exit code 3"):
        run(sh("exit 3"), tmp_path, trials=30)


def test_a_metric_that_is_missing_in_one_trial_is_nan_and_said(tmp_path):
    script = 'echo "acc 1"; [ {trial} = 1 ] || echo "loss {x}"'
    command = sh(script, metrics={"acc": r"acc (\d)", "loss": r"loss (\d)"})
    results = run(command, tmp_path, trials=3)
    assert np.isnan(results.values("loss")[0]).tolist() == [False, True, False]
    assert results.values("acc")[0].tolist() == [1] * 3
    assert "loss is missing or not a number in 1 of 3 trials" in results.notes


def test_much_output_is_kept_and_costs_no_memory(tmp_path):
    size = 16 * MOST_READ
    much = f"head -c {size} /dev/zero | tr '\\0' 'x'; echo; "
    tracemalloc.start()
    try:
        results = run(
            sh(f'echo "acc 1"; {much} echo "acc 2"', metrics={"acc": r"acc (\d)"}), tmp_path
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert results.values("acc")[0].tolist() == [2]
    assert (Paths(tmp_path).trial(0, 0) / "stdout.txt").stat().st_size > size
    assert peak < 6 * MOST_READ


def test_what_an_earlier_try_left_is_not_taken_for_its_metrics(tmp_path):
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "metrics.json").write_text('{"acc": 9}')
    (folder / "stdout.txt").write_text('{"acc": 9}\n')
    with pytest.raises(CommandFailed, match="gave no metrics"):
        run_command(sh(":"), Trial(0, 1, {}, folder, 1), (), ())


def test_nothing_is_written_through_a_link(tmp_path):
    folder, other = tmp_path / "trial", tmp_path / "precious"
    folder.mkdir()
    other.write_text("kept")
    (folder / "stdout.txt").symlink_to(other)
    with pytest.raises(CommandFailed, match=r"stdout.txt cannot be written"):
        run_command(sh("echo 1"), Trial(0, 1, {}, folder, 1), (), ())
    assert other.read_text() == "kept"


# -- stopped, killed, gone on with -----------------------------------------------------------------

CLEANS_UP = "trap 'echo bye > {folder}/bye; exit' TERM; " + LEFT
WAITS = "while :; do sleep 0.05; done"


@pytest.mark.parametrize("ignores", [False, True])
def test_after_its_time_it_is_asked_to_end_and_then_killed(tmp_path, monkeypatch, ignores):
    monkeypatch.setenv("SWEEPER_TEST_MARK", str(tmp_path))
    script = ("trap '' TERM; " if ignores else CLEANS_UP) + WAITS
    run(sh(script), tmp_path, backend="local", trial_timeout=1.0)
    assert failure_of(tmp_path).kind == "timeout"
    wait_until(lambda: not processes_with(str(tmp_path)))
    assert (Paths(tmp_path).trial(0, 0) / "bye").exists() is not ignores


SWEEP = """
import os, sys, sweeper
os.environ["COMMAND_DRIVER"] = str(os.getpid())
sweeper.sweep(sweeper.Command(["/bin/sh", sys.argv[1]]), [{"x": 1}, {"x": 2}], trials=3,
              folder=sys.argv[2], progress=False, total_cores=1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_driver(tmp_path, number):
    script = tmp_path / "waits.sh"
    bye = tmp_path / "bye"
    script.write_text(
        f"trap 'echo > {bye}; exit' TERM\n{LEFT}\nkill -{number:d} $COMMAND_DRIVER\n{WAITS}"
    )
    environment = {"SWEEPER_TEST_MARK": str(tmp_path)}
    driver = python(
        "-c",
        SWEEP,
        str(script),
        str(tmp_path / "out"),
        environment=environment,
        stderr=subprocess.DEVNULL,
    )
    driver.wait()
    wait_until(lambda: not processes_with(str(tmp_path)))
    assert bye.exists()


def test_killed_and_run_again_nothing_finished_runs_twice(tmp_path):
    script, ran, folder = tmp_path / "counts.sh", tmp_path / "ran", tmp_path / "out"
    script.write_text(
        f'echo "$SWEEPER_PARAM_X $SWEEPER_TRIAL" >> {ran}\n'
        '[ "$SWEEPER_PARAM_X $SWEEPER_TRIAL" = "2 1" ] && kill -9 $COMMAND_DRIVER\n'
        'echo "{\\"seed\\": $SWEEPER_SEED}"\n'
    )
    driver = python("-c", SWEEP, str(script), str(folder))
    assert driver.wait() == -signal.SIGKILL
    finished = outcomes(folder)
    assert 0 < len(finished) < 6, "it was killed in the middle"
    command, points = Command(["/bin/sh", script]), [{"x": 1}, {"x": 2}]
    before = ran.read_text().splitlines()
    results = run(command, folder, points, 3)
    again = ran.read_text().splitlines()[len(before) :]
    assert sorted(set(before + again)) == [f"{x} {trial}" for x in (1, 2) for trial in range(3)]
    assert len(again) == 6 - len(finished)
    check_nothing_was_repeated(folder)
    assert not results.failures
    run(command, tmp_path / "quiet", points, 3)
    assert outcomes(folder) == outcomes(tmp_path / "quiet")


def test_a_changed_script_is_refused_unless_it_is_allowed(tmp_path):
    script, data, folder = tmp_path / "train.sh", tmp_path / "data.csv", tmp_path / "out"
    data.write_text("1\n")
    script.write_text('echo "value $(cat $1)"\n')

    def again(**options):
        command = Command(["/bin/sh", script, data], metrics={"value": r"value (\d)"})
        return run(command, folder, trials=options.pop("trials", 1), **options)

    assert again().values("value")[0].tolist() == [1]
    data.write_text("2\n")
    with pytest.raises(ChangedCodeError, match=r"'data.csv' has changed"):
        again(trials=2)
    results = again(trials=2, allow_changed_code=True)
    assert results.values("value")[0].tolist() == [1, 2]
    script.write_text('echo "value 7"\n')
    with pytest.raises(ChangedCodeError, match=r"'train.sh' has changed"):
        again(trials=3)


def test_a_script_that_changes_while_the_sweep_runs_stops_it(tmp_path):
    script = tmp_path / "train.sh"
    script.write_text("echo >> $0; echo 'value 1'\n")
    command = Command(["/bin/sh", script], metrics={"value": r"value (\d)"})
    with pytest.raises(FolderError, match="changed while the sweep ran"):
        run(command, tmp_path / "out", trials=3)
    assert sweeper.load(tmp_path / "out").values("value")[0].tolist() == [1]


def test_a_folder_belongs_to_one_command_and_its_expressions(tmp_path):
    value = {"value": r"(\d)"}
    run(sh("echo {x}", metrics=value), tmp_path)
    with pytest.raises(FolderError, match=r"command is .* in the folder"):
        run(sh("echo 2", metrics=value), tmp_path)
    with pytest.raises(FolderError, match=r"value is .* in the folder"):
        run(sh("echo {x}", metrics={"value": r"(\d+)"}), tmp_path)
    results = run(sh("echo {x}", metrics={**value, "more": r"(\d+)"}), tmp_path, trials=2)
    assert np.isnan(results.values("more")[0]).tolist() == [True, False]


# -- from the shell --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "name", "pattern", "direction"),
    [
        (r"accuracy ([\d.]+)", "accuracy", r"accuracy ([\d.]+)", "maximize"),
        (r"val loss: ([\d.]+)", "loss", r"val loss: ([\d.]+)", "minimize"),
        (r"val_loss\s*=\s*([\d.]+)", "val_loss", r"val_loss\s*=\s*([\d.]+)", "minimize"),
        (r"acc=([\d.]+)", "acc", r"acc=([\d.]+)", "maximize"),
        (r"acc=accuracy: ([\d.]+)", "acc", r"accuracy: ([\d.]+)", "maximize"),
        (r"acc:min=([\d.]+)", "acc", r"([\d.]+)", "minimize"),
        (r"size=n: (\d+)", "size", r"n: (\d+)", "none"),
        (r"^([\d.]+)$", "value", r"^([\d.]+)$", "none"),
        (r"[(a-z] \(([\d.]+)", "value", r"[(a-z] \(([\d.]+)", "none"),
        (r"(?:top|best) (?P<top1>\d+)", "top1", r"(?:top|best) (?P<top1>\d+)", "none"),
        (r"accuracy loss_acc (\d+)", "loss_acc", r"accuracy loss_acc (\d+)", "none"),
    ],
)
def test_a_metric_by_an_expression_has_a_name_and_perhaps_a_direction(
    written, name, pattern, direction
):
    read = read_written([written])
    assert (read.directions, read.patterns) == ({name: direction}, {name: pattern})


def test_a_direction_that_is_given_goes_before_the_name():
    read = read_written([r"loss ([\d.]+)", "loss:max", "other", "f1:min"])
    directions = {"loss": "maximize", "other": "none", "f1": "minimize"}
    assert read == Metrics(directions, {"loss": r"loss ([\d.]+)"}, ())
    assert read_written([]) == Metrics(None, None, ())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (["acc:up"], "'up' is no direction: give acc:max or acc:min"),
        ([r"acc:up=(\d)"], "'up' is no direction"),
        ([r"acc (\d+):max"], "a direction goes before: acc:max=…"),
        ([r"acc (\d+"], "this is no regular expression"),
        ([r"acc (\d+) (\d+)"], "it has 2 groups"),
        ([r"acc (\d)", r"best acc (\d)"], "'acc' has another regular expression already"),
    ],
)
def test_wrong_metrics_are_refused_in_words(written, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        read_written(written)


@settings(max_examples=50)
@given(st.lists(st.text("aZ_0 :=().*[]\\?P<>{}|^$é", max_size=12), max_size=3))
@example(["=(a)"])
def test_whatever_is_written_is_read_or_refused(written):
    try:
        read = read_written(written)
    except UsageError:
        return
    assert {*(read.patterns or {})} <= {*(read.directions or {})}


def shell(capfd, *arguments, code=0):
    """A command line in this process; returns what it wrote to its output and its error output."""
    assert cli._run_command_line(list(map(str, arguments))) == code
    return capfd.readouterr()


def test_the_shell_line_on_an_unchanged_script(tmp_path):
    script = (sys.executable, "examples/command/train.py", "--epochs", "3", "--seed", "{seed}")
    given = ("-m", "sweeper", "run", "--grid", "lr=0.3,0.001", "--trials", "3", "--metric")
    written = (r"accuracy ([\d.]+)", "--folder", str(tmp_path), "--", *script)

    def again():
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = python(*given, *written, cwd=ROOT, **pipes)
        return process.communicate()

    out, err = again()
    assert "accuracy: maximize, as its name says" in err
    assert out.splitlines()[1].split() == ["params", "n", "accuracy"]
    assert "lr=0.3 is better than lr=0.001 by" in out
    assert "★ lr=0.3 reached" in out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("stdout.txt")}
    assert len(before) == 6
    assert again()[0] == out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_options_of_run_go_with_a_command(tmp_path, capfd):
    search = ("--range", "x=1:9", "--points", "2", "--trials", "2", "--backend", "inline")
    command = ("--", "/bin/sh", "-c", "echo acc {x}")
    given = ("run", *search, "--metric", "acc:min=acc (.*)", "--folder", tmp_path)
    out, _ = shell(capfd, *given, "--dry-run", *command)
    assert "4 trials would be run" in out
    out, err = shell(capfd, *given, "--quiet", "--json", *command)
    assert err == ""
    document = json.loads(out)
    assert (document["program"], document["metrics"]) == ("sh", {"acc": "minimize"})
    assert [point["acc"] for point in document["points"]] == [
        [point["params"]["x"]] * 2 for point in document["points"]
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grid", "x=1"], "what to sweep is missing"),
        (["blobs", "--grid", "x=1", "--", "echo"], "exclude each other"),
        (["programs:named", "--grid", "x=1", "--metric", "acc (.*)"], "a command after --"),
        (["--grid", "x=1", "--pack", "off", "--", "echo"], "pack='off': it means nothing"),
        (["--", "echo"], "nothing says what to try"),
    ],
)
def test_wrong_command_lines_are_refused(tmp_path, capfd, arguments, said):
    given = ("run", "--folder", tmp_path, "--backend", "inline", *arguments)
    assert said in shell(capfd, *given, code=2).err
