"""Domains that results replace: when, by what, and that a decision is not taken twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.errors import SettingsError, UsageError
from sweeper.records import Asked
from sweeper.search import DomainUpdates
from sweeper.search.domain import Domain, IntUniform, Uniform
from sweeper.search.reading.making import as_selector
from sweeper.testing.loop import memory
from sweeper.testing.selectors import drive, simulate

WIDE = Domain(a=range(10))


class Scripted:
    """Gives domains in turn, and notes how many results it was given."""

    def __init__(self, *domains):
        self.domains = list(domains)
        self.called = []

    def __call__(self, results):
        self.called.append(len(results))
        return self.domains.pop(0) if self.domains else None


def asked_by(selector, **options):
    return [ask.params["a"] for ask in drive(selector, **options)]


def search(domain, function, when, trials=2, **options):
    return DomainUpdates(domain.update_domain(function, when, **options), trials)


# -- when and by what -----------------------------------------------------------------------------


def test_after_every_n_points_the_next_domain_takes_the_place_of_the_rest():
    function = Scripted(Domain(a=[20, 21, 22, 23]), Domain(a=[30]))
    assert asked_by(search(WIDE, function, 3)) == [0, 1, 2, 20, 21, 22, 30]
    assert function.called == [3, 6]  # 7 is no multiple, and nothing is left


def test_none_goes_on_with_the_current_domain():
    function = Scripted(None, Domain(a=[20, 21, 22, 23]), None, None)
    assert asked_by(search(WIDE, function, 2)) == [0, 1, 2, 3, 20, 21, 22, 23]
    assert function.called == [2, 4, 6, 8]


def test_a_list_says_when():
    function = Scripted(Domain(a=[20, 21, 22, 23]), Domain(a=[30, 31, 32]))
    assert asked_by(search(WIDE, function, [4, 1])) == [0, 20, 21, 22, 30, 31, 32]
    assert function.called == [1, 4]


def test_last_is_when_a_domain_is_used_up():
    function = Scripted(Domain(a=[20]), Domain(a=[30, 31]))
    assert asked_by(search(Domain(a=[1, 2]), function, "last")) == [1, 2, 20, 30, 31]
    assert function.called == [2, 3, 5]


def test_a_point_is_asked_for_once():
    function = Scripted(Domain(a=[1, 2, 3]), Domain(a=[1, 2]))
    assert asked_by(search(Domain(a=[1, 2]), function, "last")) == [1, 2, 3]
    assert function.called == [2, 3]  # nothing new: over


def test_a_point_that_cannot_be_tuned_counts_and_has_no_result():
    function = Scripted(Domain(a=[20, 21]))
    failing = {"a": 1}
    selector = search(WIDE, function, 3)
    assert asked_by(selector, failing=lambda params: params == failing) == [0, 1, 2, 20, 21]
    assert function.called == [2]


def test_results_are_given_in_the_order_of_asking():
    seen = []

    def best_neighbours(results):
        seen.append([result.params["a"] for result in results])
        best = max(results, key=lambda result: result.metrics["perf_val"].mean()).params["a"]
        return Domain(a=[best + 100, best + 101])

    drive(search(Domain(a=[3, 6, 1]), best_neighbours, [3]))
    assert seen == [[3, 6, 1]]


def test_points_of_infinite_domains_are_limited_and_drawn_by_the_seed():
    def narrower(results):
        return Domain(a=IntUniform(100, 102), b=[0])

    updated = Domain(a=IntUniform(0, 50), b=[0]).update_domain(narrower, 4, points=7)
    asked = asked_by(DomainUpdates(updated, 1, seed=3))
    assert len(set(asked)) == 7
    assert all(a <= 50 for a in asked[:4])
    assert set(asked[4:]) == {100, 101, 102}
    assert asked_by(DomainUpdates(updated, 1, seed=3)) == asked
    assert asked_by(DomainUpdates(updated, 1, seed=4)) != asked


def test_all_points_up_to_a_decision_are_open_at_once():
    selector = search(Domain(a=range(50)), Scripted(), 20)
    assert selector.look_ahead == 20
    for _ in range(20):
        assert selector.get_next_trials() is not None
    assert selector.get_next_trials() is None
    assert selector.has_more_trials()


# -- what is resumed ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 3, [2, 5], [4], "last"]),
    st.lists(st.none() | st.lists(st.integers(10, 30), min_size=1, max_size=6), max_size=5),
    st.integers(1, 40),
)
def test_a_resumed_search_asks_the_same(when, lists, batches):
    domains = [drawn and Domain(a=sorted(set(drawn))) for drawn in lists]
    quiet = Scripted(*domains)
    whole = asks(simulate(search(WIDE, quiet, when), 2, memory()))
    given_by_results = dict(zip(quiet.called, domains, strict=False))

    store, first = memory(), Scripted(*domains)
    before = simulate(search(WIDE, first, when), 2, store, batches=batches)
    again = []

    def function(results):
        again.append(len(results))
        return given_by_results.get(len(results))

    after = simulate(search(WIDE, function, when), 2, store, seed=1)
    assert after[: len(before)] == before
    assert asks(after) == whole
    # A decision is taken twice only where it was not durable, or where its rest is needed again.
    if None not in given_by_results.values() and len(quiet.called) <= len(domains):
        assert not set(again) & set(first.called[:-1])


def asks(log):
    return [entry for entry in log if isinstance(entry, Asked)]


def test_a_decision_is_read_from_the_log_even_if_it_would_be_another_one():
    store = memory()
    first = Scripted(Domain(a=[20, 21, 22]), Domain(a=[30, 31, 32]))
    before = asks(simulate(search(WIDE, first, 3), 2, store, batches=10_000))
    assert [entry.point.params["a"] for entry in before if entry.point][3:6] == [20, 21, 22]

    def forbidden(results):
        raise AssertionError(f"called again with {len(results)} results")

    simulate(search(WIDE, forbidden, 3), 2, store)


def test_another_first_domain_is_noticed():
    store = memory()
    simulate(search(WIDE, Scripted(), 3), 2, store, batches=3)
    with pytest.raises(AssertionError, match="does not ask what it asked before"):
        simulate(search(Domain(a=range(5, 15)), Scripted(), 3), 2, store)


# -- as sweep() takes it, and what is refused -----------------------------------------------------


def test_sweep_takes_it():
    updated = WIDE.update_domain(Scripted(Domain(a=[20])), 2)
    asked = [(ask.params["a"], ask.trials) for ask in drive(as_selector(updated, 3, 0))]
    assert asked == [(0, 3), (1, 3), (20, 3)]
    with pytest.raises(SettingsError, match="trials= is missing"):
        as_selector(updated, None, 0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: WIDE.update_domain(3, 1), r"update_domain\(3\): give a function"),
        (lambda: WIDE.update_domain(len, 0), "when=0: give a number of complete points"),
        (lambda: WIDE.update_domain(len, True), "when=True"),
        (lambda: WIDE.update_domain(len, []), r"when=\[\]"),
        (lambda: WIDE.update_domain(len, [1, 0]), r"when=\[1, 0\]"),
        (lambda: WIDE.update_domain(len, "first"), "when='first'.*or 'last'"),
        (lambda: WIDE.update_domain(len, 1, points=0), "points=0"),
        (lambda: Domain(a=Uniform(0, 1)).update_domain(len, 1), "has no end: give update_domain"),
        (lambda: DomainUpdates(WIDE, 1), "give domain.update_domain"),
        (lambda: DomainUpdates(WIDE.update_domain(len, 1), 0), "trials=0"),
        (lambda: search(WIDE.where(lambda _: False), len, 1), "has no points"),
        (lambda: drive(search(WIDE, len, 1)), r"gave 1 \(a int\): it must give a Domain or None"),
        (lambda: drive(search(WIDE, Scripted(Domain(a=Uniform(0, 1))), 1)), "has no end"),
    ],
)
def test_what_cannot_be_meant_is_said(make, said):
    with pytest.raises(UsageError, match=said):
        make()
