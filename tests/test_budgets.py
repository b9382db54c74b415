"""Asks with budgets and groups: numbering, telling, storing, results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sweeper.errors import SelectorError, UsageError
from sweeper.records import METRICS, TRIAL, Asked, budget_of, is_trial, trial_stage
from sweeper.search import Ask, ParamSelector, Race
from sweeper.search.reading.spaces import race_of
from sweeper.show.export import json_text
from sweeper.show.status import describe_status
from sweeper.show.table import results_table
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate
from sweeper.store.results.load import read_results
from sweeper.store.status import read_status
from sweeper.testing.loop import memory
from sweeper.testing.selectors import check_selector, simulate
from sweeper.testing.toy import metrics_of, point_of

ASKS = [
    Ask((0,), 2, 1, group="search"),
    Ask((1,), 2, 1, group="search"),
    Ask((0,), 1, 3, group="search"),
    Ask((0,), 2, 1, group="again"),
    Ask((1,), 2, None, group="final"),
    Ask((0,), 3, None, group="final"),
    Ask((1,), 1, 1, group="search"),
]


class Asking(ParamSelector):
    """Asks for what it is given, and keeps what it is told."""

    def __init__(self, asks=ASKS, adaptive=False):
        self.left = list(asks)
        self.adaptive = adaptive
        self.look_ahead = 2
        self.told = []

    def get_next_trials(self):
        return self.left.pop(0) if self.left else None

    def has_more_trials(self):
        return bool(self.left)

    def on_results(self, result):
        values = [tuple(map(repr, row)) for row in zip(*result.metrics.values(), strict=True)]
        self.told.append(
            (result.params, result.budget, result.group, tuple(result.numbers), values)
        )


def row(params, number, budget):
    found = metrics_of(params, number, trial_stage(budget))
    return tuple(repr(np.float64(found[name])) for name in METRICS)


def swept(selector, slots=2):
    store = memory()
    simulate(selector, slots, store)
    return store


def test_stages_of_trials():
    assert [trial_stage(None), trial_stage(12)] == ["trial", "trial@12"]
    assert [budget_of("trial"), budget_of("trial@12")] == [None, 12]
    assert [is_trial(name) for name in ("trial", "trial@1", "way", "ladder.1", "trials")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_an_adaptive_selector_is_told_each_ask_with_its_budget_and_group(slots):
    selector = Asking(adaptive=True)
    swept(selector, slots)
    first = {}
    for ask, told in zip(ASKS, selector.told, strict=True):
        begin = first.get((ask.params, ask.budget), 0)
        numbers = tuple(range(begin, begin + ask.trials))
        first[ask.params, ask.budget] = begin + ask.trials
        values = [row(ask.params, number, ask.budget) for number in numbers]
        assert told == (ask.params, ask.budget, ask.group, numbers, values)


def test_one_that_is_not_adaptive_is_told_each_trial_once_with_its_group():
    selector = Asking()
    swept(selector)
    found = {}
    for params, budget, group, numbers, values in selector.told:
        for number, value in zip(numbers, values, strict=True):
            assert (params, budget, number) not in found
            found[params, budget, number] = group
            assert value == row(params, number, budget)
    assert found == {
        ((0,), 1, 0): "search", ((0,), 1, 1): "search", ((0,), 1, 2): "again",
        ((0,), 1, 3): "again", ((0,), 3, 0): "search",
        ((1,), 1, 0): "search", ((1,), 1, 1): "search", ((1,), 1, 2): "search",
        ((1,), None, 0): "final", ((1,), None, 1): "final",
        ((0,), None, 0): "final", ((0,), None, 1): "final", ((0,), None, 2): "final",
    }  # fmt: skip


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_contract_of_selectors_holds_with_budgets(adaptive):
    check_selector(lambda: Asking(adaptive=adaptive))


def test_the_log_keeps_budgets_and_groups():
    store = swept(Asking(adaptive=True))
    log = store.log(store.meta.get("selector", "") or "test_budgets:Asking")
    asked = [entry for entry in log if isinstance(entry, Asked)]
    assert [(one.trials, one.budget, one.group) for one in asked] == [
        (ask.trials, ask.budget, ask.group) for ask in ASKS
    ]


def results_of(asks=ASKS):
    return read_results(swept(Asking(asks)))


def test_results_have_a_row_for_each_point_budget_and_group():
    results = results_of()
    rows = list(zip([p.params for p in results], results.budgets, results.groups, strict=True))
    assert rows == [
        ((0,), 1, "search"),
        ((1,), 1, "search"),
        ((0,), 3, "search"),
        ((0,), 1, "again"),
        ((1,), None, "final"),
        ((0,), None, "final"),
    ]
    numbers = [list(each) for each in results.trial_numbers]
    assert numbers == [[0, 1], [0, 1, 2], [0], [2, 3], [0, 1], [0, 1, 2]]
    for point, budget, own in zip(results, results.budgets, numbers, strict=True):
        expected = [metrics_of(point.params, n, trial_stage(budget))["perf_val"] for n in own]
        assert point.perf_val.tolist() == expected


def test_what_is_compared_has_one_budget_and_one_group():
    results = results_of()
    final = results.comparable()
    assert [p.params for p in final] == [(1,), (0,)]
    assert set(final.groups) == {"final"}
    comparison = results.compare()
    assert {comparison.rows[0].first, comparison.rows[0].second} == {"0", "1"}
    assert comparison.caveats[-1] == "not compared: 4 rows of other groups or budgets"
    assert results.best() in list(final)
    assert str(final.compare().rows) == str(comparison.rows)
    # Without a group "final": the last group, and its largest budget.
    rungs = results_of([Ask((n,), 2, 1) for n in range(4)] + [Ask((n,), 1, 3) for n in (1, 2)])
    assert set(rungs.comparable().budgets) == {3}
    same = results_of([Ask((n,), 2, 5, group="all") for n in range(2)])
    assert same.comparable() is same
    assert same.compare().caveats == ()


def test_a_budget_is_compared_once_a_trial_with_it_has_ended():
    store = swept(Asking([Ask((0,), 0), *(Ask((n,), 3, 1) for n in range(2)), Ask((0,), 2, 3)]))
    assert read_results(store).best().params == (0,)
    store.connection.execute("DELETE FROM outcomes WHERE stage = 'trial@3'")
    results = read_results(store)
    assert set(results.comparable().budgets) == {1}
    means = [float(np.mean(point.perf_val)) for point in results.comparable()]
    assert results.best() in list(results.comparable())
    status = read_status(store, Paths(Path("nowhere")))
    assert f"best so far  {means.index(max(means))} " in describe_status(status, results, 0.0)
    # Before any trial has ended there is no best point.
    store.connection.execute("DELETE FROM outcomes WHERE stage = 'trial@1'")
    results = read_results(store)
    assert "best so far  -" in describe_status(status, results, 0.0)


def test_a_group_is_compared_once_a_trial_of_it_has_ended():
    asks = [*(Ask((n,), 2, group="wide") for n in range(2)), Ask((0,), 0, group="narrow")]
    assert set(results_of(asks).comparable().groups) == {"wide"}
    # But what has chosen the final trials is never compared in their place.
    asks = [*(Ask((n,), 2, group="search") for n in range(2)), Ask((0,), 0, group="final")]
    assert set(results_of(asks).comparable().groups) == {"final"}


class By(Asking):
    """Its points are compared by their first parameter."""

    compare_by = ("param_0",)


def test_other_selectors_may_compare_by_parameters_too():
    points = [(n, other) for n in range(2) for other in range(2)]
    plain = read_results(swept(By([Ask(each, 2) for each in points])))
    assert [point.params for point in plain.comparable()] == [{"param_0": 0}, {"param_0": 1}]
    assert [len(point.perf_val) for point in plain.comparable()] == [4, 4]
    assert plain.compare().caveats == ()
    asks = [Ask(each, 2, budget, group="final") for budget in (1, 3) for each in points]
    rungs = read_results(swept(By(asks)))
    assert set(rungs.comparable().budgets) == {3}
    assert [len(point.perf_val) for point in rungs.comparable()] == [4, 4]
    assert rungs.compare().caveats == ("not compared: 4 rows of other groups or budgets",)


def test_a_selector_that_fails_at_once_leaves_the_results_as_they_were():
    store = swept(Asking([Ask(each, 2) for each in ((0, 1), (0, 2))]))
    with pytest.raises(AssertionError, match="asked for -1 trials"):
        simulate(By([Ask((0, 1), -1)]), 2, store)
    results = read_results(store)
    assert results.compare_by == ()
    assert results.comparable() is results
    simulate(By([Ask((0, 1), 2)]), 2, store)
    assert read_results(store).compare_by == ("param_0",)
    simulate(Asking([Ask((0, 1), 2)]), 2, store)
    assert read_results(store).compare_by == ()


def test_names_to_compare_by_are_checked():
    selector = Asking()
    selector.compare_by = "width"
    with pytest.raises(AssertionError, match="compare_by='width': it must be a tuple of"):
        swept(selector)


@pytest.mark.parametrize(
    "race", [lambda own: race_of(own, "toy"), lambda own: Race(own, 30).get_next_trials()]
)
def test_budgets_do_not_race(race):
    with pytest.raises(UsageError, match="0: asked for with budget 9: in a race all trials have"):
        race(Asking([Ask((0,), 30, 9)]))


def test_where_chooses_rows():
    results = results_of()
    assert [p.params for p in results.where(budget=1, group="search")] == [(0,), (1,)]
    assert results.where(param_0=0).groups == ("search", "search", "again", "final")
    assert results.where({(1,)}, budget=None).groups == ("final",)
    assert len(results.where(group="no such")) == 0
    with pytest.raises(UsageError, match=r"width=3: choose one of param_0, budget, group"):
        results.where(width=3)


def test_a_table_has_columns_for_budgets_and_groups_if_there_are_any():
    results = results_of()
    text = str(results.summary())
    assert text.splitlines()[0].split()[:4] == ["params", "budget", "group", "n"]
    assert [str(column.header) for column in results_table(results).columns][2:4] == [
        "budget",
        "group",
    ]
    plain = results_of([Ask((0,), 2), Ask((1,), 2)])
    assert str(plain.summary()).splitlines()[0].split()[:2] == ["params", "n"]
    assert "budget" not in plain.rows()[0]
    assert plain.groups == ("", "")


def test_exports_hold_budgets_and_groups():
    results = results_of()
    first, *_ = results.rows()
    assert (first["budget"], first["group"], first["trial"]) == (1, "search", 0)
    assert len(results.rows()) == sum(ask.trials for ask in ASKS)
    found = json.loads(json_text({}, results))["points"]
    assert [(one["budget"], one["group"]) for one in found] == list(
        zip(results.budgets, results.groups, strict=True)
    )


def test_views_have_a_file_for_each_budget(tmp_path):
    store = swept(Asking())
    paths = Paths(tmp_path)
    collate(store, paths)
    names = {path.name: np.load(path) for path in paths.point(0).glob("results*.npz")}
    assert set(names) == {"results.npz", "results@1.npz", "results@3.npz"}
    assert names["results@1.npz"]["trial_numbers"].tolist() == [0, 1, 2, 3]
    assert names["results.npz"]["trial_numbers"].tolist() == [0, 1, 2]


def test_status_counts_trials_of_every_budget():
    store = swept(Asking())
    status = read_status(store, Paths(Path("nowhere")))
    assert status.trials_done == status.trials_asked == sum(ask.trials for ask in ASKS)
    assert status.phases["done"] == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Ask((0,), 1, 0), "budget=0; expected a whole number, 1 or more"),
        (Ask((0,), 1, 2.0), "budget=2.0; expected"),
        (Ask((0,), 1, True), "budget=True; expected"),
        (Ask((0,), -1, 2), "asked for -1 trials"),
        (Ask((0,), 1, group=7), "group=7; expected"),
        (Ask((0,), 1, group="a\nb"), "group='a\\\\nb'; expected"),
        (((0,), 1, 2), "expected \\(params, trials\\), an Ask, or None"),
    ],
)
def test_bad_asks_are_refused(answer, said):
    from sweeper.study import Study
    from sweeper.testing.toy import ToyPlan

    study = Study(Asking([answer]), ToyPlan(), point_of, most_cores=1, slots=1)
    with pytest.raises(SelectorError, match=said):
        study.begin()


class Outside(Asking):
    """Its asks come from elsewhere: on a resume the log is repeated."""

    def __init__(self, asks):
        super().__init__(asks, adaptive=True)

    def repeat_ask(self, logged):
        return logged


def test_a_selector_whose_asks_come_from_outside_repeats_the_log():
    store = swept(Outside(ASKS[:3]))
    before = store.log("test_budgets:Outside")
    later = Outside([Ask((9,), 1)])
    simulate(later, 1, store)
    after = store.log("test_budgets:Outside")
    assert after[: len(before)] == before
    asked = [one.point.params for one in after if isinstance(one, Asked) and one.point]
    assert asked == [(0,), (1,), (0,), (9,)]
    assert [told[0] for told in later.told] == [(0,), (1,), (0,), (9,)]


def test_a_stage_of_trials_is_not_one_of_tuning():
    assert TRIAL == "trial"
    store = swept(Asking())
    stages = {row[0] for row in store.connection.execute("SELECT DISTINCT stage FROM outcomes")}
    assert {stage for stage in stages if is_trial(stage)} == {"trial", "trial@1", "trial@3"}
