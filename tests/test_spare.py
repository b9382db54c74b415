"""Spare trials: idle slots run further trials of the points whose means are known worst."""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from types import SimpleNamespace

import pytest

import sweeper
from sweeper.records import FINAL, TRIAL, Failure, Lost, Metric, Point, Started, Step
from sweeper.run.dispatch import dispatch
from sweeper.run.scheduler import Scheduler
from sweeper.settings import StopWhen
from sweeper.store.results.load import read_results
from sweeper.study import Study
from sweeper.study.measures import Measures
from sweeper.study.spare import MOST_SPARE, widest
from sweeper.study.state import PointState, Series
from sweeper.testing.loop import memory
from sweeper.testing.loop import sweep as loop
from sweeper.testing.toy import ToyBackend, ToyPlan, metrics_of, never, point_of
from test_budgets import Asking
from tests.toys import Gambler, Listed, Script, asked_results_in, some_fail

BOOM = Failure("exception", "ValueError: boom")
ONE = Measures([Metric("acc")])
LONG, SHORT = [((0,), 2), ((1,), 2), ((2,), 1)], (1.0, 9.0)


# -- whose turn it is -----------------------------------------------------------------------------


def point(*values, asked=None, width=1, stage=TRIAL, group="", order=0):
    """A point whose trials came to these values; of a failure, in place of a value, too."""
    series = Series(stage)
    series.ask(len(values) if asked is None else asked, group)
    ended = [one if isinstance(one, Failure) else (one,) for one in values]
    series.trials = dict(enumerate(ended))
    params = (order, *values)
    one = Point(repr(params), params, repr(params), width)
    state = PointState(one, order, order, Step(TRIAL), lambda _: (), lambda *_: 1.0)
    state.series[stage] = series
    return state


def chosen(*points, group="", cores=8):
    """The places of the points that get spare trials, one after the other, while none ends."""
    found = []
    for _ in range(4):
        one = widest(points, group, cores, ONE)
        if one is None:
            break
        state, series = one
        series.spares.add(series.next_spare())
        found.append(points.index(state))
    return found


def test_the_widest_interval_goes_first_and_those_that_run_count():
    assert chosen(point(0.0, 1.0, 2.0), point(0.0, 9.0, 5.0))[:2] == [1, 1]
    # 1.0 apart: ± 6.4 with 2 trials, ± 1.8 with 3 and ± 1.1 with 4; so it is soon the other's turn.
    assert chosen(point(0.0, 1.0), point(0.0, 1.1)) == [1, 0, 1, 0]


def test_where_nothing_is_known_the_fewest_trials_go_first():
    assert chosen(point(0.0, asked=1), point(asked=2), point(asked=1)) == [0, 2, 0, 1]
    assert chosen(point(0.0, 99.0, -5.0), point(asked=3)) == [1, 1, 1, 1]


def test_more_trials_are_of_no_use_where_one_failed_or_all_diverged():
    assert chosen(point(0.0, BOOM, 1.0), point(math.nan, math.nan)) == []
    assert chosen(point(0.5, math.nan, 0.7), point(math.nan)) == [1, 1, 1, 1]
    rejected = point(0.0, 1.0)
    rejected.step = Step("lr_range", error="none works")
    assert chosen(rejected) == []


def test_only_what_is_compared_in_the_end_gets_more():
    small, large = (point(0.0, 9.0, stage=f"trial@{n}") for n in (1, 3))
    assert set(chosen(small, large)) == {1}
    search, final = point(0.0, 9.0, group="search"), point(0.0, 1.0, group=FINAL)
    assert set(chosen(search, final, group=FINAL)) == {1}
    child = point(0.0, 0.1, stage="trial+1-0123456789abcdef")
    assert set(chosen(point(0.0, 9.0), child)) == {1}


def test_a_point_that_is_too_wide_or_has_enough_is_left_out():
    assert chosen(point(0.0, 9.0, width=3), point(0.0, 1.0), cores=2) == [1, 1, 1, 1]
    full = point(0.0, 9.0)
    full.series[TRIAL].spares.update(range(2, 2 + MOST_SPARE))
    assert chosen(full) == []


# -- whole sweeps of the made-up problem ----------------------------------------------------------


def swept(selector, slots=1, *, spare=True, store=None, seed=0, seconds=(1.0, 2.0, 5.0), **more):
    """A sweep of it; returns its store."""
    store = memory() if store is None else store
    backend = ToyBackend(seed, failing=more.pop("failing", never), seconds=seconds)
    interrupts = SimpleNamespace(signal=None)
    ends = (selector, slots, store, backend, interrupts, backend.clock)
    loop(*ends, spare_trials=spare, **more)
    return store


def started(store):
    query = "SELECT point, stage, json_extract(value, '$.numbers') FROM events WHERE kind='started'"
    return store.connection.execute(query).fetchall()


@pytest.mark.parametrize("slots", [1, 2, 8, 64])
@pytest.mark.parametrize("failing", [never, some_fail])
def test_what_was_asked_comes_to_the_same(slots, failing):
    asks = [((n,), 1 + n % 3) for n in range(6)]
    for make in (lambda: Listed(asks), lambda: Script(asks), lambda: Gambler(8)):
        plain, spare = make(), make()
        one = swept(plain, spare=False, failing=failing)
        other = swept(spare, slots, failing=failing, seed=slots)
        assert asked_results_in(one) == asked_results_in(other)
        if plain.adaptive:
            assert plain.history == spare.history
        found = read_results(other)
        total = sum(map(len, found.trial_numbers))
        noted = [note for note in found.notes if "spare trial" in note]
        assert bool(noted) == (total > sum(map(len, read_results(one).trial_numbers)))
        assert slots > 1 or not noted
        for point_, numbers in zip(found, found.trial_numbers, strict=True):
            values = [metrics_of(point_.params, int(n))["perf_val"] for n in numbers]
            assert point_.perf_val.tolist() == values


def idle_moments(slots, seed):
    """For each batch whether a slot is idle although all is tuned; and the number of spare jobs."""
    backend = ToyBackend(seed, seconds=SHORT)
    store, selector = memory(), Listed([((n,), 2) for n in range(5)])
    study = Study(selector, ToyPlan(), point_of, most_cores=4, slots=slots, spare_trials=True)
    store.begin(study.begin(), "Listed", keep_log=False)
    scheduler, interrupts = Scheduler(slots), SimpleNamespace(signal=None)
    idle, spares = [], 0
    for events in dispatch(study, scheduler, backend, interrupts, backend.clock):
        begun = [event.job for event in events if isinstance(event, Started)]
        spares += sum(map(study.is_spare, begun))
        store.append(events)
        store.append(study.tell(events))
        progress = study.progress()
        tuned = progress.tuning + progress.waiting == 0
        may = tuned and not study.finished and not scheduler.queued
        idle.append(may and len(scheduler.running) < slots)
    assert study.progress().trials_done == study.progress().trials_asked == 10
    return idle, spares


@pytest.mark.parametrize("slots", [2, 8])
def test_no_slot_is_idle_once_all_that_was_asked_runs(slots):
    total = 0
    for seed in range(6):
        idle, spares = idle_moments(slots, seed)
        total += spares
        # A slot is idle from a trial's end to the batch that tells of it, never in two in a row.
        assert not any(one and two for one, two in itertools.pairwise(idle))
    assert total > 6


def test_the_row_is_unbroken_whichever_ended_first():
    lasts = set()
    for seed in range(10):
        store = swept(Listed(LONG), 8, seconds=SHORT, seed=seed)
        found = read_results(store)
        for point_, numbers in zip(found, found.trial_numbers, strict=True):
            assert numbers.tolist() == list(range(len(numbers)))
            query = "SELECT max(number) FROM outcomes JOIN points ON point = id WHERE stage = ? "
            own = (TRIAL, point_of(point_.params).signature)
            (last,) = store.connection.execute(f"{query} AND signature = ?", own).fetchone()
            lasts.add(last - len(numbers))
    assert max(lasts) > 0, "no trial has overtaken another, so this shows nothing"


class Late(Script):
    """Says that it has no more trials, and asks for others when it is told of the first."""

    look_ahead = 2

    def __init__(self):
        super().__init__([((0,), 1)])

    def on_trials_completed(self, params, *columns):
        super().on_trials_completed(params, *columns)
        if len(self.told((0,))) == 1:
            self.left += [((0,), 2), ((5,), 2)]


def test_spare_trials_make_room_for_what_is_asked_and_become_asked_ones():
    plain = Late()
    one = swept(plain, spare=False)
    withdrawn = 0
    for seed in range(8):
        spare = Late()
        other = swept(spare, 3, seconds=SHORT, seed=seed)
        assert asked_results_in(one) == asked_results_in(other)
        assert plain.history == spare.history
        query = "SELECT value FROM events WHERE kind = 'lost'"
        lost = [value for (value,) in other.connection.execute(query)]
        assert all("make room" in value for value in lost)
        again = [count - 1 for count in Counter(started(other)).values()]
        assert sum(again) <= len(lost), "what runs as a spare trial was run beside it"
        withdrawn += len(lost)
    assert withdrawn


def test_a_trial_that_waits_ends_the_spare_ones():
    """A job of two slots is asked for while both others run spare trials."""
    source, now = Stage(), itertools.count()
    backend = ToyBackend(seconds=(1.0,), stuck=lambda *which: which[2] >= 10)
    scheduler = Scheduler(3)
    seen = []
    clock = backend.clock
    for events in dispatch(source, scheduler, backend, SimpleNamespace(signal=None), clock):
        seen += events
        source.tell(events, next(now))
    causes = [event.cause for event in seen if isinstance(event, Lost)]
    assert [cause.kind for cause in causes] == ["stopped", "stopped"]
    assert "make room" in causes[0].message
    wide = next(e for e in seen if isinstance(e, Started) and e.job.width == 3)
    assert wide.time == clock() - 1.0
    assert source.finished


class Stage:
    """A source that asks for one trial, then, when that has ended, for one of three cores."""

    waiting_outside = False

    def __init__(self):
        self.left = [work(0), work(1, width=3)]
        self.spares = itertools.count(10)
        self.ended = 0

    @property
    def finished(self):
        return self.ended == 2

    def stopped(self, _now):
        return ""

    def release(self):
        return [self.left.pop(0)] if len(self.left) + self.ended == 2 and self.left else []

    def spare(self, _cores):
        return work(next(self.spares)) if self.ended == 0 else None

    def is_spare(self, job):
        return job.numbers[0] >= 10

    def tell(self, events, _now):
        self.ended += sum(type(event).__name__ == "Finished" for event in events)


def work(number, width=1):
    from sweeper.records import Work

    one = point_of((number,))
    payload = {"params": one.encoded}
    return Work(one.signature, number, "trial", TRIAL, (number,), payload, width=width)


def test_later_runs_show_them_and_find_them_done():
    store = swept(Listed(LONG), 4, seconds=SHORT, seed=9)
    first = read_results(store)
    assert sum(map(len, first.trial_numbers)) > 5
    swept(Listed(LONG), 1, spare=False, store=store)
    assert [n.tolist() for n in read_results(store).trial_numbers] == [
        n.tolist() for n in first.trial_numbers
    ]
    before = len(started(store))
    counts = [len(numbers) for numbers in first.trial_numbers]
    asks = [((n,), count) for n, count in enumerate(counts)]
    selector = Listed(asks)
    swept(selector, 1, spare=False, store=store)
    assert len(started(store)) == before, "what had ended is run again"
    assert not [note for note in read_results(store).notes if "spare" in note]
    assert [len(selector.told((n,))) for n in range(3)] == counts


def test_trials_of_an_earlier_run_count_only_from_the_first_spare_one_on():
    store = swept(Listed([((0,), 6), ((1,), 1)]), spare=False)
    swept(Listed([((0,), 2), ((1,), 1)]), spare=False, store=store)
    assert [len(numbers) for numbers in read_results(store).trial_numbers] == [2, 1]


def test_a_limit_ends_them_with_what_was_asked():
    when = StopWhen(trials=3)
    store = swept(Listed([((n,), 2) for n in range(4)]), 2, stop_when=when)
    assert all("spare" not in note for note in read_results(store).notes)


def test_the_note_names_the_points():
    store = swept(Asking([((0,), 2), ((1,), 1)]), 3, seconds=SHORT)
    found = read_results(store)
    extra = [
        len(numbers) - asked for numbers, asked in zip(found.trial_numbers, (2, 1), strict=True)
    ]
    (note,) = [note for note in found.notes if "spare" in note]
    for n, count in enumerate(extra):
        assert (f"{count} spare trial" in note and f"of {n}" in note) or not count
    assert "depends on time and cores" in note


# -- a real one -----------------------------------------------------------------------------------


def test_a_real_sweep_runs_them_and_stops_the_last(tmp_path):
    meeting = tmp_path / "meeting"
    os.mkfifo(meeting)
    points = [{"kind": kind, "meeting": str(meeting)} for kind in ("spread", "slow")]
    asks = list(zip(points, (2, 1), strict=True))
    given = {"metrics": {"acc": "maximize"}, "folder": tmp_path / "out", "progress": False}
    given["record_environment"] = False  # takes seconds
    given["module"] = "spare_program:objective"
    selector = sweeper.FixedSweep(asks)
    results = sweeper.sweep(selector=selector, total_cores=2, spare_trials=True, **given)
    assert results[0].metrics["acc"].tolist() == [0.0, 1.0, 2.0]
    assert "1 spare trial of kind=spread" in str(results.summary())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "stopped").read_text()), 0)
    kept = {path.name for path in (tmp_path / "out/points/0/trials").iterdir()}
    assert kept == {"0", "1", "2"}
    again = sweeper.sweep(selector=sweeper.FixedSweep(asks), backend="inline", **given)
    assert again[0].metrics["acc"].tolist() == [0.0, 1.0, 2.0]
