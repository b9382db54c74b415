"""Trials of different widths: which starts next, on which cores, and that nothing starves."""

from __future__ import annotations

import heapq
import os
import random
import statistics
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sweeper
from simulation import MadeUpStudy, Plan, Simulation, World, outcome, trials, tuning
from sweeper.errors import FolderError, SettingsError
from sweeper.program.workload import ProgramPlan
from sweeper.records import TRIAL, Finished, Job, Outcome, Result, Start, Work
from sweeper.run.machine.cores import choose
from sweeper.run.machine.topology import Topology, usable_cores
from sweeper.run.queue import OVERTAKEN
from sweeper.run.scheduler import STREAK, Scheduler
from sweeper.run.widths import read_widths
from sweeper.search import FixedSweep
from sweeper.study import Study
from sweeper.testing.toy import point_of as toy_point
from test_scheduler import check_complete

MACHINE = Topology((0, 1), pinned=True, reason="2 cores used, all there are")


def wide(work: Work, width: int) -> Work:
    return replace(work, width=width)


def slots_of(start: Start) -> tuple[int, ...]:
    return (start.slot, *start.others)


def point_of(job: Job) -> int:
    return 999_999 - int(job.point[1:])


def end(scheduler: Scheduler, slot: int, seconds: float = 1.0) -> None:
    job = scheduler.running[slot]
    scheduler.react([Result(slot, outcome(job, job.numbers[0], 1.0, seconds))], 1.0)


# -- which job starts, and where ------------------------------------------------------------------


def test_the_widest_goes_first_and_narrow_ones_fill_the_slots_beside_it() -> None:
    scheduler = Scheduler(8)
    scheduler.add([trials(0, 9), wide(trials(1, 2), 5), wide(trials(2, 1), 2)])
    starts = scheduler.starts()
    assert [(point_of(start.job), slots_of(start)) for start in starts] == [
        (1, (0, 1, 2, 3, 4)),
        (2, (5, 6)),
        (0, (7,)),
    ]
    assert scheduler.idle_slots == 0
    end(scheduler, 0)
    assert [slots_of(start) for start in scheduler.starts()] == [(0, 1, 2, 3, 4)]


def test_a_job_takes_enough_slots_for_its_cores_and_at_most_all() -> None:
    scheduler = Scheduler(3, width=2)
    scheduler.add([wide(trials(0, 1), 2), wide(trials(1, 1), 3)])
    assert [slots_of(start) for start in scheduler.starts()] == [(0, 1), (2,)]
    inline = Scheduler(1)
    inline.add([wide(trials(0, 1), 4)])
    assert [slots_of(start) for start in inline.starts()] == [(0,)]


def test_a_path_as_long_as_all_the_rest_goes_before_wider_ones() -> None:
    scheduler = Scheduler(4)
    scheduler.add([wide(trials(0, 6, expected=1.0), 4), trials(1, 1, expected=9.0)])
    assert point_of(scheduler.starts()[0].job) == 1
    scheduler = Scheduler(4)
    scheduler.add([wide(trials(0, 20, expected=1.0), 4), trials(1, 1, expected=9.0)])
    assert point_of(scheduler.starts()[0].job) == 0


def test_slots_are_kept_for_a_width_that_others_have_overtaken_too_often() -> None:
    scheduler = Scheduler(2)
    scheduler.add([trials(0, 100)])
    scheduler.starts()
    scheduler.add([wide(trials(1, 1), 2)])
    overtaken = 0
    while scheduler.idle_slots == 0:
        end(scheduler, 0)
        overtaken += len(scheduler.starts())
    assert overtaken == OVERTAKEN * 2
    end(scheduler, 1)
    assert [slots_of(start) for start in scheduler.starts()] == [(0, 1)]


def test_narrow_trials_are_not_left_behind_for_ever_by_wide_ones() -> None:
    scheduler = Scheduler(2)
    scheduler.add([trials(0, 1), wide(trials(1, 100), 2)])
    order = []
    for _ in range(OVERTAKEN * 2 + 1):
        (start,) = scheduler.starts()
        order.append(point_of(start.job))
        end(scheduler, 0)
    assert order == [1] * (OVERTAKEN * 2) + [0]


def test_what_is_handed_ahead_takes_the_slots_that_the_worker_has() -> None:
    scheduler = Scheduler(4)
    scheduler.add([wide(trials(0, 100), 4), trials(1, 100)])
    for _ in range(STREAK):
        scheduler.starts()
        end(scheduler, 0, seconds=0.001)
    starts = scheduler.starts()
    assert sum(len(start.job.numbers) for start in starts) > 2
    assert {slots_of(start) for start in starts} == {(0, 1, 2, 3)}
    assert {start.job.width for start in starts} == {4}


def test_tuning_owns_no_more_cores_than_it_may() -> None:
    scheduler = Scheduler(8)
    scheduler.add([wide(tuning(0, 4, most_cores=4), 2)])
    assert [slots_of(start) for start in scheduler.starts()] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("free", "count", "chosen"),
    [
        ([0, 1, 2, 3, 4, 5], 1, (0,)),
        ([1, 2, 3, 4, 5], 2, (1, 2)),  # the package with fewer free ones: the other stays whole
        ([0, 1, 2, 4, 5], 2, (4, 5)),
        ([2, 5], 2, (2, 5)),  # none has two
        ([0, 1, 2, 3, 4, 5], 4, (0, 1, 2, 3)),
    ],
)
def test_a_job_lies_within_one_package_where_one_has_room(free, count, chosen) -> None:
    assert choose(free, count, packages=(0, 0, 0, 1, 1, 1)) == chosen


# -- whole sweeps, simulated ----------------------------------------------------------------------

PLANS = st.builds(
    Plan,
    stages=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    trials=st.integers(0, 12),
    expected=st.sampled_from([None, 0.5, 3.0]),
    width=st.integers(1, 5),
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=15),
    slots=st.sampled_from([1, 2, 3, 8, 64]),
    most_cores=st.sampled_from([None, 1, 5]),
    look_ahead=st.sampled_from([None, 2]),
    world=st.builds(
        World,
        seed=st.integers(0, 1000),
        deaths=st.sampled_from([0.0, 0.2]),
        noise=st.sampled_from([0.0, 0.3]),
        seconds=st.sampled_from([lambda rng: rng.choice((1.0, 5.0)), lambda _rng: 0.001]),
    ),
)
def test_any_mix_of_widths_keeps_the_invariants_and_comes_to_its_end(
    plans: list[Plan], slots: int, most_cores: int | None, look_ahead: int | None, world: World
) -> None:
    study = MadeUpStudy(plans, most_cores, look_ahead)
    simulation = Simulation(study, slots, world=world).run()
    check_complete(simulation, plans)
    again = Simulation(MadeUpStudy(plans, most_cores, look_ahead), slots, world=replace(world))
    assert again.run().starts == simulation.starts


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    slots=st.integers(2, 8),
    streams=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    waiting=st.integers(1, 8),
    rng=st.randoms(use_true_random=False),
)
def test_no_width_starves_while_others_keep_coming(slots, streams, waiting, rng) -> None:
    # Among those of one width the longest path goes first, or the point with most trials left.
    assume(min(waiting, slots) not in {min(width, slots) for width in streams})
    scheduler = Scheduler(slots)
    scheduler.add([wide(trials(place, 2000), width) for place, width in enumerate(streams)])
    scheduler.starts()
    scheduler.add([wide(trials(99, 1), waiting)])
    started = 0
    while not any(point_of(job) == 99 for job in scheduler.running.values()):
        # Each width, in turn, may have been overtaken as often.
        assert started <= (len(set(streams)) + 1) * (OVERTAKEN + 1) * slots
        end(scheduler, rng.choice(sorted(scheduler.running)))
        started += len(scheduler.starts())


def mixed(rng: random.Random, cores: int) -> list[tuple[int, list[float]]]:
    """Widths, and the seconds of trials, of points that fill all cores for some 20 trials."""
    points: list[tuple[int, list[float]]] = []
    while sum(width * sum(seconds) for width, seconds in points) < 20 * cores:
        width = rng.choice([width for width in (1, 1, 2, 4, 8) if width <= cores])
        mean = rng.lognormvariate(0, 0.5)
        points.append((width, [mean * rng.lognormvariate(0, 0.05) for _ in range(6)]))
    points[rng.randrange(len(points))] = (1, [5.0] * 6)
    return points


def makespan(points: list[tuple[int, list[float]]], cores: int, rng: random.Random) -> float:
    scheduler = Scheduler(cores)
    for place, (width, seconds) in enumerate(points):
        guess = statistics.fmean(seconds) * rng.lognormvariate(0, 0.2)
        scheduler.add([wide(trials(place, len(seconds), expected=guess), width)])
    ends: list[tuple[float, int, Start]] = []
    now = 0.0
    while True:
        for start in scheduler.starts():
            seconds = points[point_of(start.job)][1][start.job.numbers[0]]
            heapq.heappush(ends, (now + seconds, start.slot, start))
        if not ends:
            return now
        now, slot, start = heapq.heappop(ends)
        job = start.job
        scheduler.react([Result(slot, Outcome(job.point, TRIAL, job.numbers[0], 0.0, now))], now)


@pytest.mark.parametrize("cores", [2, 8, 64])
def test_wide_and_narrow_trials_end_within_a_tenth_of_the_least_possible_time(cores: int) -> None:
    ratios = []
    for seed in range(7):
        rng = random.Random(seed)
        points = mixed(rng, cores)
        work = sum(width * sum(seconds) for width, seconds in points) / cores
        bound = max(work, *(max(seconds) for _, seconds in points))
        ratios.append(makespan(points, cores, rng) / bound)
    assert min(ratios) >= 1.0
    assert max(ratios) <= 1.1


def test_trials_that_wait_learn_what_the_first_of_their_point_took() -> None:
    study = Study(
        FixedSweep([((1,), 3)]), ProgramPlan(), toy_point, most_cores=4, slots=1, metrics=()
    )
    study.begin()
    (work,) = study.release()
    assert (work.numbers, work.expected) == ((0, 1, 2), None)
    study.tell([Finished(9.0, Outcome(work.point, TRIAL, 0, started=2.0, ended=9.0))])
    assert study.release() == [replace(work, numbers=(), expected=7.0, after=0.0)]
    study.tell([Finished(9.0, Outcome(work.point, TRIAL, 1, started=2.0, ended=9.0))])
    assert study.release() == []


# -- the widths that a sweep is given -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "params", "words"),
    [
        (lambda p: p["w"], {"w": 0}, "cores of w=0 is 0: it must be a whole number, 1 or more"),
        (lambda p: p["w"], {"w": 1.5}, "cores of w=1.5 is 1.5: it must be a whole number"),
        (lambda _p: True, {"w": 1}, "is True: it must be a whole number"),
        (lambda p: p["w"], {"w": 3}, "cores of w=3 is 3: it must be at most 2, .* 2 cores used"),
        (lambda p: p["v"], {"w": 3}, "cores of w=3: the function raised KeyError: 'v'"),
        ("widht", {"width": 1}, "width=1 has no parameter of that name .did you mean width"),
        ("width", (1,), "cores='width': 1 has no parameter of that name"),
    ],
)
def test_a_width_that_cannot_be_is_refused_with_its_point(given, params, words) -> None:
    widths = read_widths(given, "cores", MACHINE)
    assert widths is not None
    with pytest.raises(SettingsError, match=words):
        widths.of(params)


def objective(width, *, trial):
    return {"cores": trial.cores, "value": width + trial.seed % 7}


def run(folder: Path, backend: str = "inline", points=(1, 2), **given):
    grid = sweeper.Grid(trials=2, width=list(points))
    given.setdefault("metrics", {"value": "maximize"})
    arguments = {"folder": folder, "backend": backend, "progress": False} | given
    return sweeper.sweep(objective, grid, **arguments)


def cores_of(results) -> list[tuple[int, float]]:
    frame = results.to_dataframe()
    return list(zip(frame["width"], frame["cores"], strict=True))


@pytest.mark.parametrize(
    "given", [{"cores": lambda p: p["width"]}, {"cores_per_trial": "width"}], ids=["cores", "name"]
)
def test_each_trial_has_the_cores_of_its_point(tmp_path: Path, given) -> None:
    results = run(tmp_path, **given)
    assert cores_of(results) == [(1, 1.0), (1, 1.0), (2, 2.0), (2, 2.0)]


def test_a_point_is_the_same_as_where_all_have_its_width(tmp_path: Path) -> None:
    mixed = run(tmp_path / "mixed", cores_per_trial=lambda p: p["width"]).to_dataframe()
    wide = run(tmp_path / "wide", points=[2], cores_per_trial=2).to_dataframe()
    assert list(mixed["value"][2:]) == list(wide["value"])


def test_a_folder_of_different_widths_is_not_continued_with_one_for_all(tmp_path: Path) -> None:
    run(tmp_path, cores_per_trial="width")
    assert len(run(tmp_path, cores_per_trial=lambda p: p["width"], points=[1, 2])) == 2
    with pytest.raises(FolderError, match="cores_per_trial is 'of each point' in the folder and 1"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cores": len, "cores_per_trial": 2}, "mean the same: give one"),
        ({"cores": 3}, "cores=3: it means nothing for a program"),
        ({"cores_per_trial": 1.5}, "cores_per_trial=1.5: give a number of cores, a parameter's"),
        ({"cores": lambda _p: 10_000}, "cores of width=1 is 10000: it must be at most"),
    ],
)
def test_what_gives_no_widths_is_refused(tmp_path: Path, given, words) -> None:
    with pytest.raises(SettingsError, match=words):
        run(tmp_path, **given)


def test_a_problem_has_one_width(tmp_path: Path) -> None:
    grid = sweeper.Grid(trials=1, hidden=[2])
    with pytest.raises(SettingsError, match="all points of a problem have the same width"):
        sweeper.sweep("examples.digits", grid, cores_per_trial="hidden", folder=tmp_path)


def bound(width, *, trial):
    """How many cores the process and the threads that it keeps are bound to."""
    del width
    if not KEPT:
        KEPT.append(threading.Event())
        threading.Thread(target=KEPT[0].wait, daemon=True).start()
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    masks = {tuple(sorted(os.sched_getaffinity(thread))) for thread in threads}
    return {"masks": len(masks), "cores": len(masks.pop()), "pid": os.getpid()}


KEPT: list[threading.Event] = []


@pytest.mark.skipif(len(usable_cores().cores) < 2, reason="one core")
def test_a_worker_is_bound_to_the_cores_of_each_job_with_all_its_threads(tmp_path: Path) -> None:
    grid = sweeper.Grid(trials=3, width=[1, 2])
    results = sweeper.sweep(
        bound, grid, cores_per_trial="width", total_cores=2, folder=tmp_path, progress=False
    )
    frame = results.to_dataframe()
    assert set(frame["masks"]) == {1}
    assert cores_of(results) == [(1, 1.0)] * 3 + [(2, 2.0)] * 3
    assert set(frame["pid"][3:]) <= set(frame["pid"][:3])  # one worker had both widths
