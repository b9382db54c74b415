"""Grids as programs: what they launch, what a changed program adds, and what a dry run says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweeper
from sweeper import Explorer
from sweeper.api.reading import read_problem
from sweeper.api.sweep import preview
from sweeper.errors import FolderError, ParamError, SelectorError, SettingsError, UsageError
from sweeper.search import Ask, ExploredGrid
from sweeper.search.explore import load_explorer, name_of_grid
from sweeping import QUICK, replicas_started, run
from test_budgets import Asking
from test_cli import QUICK as QUICK_OPTIONS

ROOT = Path(__file__).parents[1]


def asks(function, trials=None):
    return [(ask.params, ask.trials) for ask in Explorer(function).asks(trials)]


# -- launching ------------------------------------------------------------------------------------


def test_a_launcher_is_called_for_each_point():
    @Explorer
    def explore(launcher):
        launcher(width=32, trials=5)
        sub = launcher.bind(act="Tanh")
        sub(width=64)
        sub({"width": 16}, [{"depth": 1}, {"depth": 2}, [{"act": "ReLU"}]])
        launcher(trials=0)

    assert explore.asks(trials=2) == [
        Ask({"width": 32}, 5),
        Ask({"act": "Tanh", "width": 64}, 2),
        Ask({"act": "ReLU", "width": 16, "depth": 2}, 2),
        Ask({}, 0),
    ]


def test_bind_copies_and_bind_changes_and_returns_the_same():
    def explore(launcher):
        sub = launcher.bind(a=1, trials=3)
        assert sub is not launcher
        assert launcher.bind_({"b": 2}) is launcher
        sub(c=3)
        launcher(c=3, trials=1)
        launcher.bind(b=4).bind_(b=5)(c=6)

    assert asks(explore, 9) == [
        ({"a": 1, "c": 3}, 3),
        ({"b": 2, "c": 3}, 1),
        ({"b": 5, "c": 6}, 9),
    ]


def test_the_same_point_twice_is_one_with_the_larger_number_of_trials():
    def explore(launcher):
        launcher(a=1, b=2, trials=3)
        launcher(c=1, trials=1)
        launcher({"b": 2, "a": 1}, trials=7)
        launcher(a=1, b=2, trials=5)
        launcher(a=1.0, b=2, trials=1)

    assert asks(explore) == [({"a": 1, "b": 2}, 7), ({"c": 1}, 1), ({"a": 1.0, "b": 2}, 1)]


def test_a_budget_is_bound_and_tells_points_apart():
    @Explorer
    def explore(launcher):
        short = launcher.bind(budget=2)
        short(a=1, trials=3)
        short(a=1, trials=5)
        short(a=1, budget=4)
        launcher(a=1)
        launcher({"budget": 7})

    assert explore.asks(1) == [
        Ask({"a": 1}, 5, 2),
        Ask({"a": 1}, 1, 4),
        Ask({"a": 1}, 1),
        Ask({"budget": 7}, 1),
    ]
    with pytest.raises(UsageError, match="budget=0: it must be 1 or more"):
        Explorer(lambda launcher: launcher(a=1, budget=0)).asks(1)


def test_a_parameter_called_trials_comes_in_a_dict():
    assert asks(lambda launcher: launcher({"trials": 100}, trials=2)) == [({"trials": 100}, 2)]


def test_a_grid_may_contain_another():
    @Explorer
    def inner(launcher):
        launcher(b=1)

    assert asks(lambda launcher: inner(launcher.bind(a=1)), 2) == [({"a": 1, "b": 1}, 2)]


def test_an_explorer_may_be_swept_again():
    explorer = Explorer(lambda launcher: launcher(a=1))
    assert explorer.asks(2) == explorer.asks(2) == [Ask({"a": 1}, 2)]


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        (
            lambda launcher: launcher("--width=32"),
            UsageError,
            r"launcher\('--width=32'\): it takes",
        ),
        (lambda launcher: launcher((1, 2)), UsageError, r"launcher\(\(1, 2\)\)"),
        (lambda launcher: launcher({1: 2}), UsageError, r"launcher\(\{1: 2\}\)"),
        (lambda launcher: launcher(a=1, trials=-1), UsageError, "trials=-1"),
        (lambda launcher: launcher(a=float("nan")), ParamError, "a is NaN"),
        (lambda launcher: launcher(a=1), UsageError, "{'a': 1} has no number of trials"),
        (lambda launcher: launcher.slrum(), SelectorError, "AttributeError.*slrum"),
        (lambda _: 1 / 0, SelectorError, "grid <lambda>: ZeroDivisionError"),
    ],
)
def test_a_wrong_launch_is_said(function, error, said):
    with pytest.raises(error, match=said):
        Explorer(function).asks(None)


def test_an_explorer_decorates_a_function():
    with pytest.raises(UsageError, match=r"Explorer\(3\): decorate a function"):
        Explorer(3)
    with pytest.raises(UsageError, match="program=3 is a int"):
        ExploredGrid(3)
    assert repr(Explorer(lambda _: None)) == "<Explorer: grid <lambda>>"


# -- files ----------------------------------------------------------------------------------------

PROGRAM = """
import dataclasses
from sweeper import Explorer


@dataclasses.dataclass
class Width:
    value: int


@Explorer
def explore(launcher):
    for width in [Width(2), Width(4)]:
        launcher(hidden=width.value, trials=1)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "grids" / "widths.py"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    return path


def test_a_program_is_named_by_its_place_below_grids(program, tmp_path):
    assert load_explorer(program).name == "widths"
    assert ExploredGrid(program).grid == "widths"
    assert name_of_grid(tmp_path / "grids/nets/deep.py") == "nets.deep"
    assert name_of_grid(tmp_path / "grids/old/grids/nets.py") == "nets"
    assert name_of_grid(tmp_path / "elsewhere.py") == "elsewhere"


def test_a_program_leaves_no_module_behind(program):
    before = set(sys.modules)
    load_explorer(program)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", UsageError, "has one function .* it has none"),
        ("from other import explore", SelectorError, "No module named 'other'"),
        ("import sweeper\n1 / 0", SelectorError, "grid wrong: .*wrong.py: ZeroDivisionError"),
        (
            "from sweeper import Explorer\n@Explorer\ndef a(l): 0\n@Explorer\ndef b(l): 0\n",
            UsageError,
            "it has a, b",
        ),
    ],
)
def test_a_wrong_program_is_said(tmp_path, text, error, said):
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(error, match=said):
        load_explorer(tmp_path / "wrong.py")
    with pytest.raises(UsageError, match="there is no such file"):
        load_explorer(tmp_path / "none.py")


# -- sweeps ---------------------------------------------------------------------------------------


def points_of(results):
    return [(point.params, len(point.perf_val)) for point in results]


def edit(program, before, after):
    text = program.read_text()
    assert before in text
    program.write_text(text.replace(before, after))


def test_a_changed_program_trains_what_is_new_and_leaves_out_what_is_gone(program, tmp_path):
    folder = tmp_path / "out"
    first = run(folder, program)
    assert points_of(first) == [({"hidden": 2}, 1), ({"hidden": 4}, 1)]
    before = replicas_started(folder)
    edit(program, "[Width(2), Width(4)]", "[Width(4), Width(3)]")
    second = run(folder, load_explorer(program))
    assert points_of(second) == [({"hidden": 4}, 1), ({"hidden": 3}, 1)]
    assert second[0].loss_val.tobytes() == first[1].loss_val.tobytes()
    after = replicas_started(folder)
    assert len({point for point, _, _ in after[len(before) :]}) == 1
    edit(program, "[Width(4), Width(3)]", "[Width(2), Width(4)]")
    third = run(folder, str(program))
    assert points_of(third) == points_of(first)
    assert replicas_started(folder) == after


def test_trials_of_a_sweep_are_for_points_that_do_not_say(tmp_path):
    explorer = Explorer(lambda launcher: (launcher(hidden=2), launcher(hidden=3, trials=1)))
    results = run(tmp_path, explorer, trials=2)
    assert points_of(results) == [({"hidden": 2}, 2), ({"hidden": 3}, 1)]
    with pytest.raises(SettingsError, match="or an Explorer or the path"):
        run(tmp_path, 3)


# -- dry runs -------------------------------------------------------------------------------------


def dry(folder, selector, **options):
    with read_problem("blobs", "inline") as reading:
        given = {"cores": 2, "hparams": QUICK, "backend": "inline", "folder": folder, **options}
        return preview(reading, selector, **given)


def files_of(folder):
    # Readers of SQLite keep files beside the database.
    return {path: path.read_bytes() for path in folder.rglob("*[!ml]") if path.is_file()}


def test_a_dry_run_expects_larger_budgets_to_take_longer(tmp_path):
    point = {"hidden": 2}
    run(tmp_path, Asking([Ask(point, 2, 1)]))

    def seconds(budget):
        return dry(tmp_path, Asking([Ask(point, 4, budget)])).seconds

    assert seconds(30) == pytest.approx(30 * 2 * seconds(1))
    assert seconds(None) == pytest.approx(2 * seconds(1))


def test_a_dry_run_leaves_out_points_that_would_be_skipped(tmp_path):
    selector = Asking([Ask({"hidden": 2}, 1), Ask({"hiden": 3}, 1), Ask({"hidden": 4}, 1)])
    selector.skips_refused = True
    found = dry(tmp_path, selector)
    assert [point.params for point in found.added] == [{"hidden": 2}, {"hidden": 4}]


def test_a_dry_run_says_what_is_added_kept_and_dropped_and_changes_nothing(tmp_path):
    run(tmp_path, sweeper.FixedSweep([({"hidden": n}, 2) for n in (2, 3, 4)]))
    before = files_of(tmp_path)
    asked = [({"hidden": 3}, 2), ({"hidden": 4}, 5), ({"hidden": 5}, 1), ({"hidden": 6}, 0)]
    found = dry(tmp_path, sweeper.FixedSweep(asked), total_cores=1)
    assert [(p.params["hidden"], p.done, p.trials, p.tuned) for p in found.added] == [
        (4, 2, 5, True),
        (5, 0, 1, False),
        (6, 0, 0, False),
    ]
    assert [p.params["hidden"] for p in found.kept] == [3]
    assert [(p.params["hidden"], p.done) for p in found.dropped] == [(2, 2)]
    assert (found.trials, found.tunings, found.slots) == (4, 2, 1)
    assert found.seconds > 0
    assert files_of(tmp_path) == before
    said = str(found).splitlines()
    assert said[:2] == ["add  hidden=4: 2 of 5 trials done", "add  hidden=5: 0 of 1 trial done"]
    assert said[-3].startswith("code is not compared: ")
    assert said[-2].endswith(": 3 to add, 1 to keep, 1 to drop")
    assert said[-1].startswith("4 trials would be run, after tuning 2 points: about ")


def test_its_time_is_that_of_the_mean_trial_and_tuning(tmp_path):
    run(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 2)]))
    one = dry(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 3)]), total_cores=1)
    ten = dry(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 12)]), total_cores=1)
    assert ten.seconds == pytest.approx(10 * one.seconds)
    both = dry(tmp_path, sweeper.FixedSweep([({"hidden": 3}, 1)]), total_cores=1)
    tuning = dry(tmp_path, sweeper.FixedSweep([({"hidden": 3}, 0)]), total_cores=1)
    assert both.seconds == pytest.approx(one.seconds + tuning.seconds)


def test_nothing_to_do_and_nothing_known_are_said(tmp_path):
    grid = sweeper.FixedSweep([({"hidden": 2}, 1)])
    found = dry(tmp_path / "none", grid)
    assert "how long it takes is not known" in str(found)
    assert "code" not in str(found)
    assert not (tmp_path / "none").exists()
    run(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 1)]))
    same = dry(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 1)]))
    assert str(same).endswith("1 to keep, 0 to drop\nnothing would be run")
    anew = dry(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 1)]), resume=False)
    assert len(anew.added) == 1


def test_a_dry_run_refuses_what_the_sweep_would_refuse(tmp_path):
    run(tmp_path, sweeper.FixedSweep([({"hidden": 2}, 1)]))
    with pytest.raises(FolderError, match="holds another sweep: seed is 0"):
        dry(tmp_path, sweeper.Grid(trials=1, hidden=[2]), seed=1)
    with pytest.raises(ParamError, match="do not fit"):
        dry(tmp_path, sweeper.Grid(trials=1, widht=[2]))
    with pytest.raises(UsageError, match="dry run: ManualSearch decides by results"):
        dry(tmp_path, sweeper.ManualSearch())


# -- the example ----------------------------------------------------------------------------------


def command(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "sweeper", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout


@pytest.mark.slow
def test_the_example_edited_and_run_again_trains_only_the_new_points(tmp_path):
    program = tmp_path / "grids/widths.py"
    program.parent.mkdir()
    example = (ROOT / "examples/grids/widths.py").read_text()
    program.write_text(example.replace("trials=8", "trials=2").replace("trials=4", "trials=1"))
    sweep = ("run", "examples.digits", "--explore", program, "--folder", "out", *QUICK_OPTIONS)
    assert "5 to add, 0 to keep, 0 to drop" in command(*sweep, "--dry-run", folder=tmp_path)
    command(*sweep, "--quiet", folder=tmp_path)
    first = replicas_started(tmp_path / "out")
    edit(program, "(4, 16)", "(4, 8)")
    said = command(*sweep, "--dry-run", folder=tmp_path)
    assert "2 to add, 3 to keep, 2 to drop" in said
    assert "drop nonlinearity=Tanh hidden=16: 1 of 1 trial done" in said
    table = command(*sweep, "--quiet", folder=tmp_path)
    assert "hidden=16" not in table.partition("What can be said")[0]
    new = replicas_started(tmp_path / "out")[len(first) :]
    assert len({point for point, _, _ in new}) == 2
    assert not {point for point, _, _ in new} & {point for point, _, _ in first}
