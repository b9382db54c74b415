"""The scheduler: scenarios, and whole made-up sweeps under the invariants of `simulation`."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import CRASH, MadeUpStudy, Plan, Simulation, World, name, outcome, trials, tuning
from sweeper.records import Died, Event, Failure, Finished, Job, Lost, Result, Start, Work
from sweeper.run.scheduler import HANDED_REPLICAS, STREAK, Scheduler

CORES = [1, 2, 8, pytest.param(1024, marks=pytest.mark.slow)]


def slots_of(starts: list[Start]) -> list[int]:
    return [start.slot for start in starts]


def finish(scheduler: Scheduler, slot: int, number: int, now: float = 0.0) -> list[Event]:
    return scheduler.react([Result(slot, outcome(scheduler.running[slot], number))], now)


# -- scenarios ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", CORES)
def test_every_free_slot_is_filled_lowest_first(slots: int) -> None:
    scheduler = Scheduler(slots)
    scheduler.add([trials(0, slots + 3)])
    starts = scheduler.starts()
    assert slots_of(starts) == list(range(slots))
    assert [start.job.id for start in starts] == list(range(slots))
    assert (scheduler.idle_slots, scheduler.queued) == (0, 3)
    assert scheduler.starts() == []


def test_a_freed_slot_goes_to_what_is_queued() -> None:
    scheduler = Scheduler(3)
    scheduler.add([trials(0, 5)])
    scheduler.starts()
    ended = scheduler.running[1]
    assert finish(scheduler, 1, 1, now=7.0) == [Finished(7.0, outcome(ended, 1))]
    assert 1 not in scheduler.running
    assert slots_of(scheduler.starts()) == [1]
    assert scheduler.running[1].numbers == (3,)


def test_freed_slots_are_given_lowest_first_whatever_ended_first() -> None:
    scheduler = Scheduler(4)
    scheduler.add([trials(0, 8)])
    scheduler.starts()
    for slot in (3, 0, 2):
        finish(scheduler, slot, slot)
    assert slots_of(scheduler.starts()) == [0, 2, 3]


def test_a_job_is_over_when_every_one_of_its_numbers_has_an_outcome() -> None:
    scheduler = Scheduler(1, per_job=3)
    scheduler.add([trials(0, 3)])
    (start,) = scheduler.starts()
    for number in (1, 0):
        finish(scheduler, 0, number)
        assert scheduler.running == {0: start.job}
    finish(scheduler, 0, 2)
    assert scheduler.running == {}


def test_a_death_loses_only_what_has_no_outcome() -> None:
    scheduler = Scheduler(1, per_job=4)
    scheduler.add([trials(0, 5)])
    (start,) = scheduler.starts()
    finish(scheduler, 0, 0)
    assert scheduler.react([Died(0, CRASH)], now=9.0) == [Lost(9.0, start.job, (1, 2, 3), CRASH)]
    assert scheduler.running == {}
    (start,) = scheduler.starts()
    assert (start.slot, start.job.numbers) == (0, (4,))


def test_a_result_and_the_death_after_it_in_one_batch() -> None:
    scheduler = Scheduler(1)
    scheduler.add([trials(0, 1)])
    (start,) = scheduler.starts()
    result = Result(0, outcome(start.job, 0))
    assert scheduler.react([result, Died(0, CRASH)], 1.0) == [Finished(1.0, result.outcome)]


def test_the_death_of_an_idle_worker_is_no_event_and_its_slot_stays_free() -> None:
    scheduler = Scheduler(2)
    assert scheduler.react([Died(1, CRASH)], 0.0) == []
    assert scheduler.idle_slots == 2
    scheduler.add([trials(0, 2)])
    assert slots_of(scheduler.starts()) == [0, 1]


def test_results_that_belong_to_nothing_running_are_ignored() -> None:
    scheduler = Scheduler(2, per_job=2)
    scheduler.add([trials(0, 3), trials(1, 2)])
    first, second = (start.job for start in scheduler.starts())
    once = Result(0, outcome(first, 0))
    strangers = [
        once,  # for a second time
        Result(1, outcome(first, 1)),  # another slot's
        Result(0, outcome(second, 1)),
        Result(7, outcome(first, 1)),  # no slot at all
        Result(0, outcome(first, 5)),  # not of this job
    ]
    assert scheduler.react([once], 0.0) == [Finished(0.0, once.outcome)]
    assert scheduler.react(strangers, 0.0) == []
    assert dict(scheduler.running) == {0: first, 1: second}
    finish(scheduler, 0, 1)
    assert scheduler.react([Result(0, outcome(first, 1))], 0.0) == []  # late: the slot is idle
    assert scheduler.idle_slots == 1


def test_a_late_result_of_an_earlier_stage_is_ignored() -> None:
    scheduler = Scheduler(1)
    scheduler.add([tuning(0, 1, "lr_range")])
    (start,) = scheduler.starts()
    finish(scheduler, 0, 0)
    scheduler.add([tuning(0, 1, "batch_range")])
    scheduler.starts()
    assert scheduler.react([Result(0, outcome(start.job, 0))], 0.0) == []
    assert scheduler.idle_slots == 0


def test_the_end_of_a_job_frees_its_share_of_most_cores() -> None:
    scheduler = Scheduler(8)
    scheduler.add([tuning(0, 4, most_cores=2)])
    assert slots_of(scheduler.starts()) == [0, 1]
    finish(scheduler, 1, 1)
    assert slots_of(scheduler.starts()) == [1]
    scheduler.react([Died(0, CRASH)], 0.0)
    assert slots_of(scheduler.starts()) == [0]
    assert scheduler.queued == 0


def test_a_point_that_ends_without_trials_makes_room_for_the_next() -> None:
    scheduler = Scheduler(1)
    scheduler.add(tuning(point, 1) for point in range(5))
    for _ in range(4):
        scheduler.starts()
        assert isinstance(finish(scheduler, 0, 0)[0], Finished)
    assert scheduler.starts() == []
    scheduler.add([trials(2, 0)])
    assert scheduler.queued == 1
    (start,) = scheduler.starts()
    assert start.job.point == name(4)


def test_trials_are_divided_over_the_idle_slots() -> None:
    scheduler = Scheduler(8, per_job=8)
    scheduler.add([trials(0, 8)])
    assert [start.job.numbers for start in scheduler.starts()] == [(n,) for n in range(8)]
    finish(scheduler, 2, 2)
    finish(scheduler, 5, 5)
    scheduler.add([trials(1, 5)])  # two slots are idle now
    starts = scheduler.starts()
    assert [(start.slot, start.job.numbers) for start in starts] == [(2, (0, 1, 2)), (5, (3, 4))]


def test_lost_replicas_come_back_as_new_work() -> None:
    scheduler = Scheduler(2, per_job=2)
    scheduler.add([tuning(0, 3, most_cores=4)])
    scheduler.starts()
    (lost,) = scheduler.react([Died(0, CRASH)], 0.0)
    assert isinstance(lost, Lost)
    scheduler.add([tuning(0, lost.numbers, most_cores=4)])
    (start,) = scheduler.starts()
    assert (start.slot, start.job.numbers) == (0, (0, 1))


# -- jobs ahead -----------------------------------------------------------------------------------


MILLISECOND = 2**-10
"""Without rounding."""


def hasty(slots: int = 1, trials_left: int = 100, seconds: float = MILLISECOND) -> Scheduler:
    """Every worker has just ended its eighth short replica; nothing new was started."""
    scheduler = Scheduler(slots)
    scheduler.add([trials(0, 8 * slots + trials_left)])
    for _ in range(STREAK):
        scheduler.starts()
        for slot in range(slots):
            end(scheduler, slot, seconds)
    return scheduler


def end(scheduler: Scheduler, slot: int, seconds: float) -> None:
    """The next trial of the slot's job ends; one that has ended before is ignored."""
    job = scheduler.running[slot]
    for number in job.numbers:
        if scheduler.react([Result(slot, outcome(job, number, 1.0, seconds))], 1.0):
            return


def test_a_worker_whose_replicas_are_short_is_handed_jobs_ahead() -> None:
    scheduler = hasty()
    starts = scheduler.starts()
    # One runs, and a hundredth of a second's work waits behind it, in one job.
    assert [start.job.numbers for start in starts] == [(8,), tuple(range(9, 18))]
    assert scheduler.running == {0: starts[0].job}
    assert (scheduler.idle_slots, scheduler.queued) == (0, 90)
    end(scheduler, 0, MILLISECOND)
    assert scheduler.running == {0: starts[1].job}


@pytest.mark.parametrize(
    ("seconds", "handed"), [(1e-6, HANDED_REPLICAS), (2**-9, 5), (2**-8, 2), (2**-7, 1), (60.0, 1)]
)
def test_the_shorter_the_more(seconds: float, handed: int) -> None:
    scheduler = hasty(trials_left=2 * HANDED_REPLICAS, seconds=seconds)
    assert len(handed_over(scheduler)) == handed


def handed_over(scheduler: Scheduler) -> list[int]:
    """The numbers of all trials that are handed over now."""
    return [number for start in scheduler.starts() for number in start.job.numbers]


def test_they_are_handed_over_several_at_once() -> None:
    scheduler = hasty()
    scheduler.starts()
    handed = []
    for _ in range(10):
        end(scheduler, 0, MILLISECOND)
        handed.append(len(handed_over(scheduler)))
    assert handed == [0, 0, 0, 0, 5, 0, 0, 0, 0, 5]


def test_one_long_replica_ends_it() -> None:
    scheduler = hasty()
    assert len(handed_over(scheduler)) == STREAK + 2
    end(scheduler, 0, 1.0)
    assert most_at_once(scheduler, 4 * STREAK) == 1
    assert most_at_once(scheduler, 4 * STREAK) > 1


def most_at_once(scheduler: Scheduler, ends: int) -> int:
    """The most trials handed over at once while so many short ones end."""
    most = 0
    for _ in range(ends):
        most = max(most, len(handed_over(scheduler)))
        end(scheduler, 0, MILLISECOND)
    return most


def test_one_that_was_held_up_for_a_moment_does_not_end_it() -> None:
    scheduler = hasty()
    handed_over(scheduler)
    end(scheduler, 0, 32 * MILLISECOND)
    assert most_at_once(scheduler, 2 * STREAK) > 1


def test_nothing_is_handed_over_behind_what_is_expected_to_be_long() -> None:
    scheduler = hasty(trials_left=0)
    scheduler.add([trials(1, 50, expected=60.0)])
    assert len(scheduler.starts()) == 1


def test_at_the_end_every_worker_gets_its_share() -> None:
    starts = hasty(slots=4, trials_left=11).starts()
    # Four run; of the seven left one goes to each.
    assert sorted(slots_of(starts)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_a_dead_worker_had_not_come_to_was_never_begun() -> None:
    scheduler = hasty()
    starts = scheduler.starts()
    (lost,) = scheduler.react([Died(0, CRASH)], 2.0)
    assert lost == Lost(2.0, starts[0].job, starts[0].job.numbers, CRASH)
    assert scheduler.queued == 99
    # The same job again, and none ahead: the new worker has shown nothing yet.
    assert scheduler.starts() == starts[1:2]


def test_of_a_job_ahead_only_the_trial_that_ran_is_lost_with_its_worker() -> None:
    scheduler = hasty()
    ahead = scheduler.starts()[1].job
    for _ in range(3):
        end(scheduler, 0, MILLISECOND)
    (lost,) = scheduler.react([Died(0, CRASH)], 2.0)
    assert lost == Lost(2.0, ahead, ahead.numbers[2:], CRASH)


@pytest.mark.parametrize("work", [replace(trials(0, 100), together=1), tuning(0, 100)])
def test_jobs_ahead_are_of_several_only_where_trials_run_one_after_the_other(work: Work) -> None:
    scheduler = Scheduler(1)
    scheduler.add([work])
    for _ in range(STREAK):
        scheduler.starts()
        end(scheduler, 0, MILLISECOND)
    assert {len(start.job.numbers) for start in scheduler.starts()} == {1}


def test_with_a_time_limit_each_trial_is_a_job_of_its_own() -> None:
    scheduler = Scheduler(1, timeout=10.0)
    scheduler.add([trials(0, 100)])
    for _ in range(STREAK):
        begin(scheduler, 100.0)
        end(scheduler, 0, MILLISECOND)
    assert {len(start.job.numbers) for start in scheduler.starts()} == {1}


def test_a_late_result_of_a_job_ahead_is_ignored_until_it_runs() -> None:
    scheduler = hasty()
    starts = scheduler.starts()
    assert scheduler.react([Result(0, outcome(starts[1].job, 9, 1.0))], 1.0) == []
    assert scheduler.running == {0: starts[0].job}


# -- jobs over their time -------------------------------------------------------------------------


def begin(scheduler: Scheduler, ticks: float) -> None:
    scheduler.starts()
    scheduler.begun(ticks)


def timed(works: list[Work], slots: int = 1, per_job: int = 1) -> Scheduler:
    """Everything that may has begun at 100 s, and may take 10 s a replica."""
    scheduler = Scheduler(slots, per_job=per_job, timeout=10.0)
    scheduler.add(works)
    begin(scheduler, 100.0)
    return scheduler


def test_a_job_over_its_time_is_to_be_ended_once_and_its_replica_timed_out() -> None:
    scheduler = timed([trials(0, 3)], slots=2)
    assert (scheduler.due, scheduler.overdue(109.9)) == (110.0, [])
    finish(scheduler, 1, 1, now=105.0)
    begin(scheduler, 105.0)
    assert scheduler.overdue(110.0) == [0]
    assert (scheduler.due, scheduler.overdue(111.0)) == (115.0, [])
    (lost,) = scheduler.react([Died(0, CRASH)], 111.0)
    assert isinstance(lost, Lost)
    assert (lost.numbers, lost.cause.kind) == ((0,), "timeout")
    assert lost.cause.message == "stopped: exceeded its time (trial_timeout=10)"
    finish(scheduler, 1, 2, now=112.0)
    assert scheduler.due == math.inf


def test_a_pack_may_take_as_many_times_as_long_as_it_has_trials_and_then_nobody_is_blamed() -> None:
    scheduler = timed([trials(0, 3)], per_job=3)
    assert scheduler.due == 130.0
    finish(scheduler, 0, 0, now=101.0)
    assert scheduler.overdue(130.0) == [0]
    (lost,) = scheduler.react([Died(0, CRASH)], 130.0)
    assert isinstance(lost, Lost)
    assert (lost.numbers, lost.cause.kind) == ((1, 2), "stopped")


def test_one_that_ends_while_it_is_being_ended_has_ended() -> None:
    scheduler = timed([trials(0, 2)])
    scheduler.overdue(110.0)
    assert isinstance(finish(scheduler, 0, 0, now=110.0)[0], Finished)
    begin(scheduler, 110.0)  # in a worker that has been killed
    (lost,) = scheduler.react([Died(0, CRASH)], 110.0)
    assert isinstance(lost, Lost)
    assert (lost.numbers, lost.cause.kind) == ((1,), "stopped")


def test_the_death_of_a_worker_after_its_last_job_concerns_no_later_one() -> None:
    scheduler = timed([trials(0, 1)])
    scheduler.overdue(110.0)
    finish(scheduler, 0, 0, now=110.0)
    assert scheduler.react([Died(0, CRASH)], 110.0) == []
    scheduler.add([trials(1, 1)])
    begin(scheduler, 120.0)
    (lost,) = scheduler.react([Died(0, CRASH)], 121.0)
    assert isinstance(lost, Lost)
    assert lost.cause == CRASH


def test_the_time_of_a_job_ahead_begins_when_the_one_before_has_ended() -> None:
    scheduler = Scheduler(1, timeout=10.0)
    scheduler.add([trials(0, 30)])
    for number in range(STREAK):
        begin(scheduler, 100.0)
        finish_shortly(scheduler, number, 100.0)
    starts = scheduler.starts()
    scheduler.begun(100.0)
    assert len(starts) > 2
    assert scheduler.due == 110.0
    finish_shortly(scheduler, STREAK, 107.0)
    begin(scheduler, 108.0)
    assert scheduler.due == 118.0


def finish_shortly(scheduler: Scheduler, number: int, now: float) -> None:
    ended = outcome(scheduler.running[0], number, now, MILLISECOND)
    assert scheduler.react([Result(0, ended)], now)


def test_what_had_no_memory_is_lost_and_its_worker_lives() -> None:
    scheduler = Scheduler(1, per_job=2)
    scheduler.add([trials(0, 2)])
    (start,) = scheduler.starts()
    failure = Failure("memory", "MemoryError")
    ended = replace(outcome(start.job, 0), failure=failure)
    assert scheduler.react([Result(0, ended)], 1.0) == [Lost(1.0, start.job, (0,), failure)]
    assert scheduler.running == {0: start.job}
    assert isinstance(finish(scheduler, 0, 1)[0], Finished)


# -- whole sweeps ---------------------------------------------------------------------------------


def check_complete(simulation: Simulation, plans: list[Plan]) -> None:
    """Everything asked for has one outcome, unless it was given up after three tries."""
    study = simulation.study
    assert isinstance(study, MadeUpStudy)
    assert study.done
    assert (simulation.scheduler.queued, len(simulation.scheduler.running)) == (0, 0)
    assert len(study.finished) == len(set(study.finished))
    settled = study.given_up.union(study.finished)
    for point, plan in enumerate(plans):
        stages = [(f"stage.{stage}", count) for stage, count in enumerate(plan.stages)]
        stages.append(("trial", plan.trials))
        if point in study.failed:
            stages = stages[: study.failed[point] + 1]
        for stage, count in stages:
            replicas = {(name(point), stage, number) for number in range(count)}
            assert replicas <= settled


@pytest.mark.parametrize("slots", CORES)
@pytest.mark.parametrize("deaths", [0.0, 0.2])
def test_a_whole_sweep(slots: int, deaths: float) -> None:
    # More points than may be tuned ahead, so that the limit is met at every size.
    plans = [Plan((2, 1) if point % 3 else (1,), trials=2) for point in range(2 * slots + 40)]
    simulation = Simulation(
        MadeUpStudy(plans, most_cores=4), slots, world=World(1, deaths=deaths, noise=0.1)
    ).run()
    check_complete(simulation, plans)
    assert simulation.ledger.most_ahead_seen == max(4, 2 * slots)


@pytest.mark.parametrize("slots", CORES)
def test_the_same_sweep_twice_is_the_same(slots: int) -> None:
    plans = [Plan((2,), trials=3, expected=1.0 + point % 2) for point in range(30)]

    def run() -> Simulation:
        world = World(5, deaths=0.1, seconds=random.Random.random)
        return Simulation(MadeUpStudy(plans, most_cores=2), slots, world=world).run()

    assert run().starts == run().starts


@pytest.mark.parametrize("slots", CORES)
def test_cores_are_busy_while_there_is_enough_to_do(slots: int) -> None:
    plans = [Plan((4, 1), trials=150) for _ in range(slots // 4 + 4)]
    simulation = Simulation(MadeUpStudy(plans, most_cores=4), slots)
    simulation.run()
    assert simulation.use > 0.95


@pytest.mark.parametrize("slots", [2, 8, 64])
@pytest.mark.parametrize("place", [0, 5, 11])
def test_no_core_is_left_alone_with_the_longest_trials(slots: int, place: int) -> None:
    seconds = [1.0 + point % 3 for point in range(12)]
    seconds[place] = 12.0
    plans = [Plan((2, 2), trials=slots // 2 + 1, expected=time) for time in seconds]
    study = MadeUpStudy(plans, most_cores=4)

    class Durations(World):
        def course(self, job: Job, now: float) -> list[tuple[float, int | None]]:
            time = seconds[999_999 - int(job.point[1:])] / (1 if job.kind == "trial" else 4)
            return [(now + time, job.numbers[0])]

    simulation = Simulation(study, slots, world=Durations()).run()
    check_complete(simulation, plans)
    # No order could end before this; what the cores wait for is less than a short trial each.
    assert simulation.now <= simulation.busy_seconds / slots + 2.0


@pytest.mark.parametrize("slots", CORES)
def test_results_come_before_all_points_are_tuned(slots: int) -> None:
    points = 2 * max(4, 2 * slots)
    simulation = Simulation(MadeUpStudy([Plan((1,), trials=1)] * points), slots).run()
    kinds = [start.job.kind for _, start in simulation.starts]
    assert kinds.index("trial") <= max(4, 2 * slots)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("per_job", [1, 4])
def test_wide_jobs_and_jobs_of_several_replicas(width: int, per_job: int) -> None:
    plans = [Plan((5, 3), trials=9) for _ in range(30)]
    simulation = Simulation(
        MadeUpStudy(plans, most_cores=4), 8, width, per_job, World(2, deaths=0.1, noise=0.1)
    ).run()
    check_complete(simulation, plans)


@pytest.mark.parametrize("slots", CORES)
@pytest.mark.parametrize("deaths", [0.0, 0.01])
def test_a_sweep_of_replicas_that_take_no_time(slots: int, deaths: float) -> None:
    plans = [Plan((2, 1), trials=40 + 2 * slots) for _ in range(12)]
    world = World(1, deaths, noise=0.01, seconds=lambda rng: rng.choice((0.001, 0.002)))
    simulation = Simulation(MadeUpStudy(plans, most_cores=4), slots, world=world).run()
    check_complete(simulation, plans)
    assert simulation.ledger.handed_ahead > 100


def some_seconds(rng: random.Random) -> float:
    return rng.choice((1.0, 2.0, 5.0))


def no_seconds(rng: random.Random) -> float:
    return rng.choice((0.0001, 0.002))


def sudden_seconds(rng: random.Random) -> float:
    return 0.001 if rng.random() < 0.95 else 60.0


PLANS = st.builds(
    Plan,
    stages=st.lists(st.integers(1, 6), max_size=3).map(tuple),
    trials=st.one_of(st.integers(0, 8), st.just(40)),
    expected=st.sampled_from([None, 0.5, 1.0, 3.0]),
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=25),
    slots=st.sampled_from([1, 2, 3, 8, 1024]),
    width=st.integers(1, 3),
    per_job=st.integers(1, 5),
    most_cores=st.sampled_from([None, 1, 2, 5]),
    look_ahead=st.sampled_from([None, 1, 3]),
    world=st.builds(
        World,
        seed=st.integers(0, 1000),
        deaths=st.sampled_from([0.0, 0.1, 0.6]),
        noise=st.sampled_from([0.0, 0.3]),
        seconds=st.sampled_from([some_seconds, no_seconds, sudden_seconds]),
    ),
)
def test_any_sweep_keeps_the_invariants_and_comes_to_its_end(
    *,
    plans: list[Plan],
    slots: int,
    width: int,
    per_job: int,
    most_cores: int | None,
    look_ahead: int | None,
    world: World,
) -> None:
    study = MadeUpStudy(plans, most_cores, look_ahead)
    check_complete(Simulation(study, slots, width, per_job, world).run(), plans)
