"""Fresh trials of the best points: who gets them, and that they say what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.errors import UsageError
from sweeper.records import FINAL
from sweeper.search import Ask, Confirm, FixedSweep, Grid, SuccessiveHalving
from sweeper.search.domain import Domain, Uniform
from sweeper.store.results.load import read_results
from sweeper.testing.loop import memory
from sweeper.testing.selectors import drive, simulate


def finals(selector, **options):
    return [ask for ask in drive(selector, **options) if ask.group == FINAL]


def test_the_best_points_get_fresh_trials():
    values = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.7}
    confirm = Confirm(Grid(trials=2, a=[1, 2, 3, 4]), 6, leaders=2)
    asked = drive(confirm, measured=lambda params, *_: values[params["a"]])
    assert asked[:4] == [Ask({"a": a}, 2) for a in values]
    assert asked[4:] == [Ask({"a": 2}, 6, group=FINAL), Ask({"a": 4}, 6, group=FINAL)]
    losses = Confirm(Grid(trials=2, a=[1, 2, 3, 4]), 6, leaders=1, metric="loss_val")
    asked = drive(losses, measured=lambda params, *_: values[params["a"]])
    assert [ask.params for ask in asked[4:]] == [{"a": 2}], "`drive` gives 1 - perf as loss"


def test_points_that_failed_or_diverged_are_no_leaders():
    def measured(params, number, _budget):
        return math.nan if params["a"] == 3 and number == 1 else params["a"]

    confirm = Confirm(Domain(a=[1, 2, 3, 4]), 5, leaders=3, first_trials=2)
    found = finals(confirm, failing=lambda params: params["a"] == 4, measured=measured)
    assert [ask.params["a"] for ask in found] == [2, 1]


def test_a_point_asked_for_twice_is_judged_by_all_its_trials():
    asks = FixedSweep([((1,), 1), ((2,), 2), ((1,), 1)])
    values = {((1,), 0): 9.0, ((1,), 1): 0.0, ((2,), 0): 5.0, ((2,), 1): 5.0}
    found = finals(Confirm(asks, 3, 1), measured=lambda params, n, _: values.get((params, n), 0.0))
    assert found == [Ask((2,), 3, group=FINAL)]


def test_after_halving_the_leaders_of_the_largest_budget_are_confirmed_at_it():
    halving = SuccessiveHalving([(n,) for n in range(9)], max_budget=9)
    found = finals(Confirm(halving, 4), measured=lambda params, *_: params[0])
    assert found == [Ask((8,), 4, 9, group=FINAL)]


def test_what_the_leader_reached_is_too_high_and_what_fresh_trials_say_is_not():
    chosen, fresh = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values = {}

        def measured(params, number, _budget, rng=rng, values=values):
            return values.setdefault((params, number), rng.normal())

        confirm = Confirm([(n,) for n in range(20)], 10, leaders=1, first_trials=3)
        (final,) = finals(confirm, measured=measured)
        own = [values[final.params, number] for number in range(13)]
        chosen.append(np.mean(own[:3]))
        fresh.append(np.mean(own[3:]))
    # All points are equal: the true mean is 0.
    assert np.mean(chosen) > 0.9
    assert abs(np.mean(fresh)) < 4 * (1 / math.sqrt(10 * 300))


def test_only_fresh_trials_are_compared():
    store = memory()
    simulate(Confirm(Grid(trials=2, a=range(5)), 6, leaders=2), 2, store)
    results = read_results(store)
    assert results.groups == ("",) * 5 + (FINAL,) * 2
    assert [list(numbers) for numbers in results.trial_numbers[5:]] == [[2, 3, 4, 5, 6, 7]] * 2
    assert len(results.comparable()) == 2
    assert results.best().params in [point.params for point in results.where(group=FINAL)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Confirm(Domain(a=[1]), 0), "trials=0: it must be 1 or more"),
        (lambda: Confirm(Domain(a=[1]), leaders=0), "leaders=0: it must be 1 or more"),
        (lambda: Confirm(Domain(a=Uniform(0, 1))), "has no end"),
        (lambda: Confirm("grid"), "'grid' is a str: give a Domain, a list of points"),
        (lambda: Confirm(Domain(a=[1]), metric="f1"), "metric='f1': is it better when large"),
    ],
)
def test_bad_arguments_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make()
