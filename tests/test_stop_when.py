"""`stop_when`: a sweep that has enough finishes what runs, and goes on with more."""

from __future__ import annotations

import functools
import itertools
import math
from types import SimpleNamespace

import pytest

import sweeper
from blobs import UNTUNED
from sweeper.cli.run import _read_stop_when
from sweeper.errors import SettingsError, UsageError
from sweeper.records import METRICS, TRIAL, Failure, budget_of, is_trial
from sweeper.search import Ask
from sweeper.settings import StopWhen
from sweeper.store.results.load import read_results
from sweeper.study.stop_when import StopRule
from sweeper.testing.loop import memory, sweep
from sweeper.testing.toy import ToyBackend, never
from sweeping import assert_same_bits, replicas_started
from sweeping import run as run_tuned
from test_budgets import Asking
from tests.toys import Listed

run = functools.partial(run_tuned, hparams=UNTUNED)
"""Nothing here is about tuning."""

POINTS = [((n,), 3) for n in range(6)]


def simulate(when, slots=2, store=None, asks=POINTS):
    """A sweep of the made-up problem; returns its store, and the hours that it took."""
    store = store or memory()
    backend = ToyBackend(0, 0.0, never)
    interrupts = SimpleNamespace(signal=None)
    began = backend.clock()
    selector = Listed(list(asks))
    sweep(selector, slots, store, backend, interrupts, backend.clock, stop_when=when)
    return store, (backend.clock() - began) / 3600


def trials_in(store):
    return sum(outcome.stage == TRIAL for outcome in store.outcomes())


def numbers(store):
    return [list(each) for each in read_results(store).trial_numbers]


# -- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hours": 0}, r"hours=0: it must be a finite number above 0"),
        ({"hours": math.inf}, "hours=inf"),
        ({"trials": 1.5}, r"trials=1\.5: it must be a whole number, 1 or more"),
        ({"points": True}, "points=True"),
        ({"no_better": 0}, "no_better=0"),
        (
            {"trails": 3},
            r"no 'trails' \(did you mean trials\?\): choose from hours, tr",
        ),
        (3, r"stop_when=3 is a int: give a mapping such as \{'hours': 2\}"),
    ],
)
def test_wrong_limits_are_refused(given, said):
    with pytest.raises(SettingsError, match=said):
        StopWhen.read(given)


def test_a_mapping_and_a_record_say_the_same():
    assert StopWhen.read({"hours": 2, "points": 3}) == StopWhen(hours=2, points=3)
    assert StopWhen.read(StopWhen(trials=1)) == StopWhen(trials=1)
    assert StopWhen.read(None) == StopWhen.read({}) == StopWhen()


def ended(rule, *perfs):
    for place, perf in enumerate(perfs):
        rule.end_point(str(place), [(0.0, 0.0, perf, 0.0)])
    return rule.look(0, 0, 0)


def test_no_better_counts_points_in_a_row_that_are_not_above_the_best():
    rule = StopRule(StopWhen(no_better=3), 0)
    assert ended(rule, 0.5, 0.4, 0.3, 0.6, 0.6, 0.1) == ""
    rule.end_point("5", [(0.0, 0.0, 0.2, 0.0)])  # the same point once more
    rule.end_point("tuned only", [])
    assert rule.look(0, 0, 0) == ""
    rule.end_point("6", [Failure("exception", "boom")])
    assert rule.look(0, 0, 0) == "stopped since 3 points in a row came to no better mean"
    rule.end_point("7", [(0.0, 0.0, 0.9, 0.0)])
    assert rule.look(0, 0, 0).startswith("stopped"), "it changes its mind"


def test_points_are_judged_by_those_with_the_same_budget():
    rule = StopRule(StopWhen(no_better=2), 0)

    def end(name, perf, budget):
        rule.end_point(name, [(0.0, 0.0, perf, 0.0)], budget)
        return rule.look(0, 0, 0)

    assert end("0", 0.3, 1) == ""
    assert end("0", 0.9, 9) == "", "it went on"
    assert end("1", 0.4, 1) == "", "the best so far of budget 1"
    assert end("2", 0.5, 1) == ""
    assert end("2", 0.8, 9) == ""
    assert end("3", 0.5, 1) == "stopped since 2 points in a row came to no better mean"


def test_small_budgets_may_find_better_points_after_a_large_one():
    def measured(params, _number, stage):
        value = 0.5 * budget_of(stage) / 9 + 0.001 * params[0]
        return dict.fromkeys(METRICS, value)

    points = [(n,) for n in range(20)]
    asks = [Ask((0,), 1, 1), Ask((0,), 1, 9), *(Ask(n, 1, 1) for n in points[1:])]
    store, backend = memory(), ToyBackend(measured=measured)
    args = (store, backend, SimpleNamespace(signal=None), backend.clock)
    sweep(Asking(asks, adaptive=True), 1, *args, stop_when=StopWhen(no_better=3))
    assert sum(is_trial(outcome.stage) for outcome in store.outcomes()) == 21


def test_whichever_limit_comes_first_counts():
    when = StopWhen(hours=1, trials=10, points=5)
    assert StopRule(when, 100).look(3699, 9, 4) == ""
    assert StopRule(when, 100).look(3700, 9, 4) == "stopped after 1 h"
    assert "10 trials" in StopRule(when, 100).look(0, 10, 4)
    assert "6 points" in StopRule(when, 100).look(0, 9, 6)
    assert StopRule(StopWhen(), 0).look(math.inf, 10**9, 10**9) == ""


# -- sweeps in made-up time -----------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("wanted", [1, 5, 17])
def test_so_many_trials_are_trained_and_those_that_run(slots, wanted):
    store, _ = simulate(StopWhen(trials=wanted), slots)
    # A core is handed its next job before the study knows of the last one.
    assert wanted <= trials_in(store) <= wanted + slots


def test_it_goes_on_with_more_to_the_same_results():
    store, _ = simulate(StopWhen(points=2))
    assert 0 < trials_in(store) < 18
    again, _ = simulate(StopWhen(points=2), store=store)
    count = trials_in(again)
    again, _ = simulate(StopWhen(points=2), store=store)
    assert trials_in(again) == count, "with the same it stays where it is"
    for points in (3, 4, None):
        simulate(StopWhen(points=points), store=store)
    assert numbers(store) == numbers(simulate(None)[0]) == [[0, 1, 2]] * 6
    quiet = read_results(simulate(None)[0])
    assert_same_bits(read_results(store), quiet)


def test_its_time_is_that_of_the_run():
    _, whole = simulate(None, 1)
    store, part = simulate(StopWhen(hours=whole / 2), 1)
    assert whole / 2 <= part < whole
    assert 0 < trials_in(store) < 18
    simulate(StopWhen(hours=whole), 1, store)
    assert trials_in(store) == 18


def test_a_limit_that_is_not_reached_changes_nothing():
    store, _ = simulate(StopWhen(hours=1e6, trials=1000, points=100, no_better=100))
    assert numbers(store) == [[0, 1, 2]] * 6
    assert [note for note in read_results(store).notes if "stopped" in note] == []


# -- real sweeps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_results_say_why_it_stopped_until_it_went_on(tmp_path, backend):
    def sweep_until(when):
        selector = sweeper.FixedSweep([({"hidden": n}, 1) for n in (2, 3, 4, 5)])
        return run(tmp_path, selector, backend=backend, total_cores=1, stop_when=when)

    first = sweep_until({"points": 1})
    counts = [len(point.perf_val) for point in first]
    assert 1 <= sum(counts) < 4
    note = f"of which 1 were wanted: {sum(counts)} of 4 trials are done; run it again with a larger"
    assert note in str(first.summary())
    assert note in str(sweeper.load(tmp_path).notes)
    started = replicas_started(tmp_path)
    sweep_until({"trials": 1})
    assert replicas_started(tmp_path) == started
    last = sweep_until(StopWhen(points=9))
    assert [len(point.perf_val) for point in last] == [1, 1, 1, 1]
    assert "stopped" not in str(last.summary())
    trained = list(itertools.chain(replicas_started(tmp_path)))
    assert len(set(trained)) == len(trained)


def test_a_manual_search_that_waits_stops_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.run.dispatch.LOOK_OUTSIDE", 0.01)
    results = run(tmp_path, sweeper.ManualSearch(), stop_when={"hours": 1e-9})
    assert len(results) == 0


def test_the_command_line_reads_limits():
    assert _read_stop_when(["hours=2", "no_better=5"], None) == StopWhen(hours=2, no_better=5)
    assert _read_stop_when(["trials=9"], 30) == StopWhen(hours=0.5, trials=9)
    assert _read_stop_when([], None) == StopWhen()
    for written, minutes, said in (
        (["hours=1"], 1, "exclude each other"),
        ([], -1, "--minutes -1: it must be"),
        (["time=1"], None, "choose from hours"),
        (["hours=soon"], None, "hours='soon'"),
    ):
        with pytest.raises(UsageError, match=said):
            _read_stop_when(written, minutes)
