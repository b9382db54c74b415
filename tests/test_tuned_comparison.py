"""Comparisons of variants that are each tuned: what is asked, and whether what is said is true."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter, defaultdict

import numpy as np
import pytest

from sweeper.errors import UsageError
from sweeper.records import FINAL, METRICS, Status
from sweeper.results import PointResult, PointTrials, SweepResult
from sweeper.search import TunedComparison
from sweeper.search.domain import Choice, Domain, IntUniform, Uniform
from sweeper.show.status import describe_status
from sweeper.show.table import STAR, results_table
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate
from sweeper.store.results.load import read_results
from sweeper.testing.loop import memory
from sweeper.testing.selectors import drive, simulate

VARIANTS = Domain(variant=["A", "B"])
BEST_AT = {"A": 0.3, "B": 0.6}


def made_up(seed, gap, curvature=4.0):
    """An objective with noise of 1, on which A is better by `gap`, each at its own best x.

    The default, x = 0.6, is the best x of B: there B looks better.
    """
    rng = np.random.default_rng(seed)

    def measured(params, _number, _budget):
        variant, x = params["variant"], params["x"]
        loss = curvature * (x - BEST_AT[variant]) ** 2
        return (gap if variant == "A" else 0.0) - loss + rng.normal()

    return measured


def judged(selector, measured):
    """The results of the selector's sweep, without the engine."""
    values = defaultdict(list)

    def kept(params, number, budget):
        value = measured(params, number, budget)
        values[repr(params)].append(value)
        return value

    asked = drive(selector, measured=kept, most=100_000)
    trials, taken = [], Counter()
    for ask in asked:
        begin = taken[repr(ask.params)]
        taken[repr(ask.params)] += ask.trials
        own = np.array(values[repr(ask.params)][begin : begin + ask.trials])
        point = PointResult(ask.params, 0.1, 0.2, 8, own, -own, own, -own)
        numbers = np.arange(begin, begin + ask.trials)
        trials.append(PointTrials.of(point, numbers, group=ask.group))
    return SweepResult(trials, compare_by=selector.compare_by)


def said_of_a(results):
    (row,) = results.compare().rows
    if row.first_params["variant"] == "A":
        return row.verdict
    return {"better": "worse", "worse": "better"}.get(row.verdict, row.verdict)


# -- whether it is true ---------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_variants_are_rarely_said_to_differ():
    domain = Domain(x=Uniform(0, 1))
    for options in ({"trials": 10}, {"trials": 60, "tunings": 4}):
        false = 0
        for seed in range(100):
            selector = TunedComparison(VARIANTS, domain, seed=seed, **options)
            false += said_of_a(judged(selector, made_up(seed, 0.0))) != "not told apart"
        assert false <= 7, (options, false)


def test_with_one_search_each_they_often_are_so_this_test_can_fail():
    domain, false = Domain(x=Uniform(0, 1)), 0
    for seed in range(60):
        selector = TunedComparison(VARIANTS, domain, trials=100, tunings=1, seed=seed)
        false += said_of_a(judged(selector, made_up(seed, 0.0))) != "not told apart"
    assert false > 60 * 0.15


@pytest.mark.slow
def test_a_variant_that_is_better_at_its_best_is_named_though_it_looks_worse_at_the_default():
    domain, named, best = Domain(x=Uniform(0, 1)), 0, 0
    for seed in range(100):
        selector = TunedComparison(
            VARIANTS, domain, trials=240, tunings=8, search_trials=4, seed=seed
        )
        results = judged(selector, made_up(seed, 0.5))
        named += said_of_a(results) == "better"
        best += results.best().params == {"variant": "A"}
    assert named >= 95, named
    assert best >= 95, best
    measured = made_up(0, 0.5)
    at_default = [
        np.mean([measured({"variant": each, "x": 0.6}, 0, None) for _ in range(500)])
        for each in "AB"
    ]
    assert at_default[0] == pytest.approx(at_default[1] + 0.5 - 4 * 0.09, abs=0.2)


# -- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_every_variant_gets_the_same_draws_and_the_same_budget(sampler):
    selector = TunedComparison(
        VARIANTS, Domain(x=Uniform(0, 1), n=IntUniform(1, 99)), 7, 6, sampler=sampler, tunings=2
    )
    asked = drive(selector)
    searches = [ask for ask in asked if ask.group == "search"]
    assert len(searches) == 2 * 2 * 7
    drawn = {"A": [], "B": []}
    for ask in searches:
        drawn[ask.params["variant"]].append((ask.params["x"], ask.params["n"]))
    assert drawn["A"] == drawn["B"]
    assert len(set(drawn["A"])) == 14, "each tuning draws anew"
    finals = [ask for ask in asked if ask.group == FINAL]
    assert sorted(ask.trials for ask in finals) == [3] * 4
    assert Counter(ask.params["variant"] for ask in finals) == {"A": 2, "B": 2}


def test_the_best_of_each_search_is_judged_by_fresh_trials():
    selector = TunedComparison(VARIANTS, Domain(x=range(9)), 9, 4, tunings=1)

    def measured(params, number, _budget):
        assert params["x"] == 5 or number == 0
        return -((params["x"] - 5) ** 2)

    asked = drive(selector, measured=measured)
    assert [(a.params, a.trials) for a in asked if a.group == FINAL] == [
        ({"variant": "A", "x": 5}, 4),
        ({"variant": "B", "x": 5}, 4),
    ]
    losses = TunedComparison(
        VARIANTS, Domain(x=range(9)), 9, 4, tunings=1, metric="loss_val", sampler="random"
    )
    asked = drive(losses, measured=lambda params, *_: (params["x"] - 5) ** 2)
    # `drive` gives 1 - performance as loss: the smallest loss is that of the best performance.
    assert {a.params["x"] for a in asked if a.group == FINAL} == {0}


def test_trials_are_spread_over_the_tunings():
    asked = drive(TunedComparison(VARIANTS, Domain(x=Uniform(0, 1)), 3, 10, tunings=3))
    finals = [ask.trials for ask in asked if ask.group == FINAL and ask.params["variant"] == "A"]
    assert sorted(finals) == [3, 3, 4]


def test_it_goes_on_without_what_fails():
    domain = Domain(x=Uniform(0, 1))
    asked = drive(
        TunedComparison(VARIANTS, domain, 5, 2, tunings=1),
        failing=lambda params: params["variant"] == "B",
    )
    finals = [ask.params["variant"] for ask in asked if ask.group == FINAL]
    assert finals == ["A"]


# -- results --------------------------------------------------------------------------------------


def swept(**options):
    selector = TunedComparison(
        Domain(variant=["A", "B", "C"]), Domain(x=Uniform(0, 1)), 4, 8, tunings=2, **options
    )
    store = memory()
    simulate(selector, 2, store)
    return read_results(store)


def test_results_compare_the_variants():
    results = swept()
    assert results.compare_by == ("variant",)
    finals = results.comparable()
    assert [point.params for point in finals] == [{"variant": each} for each in "ABC"]
    assert [len(point.perf_val) for point in finals] == [8, 8, 8]
    assert [sorted(set(which)) for which in finals.tunings] == [[0, 1]] * 3
    rows = results.where(group=FINAL)
    for place, variant in enumerate("ABC"):
        own = [point.perf_val for point in rows if point.params["variant"] == variant]
        assert np.array_equal(finals[place].perf_val, np.concatenate(own))
    text = str(results.compare())
    assert "x=" not in text
    assert "variant=" in text
    assert str(results.summary()).count("variant=A x=") == 10, "every row is in the table"
    assert set(results.best().params) == {"variant"}
    for variant in "ABC":
        own = [f"x={p.params['x']:g}"[:4] for p in rows if p.params["variant"] == variant]
        (note,) = [one for one in results.notes if one.startswith(f"chosen for variant={variant}")]
        assert [text.strip()[:4] for text in note.partition(": ")[2].split("|")] == own


def test_the_star_is_at_every_row_that_stands_for_the_best():
    results = swept()
    places = results.best_places()
    assert len(places) == 2
    best = results.best().params["variant"]
    assert {results[place].params["variant"] for place in places} == {best}
    marks = list(results_table(results).columns[0].cells)
    assert [place for place, mark in enumerate(marks) if str(mark) == STAR] == places


def test_only_rows_that_are_left_out_count_as_not_compared():
    assert swept().compare().caveats[-1] == "not compared: 24 rows of other groups or budgets"


def test_files_of_the_points_have_all_their_parameters(tmp_path):
    selector = TunedComparison(VARIANTS, Domain(x=Uniform(0, 1)), 4, 8, tunings=2)
    store = memory()
    simulate(selector, 2, store)
    results = collate(store, Paths(tmp_path))
    found = pickle.loads(Paths(tmp_path).funcres.read_bytes())
    finals = results.where(group=FINAL)
    assert [params for params, *_ in found] == [point.params for point in finals]
    assert {name for params, *_ in found for name in params} == {"variant", "x"}


def test_status_names_the_best_variant():
    results = swept()
    best = results.best().params["variant"]
    status = Status("folder", {}, {}, 0, 0, 0, None, None, None)
    assert f"best so far  variant={best} " in describe_status(status, results, 0.0)


def test_a_variant_may_lack_a_parameter_that_another_has():
    scientific = Domain(opt=["sgd", "adam"]).when(opt="sgd", momentum=[0, 0.9])
    store = memory()
    simulate(TunedComparison(scientific, Domain(x=Uniform(0, 1)), 3, 4, tunings=2), 2, store)
    results = read_results(store)
    assert [point.params for point in results.comparable()] == [
        {"opt": "sgd", "momentum": 0},
        {"opt": "sgd", "momentum": 0.9},
        {"opt": "adam"},
    ]
    assert len(results.compare().rows) == 2


def test_before_any_fresh_trials_nothing_is_compared():
    results = swept().where(group="search")
    assert len(results) == 24
    assert len(results.comparable()) == 0
    assert results.summary().comparison is None
    assert results.compare().rows == ()


def test_points_are_taken_together_by_any_parameters():
    trials = []
    for a, b in itertools.product((1, 2), (3, 4)):
        values = np.array([a + b, a * b], dtype=float)
        point = PointResult({"a": a, "b": b}, 0.1, 0.2, 8, *[values] * 4)
        trials.append(PointTrials.of(point, np.arange(2)))
    results = SweepResult(trials)
    together = results.by("a")
    assert [point.params for point in together] == [{"a": 1}, {"a": 2}]
    assert together[1].loss_val.tolist() == [5, 6, 6, 8]
    assert together.tunings[0].tolist() == [0, 0, 1, 1]
    assert [point.params for point in results.by("b", "a")] == [
        {"b": b, "a": a} for a in (1, 2) for b in (3, 4)
    ]
    with pytest.raises(UsageError, match=r"c: no point has such a parameter: choose of a, b"):
        results.by("c")
    with pytest.raises(UsageError, match=r"by\(\): give the names"):
        results.by()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TunedComparison(VARIANTS, Domain(variant=[1])), "variant: a parameter is either"),
        (lambda: TunedComparison([(1,)], Domain(x=[1])), "give the variants' parameters by name"),
        (lambda: TunedComparison(Domain(a=Uniform(0, 1)), Domain(x=[1])), "has no end"),
        (lambda: TunedComparison(VARIANTS, {"x": [1]}), "is a dict: give a Domain"),
        (lambda: TunedComparison(VARIANTS, Domain(x=[1]), 0), "searches=0: it must be 1 or more"),
        (lambda: TunedComparison(VARIANTS, Domain(x=[1]), trials=2), "trials=2: it must be 3 or m"),
        (lambda: TunedComparison(VARIANTS, Domain(x=[1]), tunings=0), "tunings=0"),
        (lambda: TunedComparison(VARIANTS, Domain(x=Choice([1])), 2), "points=2: only 1 w"),
        (lambda: TunedComparison(VARIANTS, Domain(x=[1]), metric="f1"), "metric='f1': is it"),
    ],
)
def test_bad_arguments_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_searches_that_end_at_the_same_point_are_tunings_all_the_same():
    selector = TunedComparison(VARIANTS, Domain(x=[1, 2]), 2, 12, tunings=4)
    store = memory()
    simulate(
        selector,
        2,
        store,
        measured=lambda params, number, _stage: dict.fromkeys(
            METRICS, params["x"] + (params["variant"] == "A") + number % 3 / 10
        ),
    )
    results = read_results(store)
    finals = results.where(group=FINAL)
    assert [point.params["x"] for point in finals] == [2, 2]
    assert [own.tolist() for own in finals.asks] == [[0] * 3 + [1] * 3 + [2] * 3 + [3] * 3] * 2
    judged_finals = results.comparable()
    assert [len(set(which)) for which in judged_finals.tunings] == [4, 4]
    assert len(judged_finals.rows()) == 24
    assert "4 tunings" in results.compare().basis
    assert said_of_a(results) == "better"
