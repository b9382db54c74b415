"""Points that only earlier runs asked for, and tables in the order of a metric."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import sweeper
from blobs import UNTUNED
from sweeper.errors import UsageError
from sweeper.records import FINAL
from sweeper.search import Ask
from sweeper.show.table import results_table
from sweeper.store.results.load import read_results
from sweeper.testing.loop import memory
from sweeper.testing.selectors import simulate
from sweeping import run as run_tuned
from test_budgets import Asking
from test_manual import command

run = functools.partial(run_tuned, hparams=UNTUNED)
"""Nothing here is about tuning."""

NOTE = "of the folder {} not asked for now and not shown (`sweeper show FOLDER --all` shows every"


def asked_for(store, asks):
    simulate(Asking(asks), 2, store)
    return read_results(store), read_results(store, everything=True)


def rows(results):
    counts = [list(each) for each in results.trial_numbers]
    return list(zip([p.params for p in results], results.budgets, counts, strict=True))


def test_points_that_are_not_asked_for_now_are_noted_and_can_be_shown():
    store = memory()
    search, final = Ask((2,), 2, 1, group="search"), Ask((2,), 1, 3, group=FINAL)
    asks = [Ask((0,), 2), Ask((1,), 1), search, final]
    now, every = asked_for(store, asks)
    assert rows(now) == rows(every)
    assert not any("not asked for" in note for note in now.notes)
    now, every = asked_for(store, [Ask((1,), 1)])
    assert rows(now) == [((1,), None, [0])]
    assert any(note.startswith("2 points " + NOTE.format("are")) for note in now.notes)
    assert rows(every) == [
        ((1,), None, [0]),
        ((0,), None, [0, 1]),
        ((2,), 1, [0, 1]),
        ((2,), 3, [0]),
    ]
    assert not any("not asked for" in note for note in every.notes)
    now, _ = asked_for(store, [Ask((0,), 1), Ask((2,), 1)])
    assert any(note.startswith("1 point " + NOTE.format("is")) for note in now.notes)


def test_trials_of_other_budgets_are_noted_and_can_be_shown():
    store = memory()
    asked_for(store, [Ask((0,), 2, 1), Ask((1,), 2, 1), Ask((0,), 1, 3)])
    now, every = asked_for(store, [Ask((0,), 1), Ask((1,), 1)])
    (note,) = [note for note in now.notes if "not asked for" in note]
    assert note.startswith("trials of other budgets or parents of 2 points are not asked for")
    assert rows(now) == [((0,), None, [0]), ((1,), None, [0])]
    assert rows(every) == [
        *rows(now),
        ((0,), 1, [0, 1]),
        ((0,), 3, [0]),
        ((1,), 1, [0, 1]),
    ]
    assert every.best() in list(now)


@pytest.mark.parametrize("now", [(9, ""), (None, "search"), (None, FINAL)])
def test_they_do_not_decide_which_group_and_budget_is_compared(now):
    store = memory()
    asked_for(store, [Ask((n,), 2) for n in (5, 6)])
    _, every = asked_for(store, [Ask((n,), 2, now[0], group=now[1]) for n in (0, 1)])
    assert [point.params for point in every.comparable()] == [(0,), (1,)]
    assert every.best().params in {(0,), (1,)}
    kept = every.where({(1,), (6,)})
    assert [point.params for point in kept.comparable()] == [(1,)]


def test_those_of_the_same_group_and_budget_are_compared():
    store = memory()
    asked_for(store, [Ask((n,), 2) for n in (5, 6)])
    _, every = asked_for(store, [Ask((n,), 2) for n in (0, 1)])
    assert every.comparable() is every


def test_ranking_is_the_order_in_which_best_judges():
    now, _ = asked_for(memory(), [Ask((n,), 1) for n in range(6)] + [Ask((9,), 0)])
    for metric, sign in (("perf_val", -1), ("loss_val", 1)):
        places = now.ranking(metric)
        assert places[-1] == 6  # without trials
        means = [sign * float(np.mean(now.values(metric)[place])) for place in places[:-1]]
        assert means == sorted(means)
        assert now.best(metric) == now[places[0]]
    with pytest.raises(UsageError, match="metric='accuracy': choose one of"):
        now.ranking("accuracy")


def test_a_table_may_have_some_points_in_some_order():
    now, _ = asked_for(memory(), [Ask((n,), 1) for n in range(4)])
    table = results_table(now, places=[2, 0])
    (params,) = [column for column in table.columns if str(column.header) == "params"]
    assert [str(cell) for cell in params.cells] == ["2", "0"]


def test_show_sorts_cuts_and_remembers_all(tmp_path, capsys):
    points = [({"hidden": n}, 1) for n in (2, 3, 4)]
    run(tmp_path, sweeper.FixedSweep(points))
    results = run(tmp_path, sweeper.FixedSweep(points[:2]))

    def shown(*options):
        code, said, _ = command(capsys, "show", tmp_path, *options)
        table = said.partition("What can be said")[0]
        assert code == 0
        lines = [line.partition("hidden=")[2] for line in table.splitlines()]
        return [int(line.split()[0]) for line in lines if line], said

    order = [results[place].params["hidden"] for place in results.ranking("loss_val")]
    assert shown()[0] == [2, 3]
    assert "1 point of the folder is not asked for now" in shown()[1]
    assert shown("--sort", "loss_val")[0] == order
    assert shown("--sort", "loss_val", "--top", 1)[0] == order[:1]
    assert len(shown("--all", "--top", 2)[0]) == 2
    assert sorted(shown("--all")[0]) == [2, 3, 4]
    assert "not asked for" not in shown("--all")[1]
    for wrong, said in (
        (("--top", 0), "--top 0: it must be a whole number"),
        (("--sort", "accuracy"), "metric='accuracy': choose one of"),
    ):
        code, _, complaint = command(capsys, "show", tmp_path, *wrong)
        assert code == 2
        assert said in complaint
