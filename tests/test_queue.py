"""The queue: scenarios of its rule, and the rule written plainly as a model to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation import name, trials, tuning
from sweeper.records import Job, Work
from sweeper.run.queue import Queue

CORES = [1, 2, 8, 1024]


def pop_all(queue: Queue) -> list[Job]:
    jobs = []
    while (job := queue.pop()) is not None:
        jobs.append(job)
    return jobs


def pop_some(queue: Queue, count: int) -> list[Job]:
    jobs = [queue.pop() for _ in range(count)]
    return [job for job in jobs if job is not None]


def filled(*works: Work, slots: int = 2, width: int = 1, per_job: int = 1) -> Queue:
    queue = Queue(slots, width, per_job)
    for work in works:
        queue.add(work)
    return queue


def spec(jobs: Sequence[Job]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(job.point, job.stage, job.numbers) for job in jobs]


def points_of(jobs: Sequence[Job]) -> list[int]:
    return [999_999 - int(job.point[1:]) for job in jobs]


# -- order ----------------------------------------------------------------------------------------


def test_an_empty_queue() -> None:
    queue = Queue(2)
    assert queue.pop() is None
    assert len(queue) == 0


def test_tuning_goes_before_trials() -> None:
    queue = filled(trials(0, 2), tuning(1, 2))
    assert points_of(pop_all(queue)) == [1, 1, 0, 0]


def test_jobs_are_numbered_and_carry_what_their_work_says() -> None:
    work = Work(name(0), 0, "tuning", "lr_range", (4, 7), payload={"batch": 64}, expected=2.5)
    jobs = pop_all(filled(work))
    assert jobs == [
        Job(0, name(0), "tuning", "lr_range", (4,), {"batch": 64}, 2.5),
        Job(1, name(0), "tuning", "lr_range", (7,), {"batch": 64}, 2.5),
    ]


def test_points_are_tuned_in_the_order_of_asking() -> None:
    queue = filled(tuning(2, 1), tuning(0, 1), tuning(1, 1))
    assert points_of(pop_all(queue)) == [0, 1, 2]


def test_begun_tuning_goes_on_before_a_new_point_begins() -> None:
    queue = filled(tuning(1, 1), tuning(2, 1))
    assert points_of(pop_some(queue, 1)) == [1]
    queue.add(tuning(0, 1))  # asked for earlier, but not begun
    queue.add(tuning(1, 2, "batch_range"))
    assert points_of(pop_all(queue)) == [1, 1, 0, 2]


def test_trials_of_the_point_with_most_left_go_first() -> None:
    queue = filled(trials(0, 1), trials(1, 3), trials(2, 2))
    # Ties go to the point that was asked for first.
    assert points_of(pop_all(queue)) == [1, 1, 2, 0, 1, 2]


def test_the_longest_trials_go_first_however_many_there_are() -> None:
    queue = filled(trials(0, 3, expected=1.0), trials(1, 2, expected=5.0))
    assert points_of(pop_all(queue)) == [1, 1, 0, 0, 0]
    queue = filled(trials(0, 9, expected=1.0), trials(1, 2, expected=1.5))
    assert points_of(pop_all(queue)) == [1, 1, *[0] * 9]


def test_trials_as_long_as_each_other_go_in_the_order_of_asking() -> None:
    queue = filled(*(trials(point, point + 1, expected=2.0) for point in range(3)))
    assert points_of(pop_all(queue)) == [0, 1, 1, 2, 2, 2]


def test_trials_of_unknown_length_go_first() -> None:
    queue = filled(trials(0, 2, expected=9.0), trials(1, 1), trials(2, 2))
    assert points_of(pop_all(queue)) == [2, 1, 2, 0, 0]


def test_the_newest_expectation_counts_for_all_that_a_point_has_left() -> None:
    queue = filled(trials(0, 2), trials(1, 3, 5.0), trials(0, 1, expected=9.0), trials(0, 0))
    assert points_of(pop_all(queue)) == [0, 0, 0, 1, 1, 1]
    queue = filled(trials(0, 2, 9.0), trials(1, 3, 5.0), trials(0, 1, expected=1.0))
    assert points_of(pop_all(queue)) == [1, 1, 1, 0, 0, 0]


def test_an_expectation_ends_with_the_work_that_it_came_with() -> None:
    queue = filled(trials(0, 1, expected=9.0))
    assert points_of(pop_some(queue, 1)) == [0]
    queue.add(trials(0, 1))
    queue.add(trials(1, 2))
    assert points_of(pop_all(queue)) == [1, 0, 1]


def test_begun_tuning_with_the_longest_way_to_its_last_trial_goes_first() -> None:
    queue = filled(*(tuning(point, 1) for point in range(4)))
    assert points_of(pop_all(queue)) == [0, 1, 2, 3]
    queue.add(tuning(0, 1, "batch_range", expected=3.0, after=1.0))
    queue.add(tuning(1, 1, "batch_range", expected=1.0, after=9.0))
    queue.add(tuning(2, 1, "batch_range", expected=5.0))
    queue.add(tuning(3, 1, "batch_range"))  # not known: it may be the longest
    assert points_of(pop_all(queue)) == [3, 1, 2, 0]


def test_a_long_way_ahead_is_no_reason_to_begin_before_those_begun() -> None:
    queue = filled(tuning(0, 1), tuning(1, 1, expected=1.0, after=99.0))
    assert points_of(pop_some(queue, 1)) == [0]
    queue.add(tuning(0, 1, "batch_range", expected=1.0, after=1.0))
    assert points_of(pop_all(queue)) == [0, 1]


# -- cutting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_job", [1, 2, 3, 7, 100])
def test_jobs_take_numbers_in_order_at_most_per_job(per_job: int) -> None:
    numbers = (3, 1, 4, 15, 9, 2, 6)
    jobs = pop_all(filled(trials(0, numbers), per_job=per_job))
    assert sum((job.numbers for job in jobs), ()) == numbers
    assert [len(job.numbers) for job in jobs[:-1]] == [per_job] * (len(jobs) - 1)


def test_works_of_one_point_follow_each_other_and_never_share_a_job() -> None:
    queue = filled(trials(0, 3), trials(0, [7]), tuning(0, 1), tuning(0, [5], "again"), per_job=2)
    assert len(queue) == 6
    assert spec(pop_all(queue)) == [
        (name(0), "lr_range", (0,)),
        (name(0), "again", (5,)),
        (name(0), "trial", (0, 1)),
        (name(0), "trial", (2,)),
        (name(0), "trial", (7,)),
    ]
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("replicas", "per_job", "sizes"),
    [
        (8, 8, [1] * 8),
        (5, 8, [1] * 5),
        (9, 8, [2, *[1] * 7]),
        (20, 8, [3, 3, 3, 3, 2, 2, 2, 2]),
        (100, 8, [8] * 8),
        (9, 1, [1] * 8),
    ],
)
@pytest.mark.parametrize("make", [tuning, trials])
def test_replicas_are_divided_over_the_free_slots(
    make: Callable[[int, int], Work], replicas: int, per_job: int, sizes: list[int]
) -> None:
    queue = filled(make(0, replicas), slots=8, per_job=per_job)
    jobs = [queue.pop(free_slots) for free_slots in range(8, 0, -1)]
    assert [len(job.numbers) for job in jobs if job is not None] == sizes


def test_a_share_counts_all_works_of_the_point_and_kind_and_no_other() -> None:
    queue = filled(trials(0, 4), trials(0, [7, 9]), trials(1, 5), slots=2, per_job=8)
    job = queue.pop(free_slots=2)
    assert job is not None
    assert job.numbers == (0, 1, 2)


def test_what_is_handed_ahead_is_the_callers_share_but_of_packs_the_points_own() -> None:
    queue = filled(trials(0, 11), slots=64)
    assert queue.pop(free_slots=64, only=1, most=7).numbers == tuple(range(7))
    assert queue.pop(free_slots=64, only=1).numbers == (7,)
    assert queue.pop(free_slots=64, only=1, most=7).numbers == (8, 9, 10)
    packs = Work(name(0), 0, "trial", "trial", tuple(range(10)), {}, together=10)
    assert len(filled(packs, slots=5).pop(free_slots=5, only=1, most=9).numbers) == 2


# -- points ahead of their trials -----------------------------------------------------------------


@pytest.mark.parametrize("slots", CORES)
def test_only_so_many_points_are_tuned_ahead(slots: int) -> None:
    limit = max(4, 2 * slots)
    queue = filled(*(tuning(point, 1) for point in range(limit + 2)), slots=slots)
    assert points_of(pop_all(queue)) == list(range(limit))
    for point in range(limit):
        queue.ended(Job(point, name(point), "tuning", "lr_range", (0,)))
    assert queue.pop() is None  # that their probes are over makes no room
    queue.add(trials(3, 1))
    # Its last trial makes room for one point.
    assert points_of(pop_all(queue)) == [3, limit]


def full(slots: int = 1) -> Queue:
    """As many points begun as may be, 0 to 3, and point 4 waiting."""
    queue = filled(*(tuning(point, 1) for point in range(5)), slots=slots)
    assert points_of(pop_all(queue)) == [0, 1, 2, 3]
    return queue


def test_begun_tuning_goes_on_at_the_limit() -> None:
    queue = full()
    queue.add(tuning(2, 2, "batch_range"))
    assert points_of(pop_all(queue)) == [2, 2]


def test_a_retry_keeps_the_point_begun() -> None:
    queue = full()
    queue.ended(Job(1, name(1), "tuning", "lr_range", (0,)))
    queue.add(tuning(1, 1))
    assert points_of(pop_all(queue)) == [1]


def test_a_point_is_ahead_until_its_last_trial_is_popped() -> None:
    queue = full()
    queue.add(trials(0, 3))
    assert points_of(pop_all(queue)) == [0, 0, 0, 4]


def test_a_point_without_trials_is_ahead_no_more_when_its_tuning_is_over() -> None:
    queue = full()
    queue.add(trials(0, 0))
    assert points_of(pop_all(queue)) == [4]


def test_trials_of_points_tuned_in_an_earlier_run_are_not_ahead() -> None:
    queue = filled(*(trials(point, 1) for point in range(9)), *(tuning(n, 1) for n in (9, 10)))
    assert points_of(pop_all(queue)) == [9, 10, *range(9)]


def test_trials_added_later_do_not_put_a_point_ahead_again() -> None:
    queue = full()
    for point in range(4):
        queue.add(trials(point, 1))
    assert points_of(pop_some(queue, 2)) == [0, 4]
    queue.add(trials(0, 5))
    queue.add(tuning(5, 1))
    # 1, 2, 3 and 4 are ahead: point 5 must wait until one of them has started its trials.
    assert points_of(pop_all(queue)) == [0, 0, 0, 0, 0, 1, 5, 2, 3]


# -- cores that a point's tuning may own ----------------------------------------------------------


@pytest.mark.parametrize(
    ("most_cores", "width", "at_once"),
    [(None, 1, 9), (4, 1, 4), (4, 2, 2), (5, 2, 2), (4, 4, 1), (4, 8, 1), (1, 1, 1), (1, 2, 1)],
)
def test_tuning_owns_at_most_most_cores(most_cores: int | None, width: int, at_once: int) -> None:
    queue = filled(tuning(0, 9, most_cores=most_cores), slots=1024, width=width)
    jobs = pop_all(queue)
    assert len(jobs) == at_once
    if at_once < 9:
        queue.ended(jobs[0])
        assert len(pop_all(queue)) == 1


def test_the_next_point_takes_what_the_first_may_not() -> None:
    queue = filled(*(tuning(point, 3, most_cores=2) for point in (0, 1)), trials(2, 1))
    jobs = pop_all(queue)
    assert points_of(jobs) == [0, 0, 1, 1, 2]
    queue.ended(jobs[2])
    queue.ended(jobs[0])
    assert points_of(pop_all(queue)) == [0, 1]


def test_jobs_that_run_when_tuning_is_over_still_own_their_cores() -> None:
    queue = filled(tuning(0, 2, most_cores=2))
    jobs = pop_all(queue)
    queue.add(trials(0, 0))
    queue.add(tuning(0, 3, most_cores=2))
    assert queue.pop() is None
    queue.ended(jobs[0])
    assert points_of(pop_all(queue)) == [0]


def test_the_end_of_what_is_unknown_or_gone_does_nothing() -> None:
    queue = filled(trials(0, 1))
    pop_all(queue)
    queue.add(trials(0, 0))
    queue.add(trials(7, 0))
    assert len(queue) == 0
    assert queue.pop() is None


def test_points_are_forgotten_when_nothing_is_left_of_them() -> None:
    queue = filled(tuning(0, 2), trials(1, 2), tuning(2, 1))
    for job in pop_all(queue):
        queue.ended(job)
    queue.add(trials(0, 0))
    queue.add(trials(2, 0))
    assert not queue._points  # a hundred thousand of them would add up


# -- any history ----------------------------------------------------------------------------------


@dataclass
class ModelPoint:
    order: int
    works: dict[str, list[Work]] = field(default_factory=lambda: {"tuning": [], "trial": []})
    numbers: dict[str, list[int]] = field(default_factory=lambda: {"tuning": [], "trial": []})
    running: int = 0
    path: dict[str, float | None] = field(default_factory=dict)
    ahead: bool = False
    over: bool = False


class Model:
    """The rule, looked up by going through all points each time; one replica a job."""

    def __init__(self, slots: int, width: int) -> None:
        self.limit, self.width = max(4, 2 * slots), width
        self.points: dict[str, ModelPoint] = {}

    def add(self, work: Work) -> None:
        point = self.points.setdefault(work.point, ModelPoint(work.order))
        if not point.numbers[work.kind]:
            point.path[work.kind] = None
        if work.expected is not None:
            point.path[work.kind] = work.expected + (work.after or 0.0)
        if work.kind == "trial":
            point.over = True
        point.works[work.kind] += [work] * len(work.numbers)
        point.numbers[work.kind] += work.numbers
        self.settle(point)

    def pop(self) -> tuple[str, str, tuple[int, ...]] | None:
        tunable = [point for point in self.points.values() if self.may_tune(point)]
        begun = [point for point in tunable if point.ahead]
        room = sum(point.ahead for point in self.points.values()) < self.limit
        training = [point for point in self.points.values() if point.numbers["trial"]]
        if begun or (tunable and room):
            point = min(
                begun or tunable, key=lambda point: (self.urgency(point, "tuning"), point.order)
            )
            point.running += 1
            point.ahead = True
            return self.take(point, "tuning")
        if training:
            point = min(training, key=self.trial_key)
            return self.take(point, "trial")
        return None

    def may_tune(self, point: ModelPoint) -> bool:
        if not point.works["tuning"]:
            return False
        most = point.works["tuning"][0].most_cores
        return most is None or point.running < max(1, most // self.width)

    def urgency(self, point: ModelPoint, kind: str) -> float:
        path = point.path[kind]
        return float("-inf") if path is None else -path

    def trial_key(self, point: ModelPoint) -> tuple[float, int, int]:
        left = len(point.numbers["trial"]) if point.path["trial"] is None else 0
        return self.urgency(point, "trial"), -left, point.order

    def take(self, point: ModelPoint, kind: str) -> tuple[str, str, tuple[int, ...]]:
        work, number = point.works[kind].pop(0), point.numbers[kind].pop(0)
        self.settle(point)
        return work.point, work.stage, (number,)

    def settle(self, point: ModelPoint) -> None:
        if point.over and not point.numbers["trial"]:
            point.ahead = point.over = False

    def __len__(self) -> int:
        return sum(len(n) for point in self.points.values() for n in point.numbers.values())


POINTS = st.integers(0, 11)
STEPS = st.one_of(
    st.builds(
        tuning,
        point=POINTS,
        replicas=st.integers(1, 5),
        stage=st.sampled_from(["lr_range", "batch_range"]),
        most_cores=st.just(2),
        expected=st.sampled_from([None, 0.1, 2.0]),
        after=st.sampled_from([None, 0.0, 3.0]),
    ),
    st.builds(
        trials,
        point=POINTS,
        replicas=st.integers(0, 5),
        expected=st.sampled_from([None, 0.1, 0.3, 2.0]),
    ),
    st.sampled_from(["pop", "pop", "pop", "end"]),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(steps=st.lists(STEPS, max_size=120), slots=st.integers(1, 3), width=st.integers(1, 2))
def test_any_history_follows_the_rule(steps: list[Work | str], slots: int, width: int) -> None:
    queue, model = Queue(slots, width), Model(slots, width)
    running: list[Job] = []
    ids = 0
    for step in steps:
        if isinstance(step, Work):
            queue.add(step)
            model.add(step)
        elif step == "pop":
            job = queue.pop()
            assert (job and (job.point, job.stage, job.numbers)) == model.pop()
            if job is not None:
                assert job.id == ids
                ids += 1
                running.append(job)
        elif running:  # "end"
            job = running.pop(0)
            queue.ended(job)
            if job.kind == "tuning":
                model.points[job.point].running -= 1
        assert len(queue) == len(model)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(0, 9), max_size=12),
    per_job=st.integers(1, 10),
    slots=st.sampled_from(CORES),
)
def test_every_replica_is_popped_once_however_it_is_cut(
    counts: list[int], per_job: int, slots: int
) -> None:
    works = [trials(point, count) for point, count in enumerate(counts)]
    jobs = pop_all(filled(*works, slots=slots, per_job=per_job))
    popped = [(job.point, number) for job in jobs for number in job.numbers]
    assert sorted(popped) == sorted((work.point, n) for work in works for n in work.numbers)
    assert all(1 <= len(job.numbers) <= per_job for job in jobs)
