"""Successive halving and Hyperband: which points go on, when, and what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.errors import UsageError
from sweeper.records import Asked
from sweeper.search import Ask, Grid, Hyperband, Race, SuccessiveHalving, TrialResults
from sweeper.search.domain import Domain, Uniform
from sweeper.search.selectors.hyperband import plan_brackets
from sweeper.search.shared.brackets import Bracket, budgets_between
from sweeper.search.shared.goals import read_goal
from sweeper.testing.loop import memory
from sweeper.testing.selectors import drive, simulate

# -- the algorithm --------------------------------------------------------------------------------


def run(bracket, values, order):
    """Tell results in some order of what is open; returns what was tried, in order."""
    tried, open_tries = [], []
    while not bracket.ended:
        while (found := bracket.next()) is not None:
            tried.append(found)
            open_tries.append(found)
        rung, place = open_tries.pop(order() % len(open_tries))
        bracket.tell(rung, place, values[rung][place])
    return tried


def halved(values, sizes):
    """The points of each rung by sorting whole rungs."""
    left = list(range(len(values[0])))
    rungs = [left]
    for rung, size in enumerate(sizes[1:]):
        sound = [place for place in left if values[rung][place] is not None]
        left = sorted(sound, key=lambda place: (-values[rung][place], place))[:size]
        rungs.append(left)
    return rungs


@given(st.data())
def test_a_bracket_tries_what_sorting_whole_rungs_gives_in_any_order_of_results(data):
    eta = data.draw(st.integers(2, 4))
    count = data.draw(st.integers(1, 30))
    rungs = data.draw(st.integers(1, 4))
    value = st.one_of(st.none(), st.integers(0, 5))
    values = [data.draw(st.lists(value, min_size=count, max_size=count)) for _ in range(rungs)]
    sizes = [count]
    for _ in range(rungs - 1):
        sizes.append(max(1, sizes[-1] // eta))
    bracket = Bracket([(place,) for place in range(count)], range(1, rungs + 1), eta)
    tried = run(bracket, values, lambda: data.draw(st.integers(0, 100)))
    found = [sorted(place for rung, place in tried if rung == number) for number in range(rungs)]
    assert found == [sorted(rung) for rung in halved(values, sizes)]
    assert len(tried) == len(set(tried))


def test_a_point_goes_on_before_its_rung_has_ended():
    bracket = Bracket([(place,) for place in range(6)], (1, 2), 3)
    for place in range(6):
        assert bracket.next() == (0, place)
    for place, value in enumerate([9, 1, 2, 8]):
        bracket.tell(0, place, value)
    assert bracket.next() is None, "each of the two that are not known may be better than both"
    bracket.tell(0, 4, 0)
    assert bracket.next() == (1, 0), "one that is not known cannot be better than both"
    assert bracket.next() is None
    bracket.tell(0, 5, 3)
    assert bracket.next() == (1, 3)


@pytest.mark.parametrize(
    ("low", "high", "eta", "budgets"),
    [(1, 27, 3, (1, 3, 9, 27)), (2, 9, 2, (2, 4, 8, 9)), (4, 4, 3, (4,)), (1, 2, 5, (1, 2))],
)
def test_budgets_rise_by_eta_to_the_largest(low, high, eta, budgets):
    assert budgets_between(low, high, eta) == budgets


def test_the_brackets_of_hyperband_are_those_of_the_paper():
    # Table 1 of Li et al.: R = 81, eta = 3.
    assert plan_brackets(1, 81, 3) == [
        (81, (1, 3, 9, 27, 81)),
        (34, (3, 9, 27, 81)),
        (15, (9, 27, 81)),
        (8, (27, 81)),
        (5, (81,)),
    ]


# -- the selectors --------------------------------------------------------------------------------


def curve(rng):
    """A made-up learning curve: how good it ends, how soon, and its noise."""
    end, pace = rng.normal(), rng.uniform(1, 4)
    noise = rng.normal(0, 0.05, size=100)
    return lambda budget: end * (1 - math.exp(-budget / pace)) + noise[budget]


def cost(asked):
    """The budget trained, where a trial with a larger budget goes on from a smaller one."""
    reached = {}
    for ask in asked:
        reached[ask.params] = max(ask.budget, reached.get(ask.params, 0))
    return sum(reached.values())


def test_the_best_of_made_up_learning_curves_is_found_at_a_third_of_the_cost():
    found, points, most = 0, 81, 27
    for seed in range(100):
        rng = np.random.default_rng(seed)
        curves = [curve(rng) for _ in range(points)]
        ends = [each(most) for each in curves]
        selector = SuccessiveHalving([(n,) for n in range(points)], max_budget=most)
        asked = drive(
            selector,
            measured=lambda params, _number, budget, curves=curves: curves[params[0]](budget),
        )
        last = max(ends[ask.params[0]] for ask in asked if ask.budget == most)
        found += last == max(ends)
        assert cost(asked) <= points * most / 3
    assert found >= 95, found


def test_small_values_are_the_best_where_the_metric_is_minimized():
    for metric, last in (("perf_val", 8), ("loss_val", 0)):
        selector = SuccessiveHalving([(n,) for n in range(9)], max_budget=9, metric=metric)
        asked = []
        while selector.has_more_trials():
            while (ask := selector.get_next_trials()) is not None:
                asked.append(ask)
            for ask in asked:
                value = np.array([float(ask.params[0])])
                selector.on_results(TrialResults(ask.params, np.arange(1), {metric: value}))
            final, asked = asked[-1], []
        assert final == Ask((last,), 1, 9)


def test_what_failed_or_diverged_does_not_go_on():
    def measured(params, _number, _budget):
        return math.nan if params[0] > 5 else params[0]

    asked = drive(
        SuccessiveHalving([(n,) for n in range(9)], max_budget=9),
        failing=lambda params: params == (5,),
        measured=measured,
    )
    assert [ask for ask in asked if ask.budget == 9] == [Ask((4,), 1, 9)]
    assert {ask.params for ask in asked if ask.budget == 3} == {(4,), (3,), (2,)}
    nobody = drive(SuccessiveHalving([(n,) for n in range(9)]), failing=lambda _params: True)
    assert len(nobody) == 9


def test_decisions_are_the_same_on_any_number_of_cores():
    logs = []
    for slots in (1, 2, 8):
        log = simulate(SuccessiveHalving([(n,) for n in range(27)]), slots, memory(), seed=slots)
        logs.append([entry for entry in log if isinstance(entry, Asked) and entry.point])
    assert logs[0] == logs[1] == logs[2]
    assert {entry.budget for entry in logs[0]} == {1, 3, 9, 27}


def test_points_come_from_a_domain_a_list_or_a_selector():
    drawn = SuccessiveHalving(Domain(rate=Uniform(0, 1)), 9, max_budget=9, seed=3)
    assert list(drawn.brackets[0].points) == Domain(rate=Uniform(0, 1)).sample(9, 3)
    every = SuccessiveHalving(Domain(a=[1, 2], b=["x", "y"]))
    assert list(every.brackets[0].points) == list(Domain(a=[1, 2], b=["x", "y"]))
    taken = SuccessiveHalving(Grid(trials=7, a=[1, 2, 3]), 2)
    assert taken.brackets[0].points == ({"a": 1}, {"a": 2})
    hyper = Hyperband(Domain(rate=Uniform(0, 1)), max_budget=9)
    sizes = [len(bracket.points) for bracket in hyper.brackets]
    assert sizes == [size for size, _ in plan_brackets(1, 9, 3)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SuccessiveHalving(Domain(a=Uniform(0, 1))), "has no end: give points="),
        (lambda: SuccessiveHalving([(1,)], 2), "points=2: only 1 were given"),
        (lambda: SuccessiveHalving([]), "has no points"),
        (lambda: SuccessiveHalving("width"), "'width' is a str: give a Domain, a list of points"),
        (lambda: SuccessiveHalving([(1,)], 0), "points=0: it must be 1 or more"),
        (lambda: SuccessiveHalving(Race(Grid(trials=1, a=[1]), 9)), "adaptive, such as"),
        (lambda: SuccessiveHalving([(1,)], min_budget=0), "min_budget=0: it must be 1 or more"),
        (lambda: SuccessiveHalving([(1,)], min_budget=9, max_budget=3), "max_budget=3: it must"),
        (lambda: SuccessiveHalving([(1,)], eta=1), "eta=1: it must be 2 or more"),
        (lambda: SuccessiveHalving([(1,)], trials=0), "trials=0: it must be 1 or more"),
        (lambda: SuccessiveHalving([(1,)], metric="f1"), "metric='f1': is it better when large"),
        (lambda: SuccessiveHalving([(1,)], direction="up"), "direction='up': choose one of maxi"),
        (lambda: Hyperband([(n,) for n in range(5)], max_budget=9), "only 5 were given"),
    ],
)
def test_bad_arguments_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()


def test_a_goal_knows_the_direction_of_the_classic_metrics():
    assert read_goal("loss_val").sign == -1
    assert read_goal("perf_val").sign == 1
    assert read_goal("f1", "minimize").sign == -1
    with pytest.raises(UsageError, match="the direction of perf_val is maximize"):
        read_goal("perf_val", "minimize")
    results = TrialResults((1,), np.arange(2), {"f1_val": np.array([1.0, 3.0])})
    assert read_goal("f1", "minimize").mean(results) == -2
    with pytest.raises(UsageError, match="metric='auc': choose one of f1_val"):
        read_goal("auc", "maximize").mean(results)
