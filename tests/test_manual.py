"""`ManualSearch`: points that other processes add, while it runs and while it does not."""

from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path

import pytest

import sweeper
from blobs import UNTUNED
from sweeper import cli
from sweeper.errors import FolderError, ParamError, UsageError
from sweeper.records import Asked
from sweeper.search import Ask, ManualSearch, inbox
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.testing.loop import memory
from sweeper.testing.selectors import check_selector, drive, simulate
from sweeping import replicas_started
from sweeping import run as run_tuned

run = functools.partial(run_tuned, hparams=UNTUNED)
"""Nothing here is about tuning."""

POINTS = [Ask((1,), 2), Ask((2,), 1, 3, group="search"), Ask((1,), 1), Ask((3,), 0)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("sweeper.run.dispatch.LOOK_OUTSIDE", 0.01)


def fill(folder, asks, *, finished=True):
    for ask in asks:
        inbox.add(folder, ask)
    if finished:
        inbox.finish(folder)


def search_in(folder):
    search = ManualSearch()
    search.on_opened(folder)
    return search


def asked_of(store):
    return [
        Ask(one.point.params, one.trials, one.budget, group=one.group)
        for one in store.log("manual")
        if isinstance(one, Asked) and one.point
    ]


# -- the selector ---------------------------------------------------------------------------------


def test_it_asks_for_what_was_added_in_that_order(tmp_path):
    fill(tmp_path, POINTS)
    assert drive(search_in(tmp_path)) == POINTS


def test_it_waits_until_it_is_finished(tmp_path):
    search = search_in(tmp_path)
    assert search.get_next_trials() is None
    assert search.has_more_trials()
    inbox.add(tmp_path, POINTS[0])
    assert search.get_next_trials() == POINTS[0]
    assert search.get_next_trials() is None
    assert search.has_more_trials()
    inbox.finish(tmp_path)
    assert search.get_next_trials() is None
    assert not search.has_more_trials()


def test_a_point_that_is_added_after_the_end_opens_it_again(tmp_path):
    fill(tmp_path, POINTS[:1])
    inbox.add(tmp_path, POINTS[1])
    search = search_in(tmp_path)
    assert [search.get_next_trials() for _ in range(3)] == [*POINTS[:2], None]
    assert search.has_more_trials()


def test_the_contract_of_selectors_holds(tmp_path):
    fill(tmp_path, POINTS)
    check_selector(lambda: search_in(tmp_path))


def test_on_a_resume_the_log_says_what_was_asked_and_the_inbox_what_is_new(tmp_path):
    store = memory()
    fill(tmp_path, POINTS[:2])
    simulate(search_in(tmp_path), 2, store)
    log = store.log("manual")
    fill(tmp_path, POINTS[2:])
    simulate(search_in(tmp_path), 1, store)
    assert store.log("manual")[: len(log)] == log
    assert asked_of(store) == POINTS


@pytest.mark.parametrize("batches", range(1, 9))
def test_killed_at_any_time_it_asks_for_each_point_once(tmp_path, batches):
    store = memory()
    fill(tmp_path, POINTS)
    simulate(search_in(tmp_path), 2, store, batches=batches)
    simulate(search_in(tmp_path), 2, store)
    assert asked_of(store) == POINTS


def test_files_that_are_gone_lose_nothing_of_the_log(tmp_path):
    store = memory()
    fill(tmp_path, POINTS[:2])
    simulate(search_in(tmp_path), 2, store)
    for path in (tmp_path / "added").iterdir():
        path.unlink()
    fill(tmp_path, POINTS[2:])
    simulate(search_in(tmp_path), 2, store)
    assert asked_of(store) == POINTS


def test_all_points_that_were_added_are_open_at_once(tmp_path):
    fill(tmp_path, [Ask((n,), 1) for n in range(50)])
    store = memory()
    simulate(search_in(tmp_path), 8, store)
    kinds = [type(entry) for entry in store.log("manual")]
    assert kinds[:50] == [Asked] * 50


# -- the inbox ------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_added(tmp_path):
    params = {"b": (1, [2.5, None]), "a": "x,y", "act": Path}
    inbox.add(tmp_path, Ask(params, 3, 2, group="final"))
    inbox.add(tmp_path, Ask([1, True], 1))
    inbox.finish(tmp_path)
    first, second, end = inbox.read(tmp_path)
    assert list(first.ask.params) == ["b", "a", "act"]
    assert first.ask == Ask({**params, "act": "pathlib:Path"}, 3, 2, group="final")
    assert second.ask == Ask((1, True), 1)
    assert (end.number, end.ask) == (3, None)
    assert inbox.read(tmp_path, after=2) == [end]
    names = sorted(path.name for path in (tmp_path / "added").iterdir())
    assert names == [f"00000{n}.json" for n in (1, 2, 3)]


def _add_many(folder, first):
    for number in range(first, first + 50):
        inbox.add(folder, Ask((number,), 1))


def test_several_processes_may_add_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    starts = range(0, 200, 50)
    adding = [context.Process(target=_add_many, args=(tmp_path, start)) for start in starts]
    for process in adding:
        process.start()
    for process in adding:
        process.join()
    found = [entry.ask.params[0] for entry in inbox.read(tmp_path)]
    assert sorted(found) == list(range(200))
    for start in starts:  # each in its own order
        own = [number for number in found if start <= number < start + 50]
        assert own == sorted(own)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (Ask(3, 1), "params=3 is a int"),
        (Ask((1,), -1), "trials=-1"),
        (Ask((1,), True), "trials=True"),
        (Ask((1,), 1, 0), "budget=0: it must be a whole number, 1 or more"),
        (Ask((1,), 1, group="a\n"), r"group='a\\n'"),
        (Ask((float("nan"),), 1), "NaN"),
        (Ask(({1, 2},), 1), "is a set"),
    ],
)
def test_what_no_sweep_can_train_is_refused_where_it_is_added(tmp_path, ask, said):
    with pytest.raises((UsageError, ParamError), match=said):
        inbox.add(tmp_path, ask)
    assert inbox.read(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"params": "[]", "trials": 1, "budget": null, "group": ""}',
        '{"params": "[\\"i\\",\\"1\\"]", "trials": 1, "budget": null, "group": ""}',
        '{"params": "[\\"t\\",[]]", "trials": -1, "budget": null, "group": ""}',
        '{"params": "[\\"t\\",[]]", "trials": 1, "budget": null, "group": 7}',
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    inbox.add(tmp_path, POINTS[0])
    (tmp_path / "added/000002.json").write_text(text)
    search = search_in(tmp_path)
    with pytest.raises(FolderError, match=r"added/000002\.json is not a point"):
        search.get_next_trials()


def test_nothing_is_added_through_a_link(tmp_path):
    (tmp_path / "added").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(FolderError, match="symbolic link"):
        inbox.add(tmp_path, POINTS[0])
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- whole sweeps ---------------------------------------------------------------------------------


class AddsLater(ManualSearch):
    """Another process, so to speak, adds points as soon as one has results."""

    name = "manual"

    def __init__(self, later):
        super().__init__()
        self.later = iter(later)

    def on_results(self, result):
        for act in next(self.later, ()):
            act()


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_points_come_before_and_while_it_runs_and_after(tmp_path, backend):
    folder = sweeper.open(tmp_path / "f")
    folder.add({"hidden": 2}, trials=1)
    later = [
        [lambda: folder.add({"hidden": 3}, trials=2)],
        [lambda: folder.add({"hidden": 2}, trials=1), folder.finish],
    ]
    assert (folder.has_run, folder.is_finished) == (False, False)
    results = run(tmp_path / "f", AddsLater(later), backend=backend)
    assert [(p.params, len(p.perf_val)) for p in results] == [
        ({"hidden": 2}, 2),
        ({"hidden": 3}, 2),
    ]
    assert folder.is_finished
    started = replicas_started(tmp_path / "f")
    folder.add({"hidden": 4}, trials=1)
    assert not folder.is_finished
    folder.finish()
    assert not folder.is_finished
    results = run(tmp_path / "f", ManualSearch(), backend=backend)
    assert [len(p.perf_val) for p in folder.results()] == [2, 2, 1]
    assert folder.is_finished
    new = replicas_started(tmp_path / "f")[len(started) :]
    assert len({point for point, _, _ in new}) == 1
    same = run(tmp_path / "g", sweeper.FixedSweep([(p.params, len(p.perf_val)) for p in results]))
    for one, other in zip(results, same, strict=True):
        assert one.loss_val.tobytes() == other.loss_val.tobytes()


def test_a_point_that_does_not_fit_is_a_failure_and_the_others_go_on(tmp_path):
    folder = sweeper.open(tmp_path)
    for params in ({"hidden": 2}, {"widht": 9}, {"hidden": Gone}, {"hidden": 3}):
        folder.add(params, trials=1)
    folder.finish()
    text = (tmp_path / "added/000003.json").read_text()
    (tmp_path / "added/000003.json").write_text(text.replace("Gone", "Vanished"))
    results = run(tmp_path, ManualSearch())
    assert [point.params for point in results] == [{"hidden": 2}, {"hidden": 3}]
    wrong, gone = results.failures
    assert (wrong.params, wrong.stage, wrong.number) == ({"widht": 9}, "refused", None)
    assert "do not fit problem blobs: 'widht' is unknown" in wrong.message
    assert "it takes hidden, " in wrong.message
    assert "has no Vanished" in gone.message
    assert folder.is_finished
    assert [str(one) for one in run(tmp_path, ManualSearch()).failures] == [
        str(one) for one in results.failures
    ]


class Gone:
    pass


def test_another_selector_is_still_stopped_by_a_point_that_does_not_fit(tmp_path):
    with pytest.raises(ParamError, match="do not fit"):
        run(tmp_path, sweeper.FixedSweep([({"widht": 9}, 1)]))


def test_no_resume_moves_the_inbox_away(tmp_path):
    folder = sweeper.open(tmp_path)
    folder.add({"hidden": 2}, trials=1)
    folder.finish()
    run(tmp_path, ManualSearch())
    run(tmp_path, sweeper.Grid(trials=0, hidden=[3]), resume=False)
    assert inbox.read(tmp_path) == []
    (earlier,) = (tmp_path / "history").iterdir()
    assert len(inbox.read(earlier)) == 2


# -- the handle and the command line --------------------------------------------------------------


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.run_and_exit(list(map(str, arguments)))
    return ended.value.code, *capsys.readouterr()


def test_the_command_line_adds_and_finishes(tmp_path, capsys):
    folder = tmp_path / "new"
    code, said, _ = command(
        capsys, "add", folder, "width=32", "act=Tanh", "sizes=[1,2]", "--trials", 5, "--budget", 2
    )
    assert code == 0
    assert "added width=32 act=Tanh sizes=[1, 2] with 5 trials; no sweep has run" in said
    assert f"sweeper run MODULE --selector manual --folder {folder}" in said
    assert command(capsys, "finish", folder)[0] == 0
    first, end = inbox.read(folder)
    assert first.ask == Ask({"width": 32, "act": "Tanh", "sizes": [1, 2]}, 5, 2)
    assert end.ask is None


def test_after_a_run_names_are_checked_at_once(tmp_path, capsys):
    run(tmp_path, sweeper.Grid(trials=0, hidden=[2]))
    code, _, said = command(capsys, "add", tmp_path, "hiden=3")
    assert code == 2
    assert "hiden=3: problem blobs had no such parameter when it last ran here" in said
    assert "(did you mean hidden?)" in said
    assert inbox.read(tmp_path) == []
    assert command(capsys, "add", tmp_path, "hidden=3")[0] == 0
    command(capsys, "finish", tmp_path)
    assert "it was" not in command(capsys, "add", tmp_path, "hidden=4")[1]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("width", "write name=value"),
        ("width=1,2", "a point has one value for each parameter"),
        ("width=nan", "NaN"),
    ],
)
def test_wrong_points_are_refused_with_words(tmp_path, capsys, written, said):
    code, _, complaint = command(capsys, "add", tmp_path, written)
    assert code == 2
    assert said in complaint
    assert inbox.read(tmp_path) == []


def test_a_folder_of_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    code, _, said = command(capsys, "add", tmp_path, "width=1")
    assert code == 2
    assert "holds no sweep, but other things" in said
    assert not (tmp_path / "added").exists()
    with pytest.raises(FolderError, match="other things"):
        sweeper.open(tmp_path / "thesis.tex").finish()


def test_a_grid_is_finished_when_its_trials_are(tmp_path):
    folder = sweeper.open(tmp_path)
    assert repr(folder) == f"sweeper.open({str(tmp_path)!r})"
    with pytest.raises(FolderError):
        folder.results()
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))
    assert folder.is_finished
    with Store.open(Paths(tmp_path).database) as store:
        store.connection.execute("UPDATE log SET value = '2', crc = NULL WHERE kind = 'asked'")
    assert not folder.is_finished
