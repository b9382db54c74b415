"""The study: a made-up planner and world under the real scheduler and dispatcher, with fake time.

What a replica comes to is a pure function of its point, stage and number, so histories and results
can be compared between any number of slots, any durations and deaths, and any interruption.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweeper.errors import ParamError, ProblemError, SelectorError, StalledError, StoppedError
from sweeper.records import (
    CHECK,
    METRICS,
    TRIAL,
    Asked,
    Failure,
    Finished,
    Lost,
    Outcome,
    Planned,
    Recorded,
    RecordedTrials,
    Started,
    Step,
    Tick,
    Told,
)
from sweeper.run.dispatch import dispatch
from sweeper.run.scheduler import Scheduler
from sweeper.search import FixedSweep, ParamSelector
from sweeper.settings import Limits
from sweeper.signature import decode
from sweeper.store.database.store import Store
from sweeper.store.results.load import read_results
from sweeper.study import Study
from sweeper.testing.toy import (
    BOOM,
    CRASH,
    ToyBackend,
    ToyPlan,
    metrics_of,
    never,
    point_of,
)
from toys import (
    Gambler,
    Listed,
    Recording,
    Script,
    found_of,
    results_in,
    row_of,
    some_are_doomed,
    some_fail,
    untunable,
)

SLOTS = [1, 2, 8, 64]
MOST_TRIES = Limits().max_tries
MOST_CORES = 4


# -- a sweep of it --------------------------------------------------------------------------------


@dataclasses.dataclass
class Folder:
    """A database in memory, which several runs may open one after the other."""

    first: Store = dataclasses.field(default_factory=lambda: Store.open(Path(":memory:")))
    died: Counter = dataclasses.field(default_factory=Counter)

    def open(self):
        return Store(self.first.connection)


@dataclasses.dataclass
class Run:
    """One call of the command: the loop of `sweeper.engine.engine`, stopped where the test says."""

    selector: ParamSelector
    slots: int = 2
    folder: Folder = dataclasses.field(default_factory=Folder)
    seed: int = 0
    deaths: float = 0.0
    per_job: int = 1
    backend: ToyBackend | None = None
    failing: object = never
    doomed: object = never
    limits: Limits = dataclasses.field(default_factory=Limits)
    batches: list = dataclasses.field(default_factory=list)
    events: list = dataclasses.field(default_factory=list)
    decisions: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        if self.backend is None:
            self.backend = ToyBackend(
                self.seed, self.deaths, self.failing, self.doomed, self.folder.died
            )

    def run(self, stop=None):
        """To the end, where its invariants are checked, or to `stop`: (batch, what is durable)."""
        store = self.folder.open()
        name = type(self.selector).__name__
        self.study = Study(
            self.selector,
            ToyPlan(),
            point_of,
            most_cores=MOST_CORES,
            slots=self.slots,
            recorded=store.recorded(name),
            limits=self.limits,
        )
        durable = {(o.point, o.stage, o.number) for o in store.outcomes(arrays=False)}
        self.keep(store, self.study.begin(), name)
        self.check()
        timeout = self.limits.trial_timeout
        scheduler = Scheduler(self.slots, per_job=self.per_job, timeout=timeout)
        interrupts = SimpleNamespace(signal=None)
        loop = dispatch(self.study, scheduler, self.backend, interrupts, *[self.backend.clock] * 2)
        for events in loop:
            self.batches.append(events)
            place = len(self.batches)
            if stop == (place, "nothing"):
                return self
            for event in events:
                if isinstance(event, Started):
                    again = durable & {
                        (event.job.point, event.job.stage, n) for n in event.job.numbers
                    }
                    assert not again, "what had finished is run again"
            store.append(events)
            self.events += events
            if stop == (place, "events"):
                return self
            self.keep(store, self.study.tell(events))
            self.check()
            running = [slot for slot, _, _ in self.study.progress().running]
            assert running == sorted(scheduler.running)
            self.study.check_failures()
            if stop == (place, "decisions"):
                return self
        self.study.check_stalled()
        self.check_end(store)
        return self

    def keep(self, store, decisions, name=None):
        self.decisions += decisions
        if name is None:
            store.append(decisions)
        else:
            store.begin(decisions, name, keep_log=self.selector.adaptive)

    def check(self):
        """What holds at every moment."""
        progress = self.study.progress()
        asked = {d.point.signature for d in self.decisions if isinstance(d, Asked) and d.point}
        if not self.selector.adaptive:
            assert progress.points == len(asked)
        assert progress.trials_failed <= progress.trials_done <= progress.trials_asked
        assert len(progress.running) <= self.slots == progress.slots

    def check_end(self, store):
        progress = self.study.progress()
        assert self.study.finished
        assert progress.running == ()
        assert progress.trials_done == progress.trials_asked
        assert progress.tuning == progress.training == progress.waiting == 0
        assert progress.seconds_left in (None, 0.0)
        # Every stage of a point ended once, over all runs in this folder.
        once = store.connection.execute(
            "SELECT count(*) FROM decisions WHERE after != '' GROUP BY point, after"
        )
        assert set(once.fetchall()) <= {(1,)}

    @property
    def lost(self):
        return [event for event in self.events if isinstance(event, Lost)]

    @property
    def started(self):
        """How often each replica of each stage was handed to a worker."""
        return Counter(
            (event.job.point, event.job.stage, number)
            for event in self.events
            if isinstance(event, Started)
            for number in event.job.numbers
        )

    @property
    def finished(self):
        return [event.outcome for event in self.events if isinstance(event, Finished)]

    @property
    def results(self):
        return results_in(self.folder.open())


# -- made-up selectors ----------------------------------------------------------------------------


TROUBLE = {"failing": some_fail, "doomed": some_are_doomed}
ASKS = [((0,), 3), ((1,), 4), ((2,), 0), ((3,), 2), ((0,), 2), ((4,), 1), ((2,), 0), ((5,), 1)]


def trials_asked(asks):
    asked = Counter()
    for params, trials in asks:
        asked[params] += trials
    return asked


# -- every trial once -----------------------------------------------------------------------------


@pytest.mark.parametrize("per_job", [1, 3])
@pytest.mark.parametrize("deaths", [0.0, 0.3])
@pytest.mark.parametrize("slots", SLOTS)
def test_every_asked_trial_gets_one_result_and_is_told_once_in_order(slots, deaths, per_job):
    run = Run(Listed(ASKS), slots, deaths=deaths, per_job=per_job).run()
    assert bool(run.lost) == bool(deaths)
    ended = Counter((o.point, o.number) for o in run.finished if o.stage == TRIAL)
    assert set(ended.values()) == {1}
    for params, trials in trials_asked(ASKS).items():
        assert run.selector.told(params) == [row_of(params, number) for number in range(trials)]
        mine = [entry for entry in run.selector.history if entry[1] == params]
        assert mine[0] == ("hparams", params, found_of(params))
        assert [entry[0] for entry in mine].count("hparams") == 1
    assert len(ended) == sum(trials_asked(ASKS).values())
    # It is asked for everything before it is told of anything.
    assert [entry[0] for entry in run.selector.history[: len(ASKS)]] == ["asked"] * len(ASKS)
    assert run.study.progress().done == len(trials_asked(ASKS))


def test_results_are_the_same_at_any_number_of_slots():
    runs = [Run(Listed(ASKS), slots, seed=slots, deaths=0.2, **TROUBLE).run() for slots in SLOTS]
    assert all(run.results == runs[0].results for run in runs)


def test_the_same_params_asked_again_add_trials():
    results = read_results(Run(Listed([((1,), 2), ((2,), 1), ((1,), 3)])).run().folder.open())
    assert [len(point.perf_val) for point in results] == [5, 1]
    assert [list(numbers) for numbers in results.trial_numbers] == [[0, 1, 2, 3, 4], [0]]


def test_without_trials_a_point_is_only_tuned():
    run = Run(Listed([((1,), 0)])).run()
    assert {outcome.stage for outcome in run.finished} & {TRIAL} == set()
    assert run.selector.tells == [("hparams", (1,), found_of((1,)))]
    (point,) = read_results(run.folder.open())
    assert point[1:4] == (found_of((1,)).lr_min, found_of((1,)).lr_max, found_of((1,)).batch_size)
    assert point.perf_val.shape == (0,)


def test_nothing_asked_is_nothing_done():
    for selector in (Listed([]), Script([]), FixedSweep([])):
        run = Run(selector).run()
        assert run.batches == []
        assert run.study.progress().points == 0


def test_only_the_first_point_of_a_folder_is_checked():
    run = Run(Listed(ASKS)).run()
    assert [(o.point, o.number) for o in run.finished if o.stage == CHECK] == [
        (point_of((0,)).signature, 0)
    ]
    more = Run(Listed([((9,), 1), *ASKS]), folder=run.folder).run()
    assert {outcome.stage for outcome in more.finished} & {CHECK} == set()
    assert {outcome.point for outcome in more.finished} == {point_of((9,)).signature}


def test_files_are_numbered_in_the_order_of_first_asking_over_all_runs():
    run = Run(Listed(ASKS)).run()
    Run(Listed([((9,), 1), ((1,), 1)]), folder=run.folder).run()
    store = run.folder.open()
    expected = [(0,), (1,), (2,), (3,), (4,), (5,), (9,)]
    assert [decode(encoded) for _, encoded in store.encoded_params()] == expected


def test_work_says_what_the_queue_needs():
    study = Study(Listed([((1,), 2)]), ToyPlan(), point_of, most_cores=3, slots=1)
    asked, planned = study.begin()
    assert asked == Asked(point_of((1,)), 2, 0)
    assert planned == Planned(asked.point.signature, Step(CHECK, 1, {"steps": 1}))
    (work,) = study.release()
    assert (work.kind, work.stage, work.numbers, work.most_cores) == ("tuning", CHECK, (0,), 3)
    assert work.payload == {"steps": 1, "params": asked.point.encoded, "id": 0}
    assert study.release() == []
    study.tell([Finished(2.0, Outcome(work.point, CHECK, 0, 0.0, 0.5))])
    (work,) = study.release()
    assert (work.stage, work.numbers) == ("lr_range", (0, 1, 2))
    assert (work.expected, work.after) == (5.0, 12.5)  # half a second a step


# -- adaptive selectors ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gamble():
    """The history and the results that every other way must come to."""
    run = Run(Gambler(), 1, **TROUBLE).run()
    kinds = Counter(entry[0] for entry in run.selector.history)
    assert kinds["asked"] > kinds["hparams"] > 2
    assert (kinds["trials"], kinds["failed"]) > (5, 2), "a dull story shows nothing"
    assert None in run.selector.asks
    assert run.selector.paused
    assert any("3 times" in entry[-1] for entry in run.selector.history if entry[0] == "failed")
    return run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slots", SLOTS)
def test_an_adaptive_history_does_not_depend_on_slots_durations_or_deaths(gamble, slots, seed):
    run = Run(Gambler(), slots, seed=seed, deaths=0.3, per_job=1 + seed, **TROUBLE).run()
    assert run.lost
    assert run.selector.history == gamble.selector.history
    assert run.results == gamble.results


def test_asks_and_tells_are_logged_as_they_were(gamble):
    logged = []
    for entry in gamble.folder.open().log("Gambler"):
        if isinstance(entry, Asked):
            logged.append(("asked", entry.point and (entry.point.params, entry.trials)))
        else:
            if entry.what == "trials" and not entry.numbers:
                continue  # nothing was left to tell
            logged.append((entry.what, entry.point, entry.numbers))
    history = []
    for kind, *values in gamble.selector.history:
        params = values[0]
        if kind == "asked":
            history.append((kind, params))
        elif kind == "trials":
            history.append((kind, point_of(params).signature, len(values[1])))
        else:
            history.append((kind, point_of(params).signature))
    assert [(e[0], e[1], len(e[2])) if e[0] == "trials" else e[:2] for e in logged] == history
    told = [entry for entry in logged if entry[0] == "trials"]
    for point in {entry[1] for entry in told}:
        numbers = [number for entry in told if entry[1] == point for number in entry[2]]
        assert numbers == sorted(set(numbers))


def test_at_most_look_ahead_asks_are_open():
    selector = Script([((number,), 1) for number in range(9)])
    Run(selector, 8).run()
    kinds = [entry[0] for entry in selector.history]
    told = ["hparams", "trials"]
    # Two asks at first, then one for every ask that was told as a whole.
    assert kinds == ["asked"] * 2 + [*told, "asked"] * 7 + told * 2


def test_an_ask_is_told_whole_and_in_the_order_of_asking():
    # The second is over long before the first.
    selector = Script([((0,), 5), ((1,), 0), ((0,), 2)])
    Run(selector, 64).run()
    assert [(entry[0], entry[1]) for entry in selector.tells] == [
        ("hparams", (0,)),
        ("trials", (0,)),
        ("hparams", (1,)),
        ("trials", (0,)),
    ]
    assert [len(entry[2]) for entry in selector.tells if entry[0] == "trials"] == [5, 2]


def test_an_ask_of_which_nothing_is_left_to_tell_does_not_block_the_next():
    asks = [((1,), 0), ((1,), 0), ((1,), 0), ((2,), 1), ((1,), 1)]
    selector = Script(asks)
    folder = Run(selector).run().folder
    assert [entry[:2] for entry in selector.tells] == [
        ("hparams", (1,)),
        ("hparams", (2,)),
        ("trials", (2,)),
        ("trials", (1,)),
    ]
    again = Run(Script(asks), folder=folder).run()
    assert again.batches == []
    assert again.selector.history[: len(asks)] == selector.history[: len(asks)]


class Sulks(Recording):
    """Adaptive: says that it is done until it is told, then asks once more."""

    adaptive = True

    def __init__(self, asks):
        super().__init__()
        self.asks_left, self.may = list(asks), 1

    def decide(self):
        self.may -= 1
        return self.asks_left.pop(0)

    def has_more_trials(self):
        return bool(self.asks_left and self.may > 0)

    def on_trials_completed(self, params, *columns):
        super().on_trials_completed(params, *columns)
        self.may += 1


def test_one_that_had_no_more_may_have_more_after_it_was_told():
    selector = Sulks([((1,), 1), ((2,), 2), ((1,), 1)])
    run = Run(selector, 8).run()
    assert [entry[0] for entry in selector.history] == [
        *("asked", "hparams", "trials"),
        *("asked", "hparams", "trials"),
        *("asked", "trials"),
    ]
    assert run.study.progress().trials_done == 4


@pytest.mark.parametrize("adaptive", [False, True])
def test_none_means_ask_me_again_once_i_was_told(adaptive):
    class Waits(Listed):
        def has_more_trials(self):
            return bool(self.left)

    Waits.adaptive = adaptive
    selector = Waits([((1,), 1), None, ((2,), 1), None, ((1,), 2)])
    run = Run(selector, 8).run()
    kinds = [entry[0] if entry[1] else "waits" for entry in selector.history]
    assert kinds[:3] == ["asked", "waits", "hparams"]
    assert kinds.count("asked") == 3
    assert kinds.count("waits") == 2
    assert selector.told((1,)) == [row_of((1,), number) for number in range(3)]
    assert run.study.finished


# -- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [Listed, Script])
@pytest.mark.parametrize("slots", SLOTS)
def test_a_failing_stage_fails_the_point_and_others_go_on(slots, selector):
    asks = [((3,), 2), ((2,), 1), ((3,), 1), ((0,), 1)]
    run = Run(selector(asks), slots, failing=untunable).run()
    tells = run.selector.tells
    error = "batch_range 1: ValueError: boom"
    assert ("failed", (3,), "batch_range", error) in tells
    assert {entry[0] for entry in tells if entry[1] == (3,)} == {"failed"}
    assert run.selector.told((2,)) == [row_of((2,), 0)]
    assert not [o for o in run.finished if o.point == point_of((3,)).signature and o.stage == TRIAL]
    progress = run.study.progress()
    assert (progress.done, progress.failed, progress.trials_done) == (2, 1, 2)
    results = read_results(run.folder.open())
    assert len(results[0].perf_val) == 0
    assert math.isnan(results[0].lr_min)
    (failure,) = results.failures
    assert (failure.params, failure.number, failure.message) == ((3,), None, error)
    assert failure.detail == BOOM.detail


@pytest.mark.parametrize("selector", [Listed, Script])
@pytest.mark.parametrize("slots", SLOTS)
def test_a_failed_trial_is_told_and_the_others_still_come(slots, selector):
    def failing(params, stage, number):
        return stage == TRIAL and number in (0, 3)

    run = Run(selector([((1,), 5)]), slots, failing=failing).run()
    assert run.selector.told((1,)) == [row_of((1,), number) for number in (1, 2, 4)]
    assert [entry for entry in run.selector.tells if entry[0] == "failed"] == [
        ("failed", (1,), TRIAL, BOOM.message)
    ] * 2
    progress = run.study.progress()
    assert (progress.done, progress.trials_done, progress.trials_failed) == (1, 5, 2)
    results = read_results(run.folder.open())
    assert list(results.trial_numbers[0]) == [1, 2, 4]
    assert [failure.number for failure in results.failures] == [0, 3]


@pytest.mark.parametrize("per_job", [1, 3])
@pytest.mark.parametrize("slots", SLOTS)
def test_a_replica_over_which_workers_die_is_begun_three_times(slots, per_job):
    asks = [((1,), 5), ((4,), 2), ((2,), 1)]
    run = Run(Listed(asks), slots, per_job=per_job, doomed=some_are_doomed).run()
    over = Counter((e.job.point, e.job.stage, e.numbers[0]) for e in run.lost)
    one, four = point_of((1,)).signature, point_of((4,)).signature
    assert over == {(one, TRIAL, 2): MOST_TRIES, (four, "lr_range", 0): MOST_TRIES}
    assert run.selector.told((1,)) == [row_of((1,), number) for number in (0, 1, 3, 4)]
    failed = {entry[1:] for entry in run.selector.tells if entry[0] == "failed"}
    why = f"{CRASH.message}, 3 times"
    assert failed == {((1,), TRIAL, why), ((4,), "lr_range", f"lr_range 0: {why}")}
    assert run.study.progress().failed == 1
    # It stays so: nothing is tried again by the same command.
    again = Run(Listed(asks), slots, folder=run.folder, doomed=some_are_doomed).run()
    assert again.batches == []
    assert again.results == run.results
    assert {entry[1:] for entry in again.selector.tells if entry[0] == "failed"} == failed
    assert again.selector.told((1,)) == run.selector.told((1,))


@pytest.mark.parametrize("slots", [1, 2])
def test_what_was_handed_ahead_to_a_worker_that_died_is_no_try(slots):
    def doomed(_params, _stage, number):
        return number == 30

    backend = ToyBackend(doomed=doomed, seconds=(0.001,))
    run = Run(Listed([((1,), 60)]), slots, doomed=doomed, backend=backend).run()
    assert [event.numbers[0] for event in run.lost] == [30] * MOST_TRIES
    assert sum(run.started.values()) > len(run.started) + MOST_TRIES, "nothing was handed ahead"
    (progress,) = [run.study.progress()]
    assert (progress.trials_done, progress.trials_failed) == (60, 1)


@pytest.mark.parametrize("durable", ["events", "decisions"])
@pytest.mark.parametrize("stopped", [1, MOST_TRIES - 1, MOST_TRIES])
def test_tries_are_counted_over_resumes(stopped, durable):
    folder, deaths = Folder(), 0
    how = {"slots": 1, "doomed": some_are_doomed}
    for _ in range(stopped):
        # The same run to its end, in a copy, says after which batch the next death is.
        whole = Run(Listed([((1,), 3)]), folder=copy_of(folder), **how).run()
        died = [any(isinstance(event, Lost) for event in batch) for batch in whole.batches]
        run = Run(Listed([((1,), 3)]), folder=folder, **how).run((died.index(True) + 1, durable))
        deaths += len(run.lost)
    last = Run(Listed([((1,), 3)]), folder=folder, **how).run()
    assert deaths == stopped
    assert deaths + len(last.lost) == MOST_TRIES
    assert last.selector.told((1,)) == [row_of((1,), 0), row_of((1,), 1)]
    assert [entry[0] for entry in last.selector.tells].count("failed") == 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_how_often_a_replica_is_tried_may_be_said(most):
    run = Run(Listed([((1,), 5)]), doomed=some_are_doomed, limits=Limits(max_tries=most)).run()
    assert [event.numbers for event in run.lost] == [(2,)] * most
    (why,) = [entry[3] for entry in run.selector.tells if entry[0] == "failed"]
    assert why == CRASH.message + ("" if most == 1 else f", {most} times")


def test_what_was_given_up_stays_so_and_what_was_not_may_be_tried_more_or_less_often():
    def doomed(_params, stage, number):
        return stage == TRIAL and number in (1, 2)

    def go_on(folder, tries, stop=None):
        selector, limits = Listed([((1,), 4)]), Limits(max_tries=tries)
        return Run(selector, 1, folder=folder, doomed=doomed, limits=limits).run(stop)

    first = go_on(Folder(), 2)
    assert Counter(event.numbers for event in first.lost) == {(1,): 2, (2,): 2}
    assert go_on(first.folder, 9).lost == []
    whole = go_on(Folder(), 9)
    died = [any(isinstance(event, Lost) for event in batch) for batch in whole.batches]
    folder = Folder()
    go_on(folder, 9, (died.index(True) + 1, "events"))
    # Once is enough now for the one, and as it never ended, it is told of at once.
    lowered = go_on(folder, 1)
    assert [event.numbers for event in lowered.lost] == [(2,)]
    assert [failure.number for failure in read_results(folder.open()).failures] == [1, 2]


@pytest.mark.parametrize("per_job", [1, 3])
@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_job_over_its_time_is_ended_and_costs_only_what_hangs(slots, per_job):
    def stuck(params, stage, number):
        return (stage == TRIAL and number == 2) or (params, stage, number) == ((4,), "lr_range", 0)

    backend = ToyBackend(stuck=stuck)
    asks = [((1,), 5), ((4,), 2), ((2,), 1)]
    limits = Limits(trial_timeout=30.0)
    run = Run(Listed(asks), slots, per_job=per_job, backend=backend, limits=limits).run()
    assert run.selector.told((1,)) == [row_of((1,), number) for number in (0, 1, 3, 4)]
    assert run.selector.told((2,)) == [row_of((2,), 0)]
    why = "stopped: exceeded its time (trial_timeout=30)"
    failed = {entry[1:] for entry in run.selector.tells if entry[0] == "failed"}
    assert failed == {((1,), TRIAL, why), ((4,), "lr_range", f"lr_range 0: {why}")}
    ended = [event for event in run.lost if event.cause.kind == "timeout"]
    assert sorted(event.numbers for event in ended) == [(0,), (2,)], "each is ended once"
    again = Run(Listed(asks), slots, folder=run.folder, backend=ToyBackend(), limits=limits).run()
    assert again.batches == []
    assert again.results == run.results


NO_MEMORY = Failure("memory", "MemoryError: no room", "Traceback: …")
NO_DISK = Failure("disk", "OSError: [Errno 28] No space left on device", "Traceback: …")


def test_what_had_no_memory_is_tried_again():
    tried = Counter()

    def failing(params, stage, number):
        tried[params, stage, number] += 1
        return stage == TRIAL and (number == 1 or (number == 2 and tried[params, stage, 2] < 3))

    run = Run(Listed([((1,), 4)]), backend=ToyBackend(failing=failing, failure=NO_MEMORY)).run()
    assert run.selector.told((1,)) == [row_of((1,), number) for number in (0, 2, 3)]
    (failure,) = read_results(run.folder.open()).failures
    assert (failure.number, failure.message) == (1, f"{NO_MEMORY.message}, 3 times")
    assert {event.numbers for event in run.lost} == {(1,), (2,)}


def test_a_full_disk_stops_the_sweep_and_is_no_fault_of_the_trial():
    def failing(_params, stage, number):
        return stage == TRIAL and number == 1

    folder = Folder()
    for _ in range(2):  # each time it is tried as if for the first time
        backend = ToyBackend(failing=failing, failure=NO_DISK)
        run = Run(Listed([((1,), 4)]), 1, folder=folder, backend=backend)
        with pytest.raises(StoppedError, match="No space left on device: make room"):
            run.run()
        assert [event.cause for event in run.lost] == [NO_DISK] * 3
    assert Run(Listed([((1,), 4)]), folder=folder).run().results == (
        Run(Listed([((1,), 4)])).run().results
    )


def some_points_fail(params, stage, number):
    return untunable(params, stage, number) or (stage == TRIAL and number % 2 == 1)


def test_so_many_failures_stop_the_sweep_and_the_same_command_goes_on():
    asks = [((0,), 4), ((3,), 2), ((1,), 4), ((2,), 4)]
    folder, limits = Folder(), Limits(stop_after_failures=3)
    for _ in range(2):
        run = Run(Listed(asks), 1, folder=folder, failing=some_points_fail, limits=limits)
        with pytest.raises(StoppedError, match="3 trials or points have failed, and stop_after_"):
            run.run()
        assert len([entry for entry in run.selector.tells if entry[0] == "failed"]) >= 3
    last = Run(Listed(asks), 1, folder=folder, failing=some_points_fail, limits=limits).run()
    assert last.results == Run(Listed(asks), failing=some_points_fail).run().results


def test_nothing_is_stopped_that_is_over():
    def failing(_params, stage, _number):
        return stage == TRIAL

    limits = Limits(stop_after_failures=3)
    assert Run(Listed([((1,), 3)]), failing=failing, limits=limits).run().study.finished


def test_a_sweep_whose_first_three_trials_fail_alike_stops():
    def failing(_params, stage, number):
        return stage == TRIAL and number < 3

    asks = [((1,), 5), ((2,), 5)]
    run = Run(Listed(asks), 1, failing=failing)
    with pytest.raises(StoppedError, match="first 3 trials have all failed alike"):
        run.run()
    assert len([outcome for outcome in run.finished if outcome.stage == TRIAL]) == 3
    # Whoever gives the same command again has seen it.
    again = Run(Listed(asks), 1, folder=run.folder, failing=failing).run()
    assert again.study.progress().trials_failed == 6
    assert len([outcome for outcome in again.finished if outcome.stage == TRIAL]) == 7


@pytest.mark.parametrize("sound", [0, 1, 2])
def test_one_of_three_that_ends_well_is_enough_to_go_on(sound):
    def failing(_params, stage, number):
        return stage == TRIAL and number != sound

    assert Run(Listed([((1,), 6)]), 1, failing=failing).run().study.finished


def copy_of(folder):
    copied = Folder()
    folder.first.connection.backup(copied.first.connection)
    return copied


@pytest.mark.parametrize("trouble", ["failing", "doomed"])
def test_a_failing_check_is_a_fault_of_the_problem(trouble):
    def in_check(_params, stage, _number):
        return stage == CHECK

    run = Run(Listed(ASKS), 8, **{trouble: in_check})
    said = "boom" if trouble == "failing" else "signal 9, 3 times"
    with pytest.raises(ProblemError, match=said):
        run.run()
    # Made right, it is made again.
    run.folder.open().forget_faults_of_the_problem()
    again = Run(Listed(ASKS), 8, folder=run.folder).run()
    assert [o.stage for o in again.finished].count(CHECK) == 1
    assert again.results == Run(Listed(ASKS)).run().results


def test_after_a_failed_check_another_first_point_is_checked_instead():
    def bad(params, stage, _number):
        return params == (1,) and stage == CHECK

    run = Run(Listed([((1,), 1), ((2,), 1)]), 1, failing=bad)
    with pytest.raises(ProblemError):
        run.run()
    run.folder.open().forget_faults_of_the_problem()
    again = Run(Listed([((5,), 1), ((1,), 1)]), 1, folder=run.folder, failing=bad).run()
    checked = [o.point for o in again.finished if o.stage == CHECK]
    assert checked == [point_of((5,)).signature]
    assert again.study.progress().done == 2


class Raises(Listed):
    def __init__(self, method):
        super().__init__([((1,), 2), None, ((2,), 1)])
        self.method = method

    def _maybe(self, method):
        if self.method == method:
            raise KeyError("oh")

    def decide(self):
        self._maybe("get_next_trials")
        return super().decide()

    def has_more_trials(self):
        self._maybe("has_more_trials")
        return super().has_more_trials()

    def waiting_outside(self):
        self._maybe("waiting_outside")
        return super().waiting_outside()

    def on_hparams_found(self, *values):
        self._maybe("on_hparams_found")

    def on_trials_completed(self, *values):
        self._maybe("on_trials_completed")

    def on_failed(self, *values):
        self._maybe("on_failed")


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        *("get_next_trials", "has_more_trials", "waiting_outside"),
        *("on_hparams_found", "on_trials_completed", "on_failed"),
    ],
)
def test_a_selector_that_raises_stops_the_sweep(method, adaptive):
    class Bad(Raises):
        pass

    def failing(_params, stage, number):
        return stage == TRIAL and number == 1

    Bad.adaptive = adaptive
    run = Run(Bad(method), 2, failing=failing)
    with pytest.raises(
        SelectorError, match=rf"selector Bad raised in {method}\(\).*KeyError: 'oh'"
    ) as e:
        run.run()
    assert isinstance(e.value.__cause__, KeyError)
    # What had finished is there, and the same command goes on once the selector is right.
    again = Run(Bad(None), 2, folder=run.folder, failing=failing).run()
    assert not set(again.started) & {(o.point, o.stage, o.number) for o in run.finished}
    assert again.study.progress().trials_done == 3


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (7, SelectorError, r"get_next_trials\(\) gave 7; expected \(params, trials\)"),
        ("ab", SelectorError, "gave 'ab'"),
        ((), SelectorError, r"gave \(\)"),
        (((1,), 2, 3), SelectorError, "gave"),
        ([(1,), 2], SelectorError, "gave"),
        (((1,), -1), SelectorError, "asked for -1 trials"),
        (((1,), 1.0), SelectorError, "asked for 1.0 trials"),
        (((1,), True), SelectorError, "asked for True trials"),
        (((1,), None), SelectorError, "asked for None trials"),
        ((1, 1), ParamError, "params=1 is a int"),
        (((math.nan,), 1), ParamError, "parameter 0 is NaN"),
        (((object(),), 1), ParamError, "parameter 0="),
    ],
)
@pytest.mark.parametrize("selector", [Listed, Script])
def test_nonsense_is_refused_with_what_is_expected(selector, answer, error, said):
    with pytest.raises(error, match=said):
        Run(selector([answer])).run()


def test_numpy_counts_and_values_are_taken():
    run = Run(Listed([((np.int64(1),), np.int32(2))])).run()
    assert run.selector.told((1,)) == [row_of((1,), 0), row_of((1,), 1)]


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_that_waits_for_nothing_has_stalled(adaptive):
    class Waits(Listed):
        def has_more_trials(self):
            return True

    Waits.adaptive = adaptive
    run = Run(Waits([((1,), 1)]), 2)
    with pytest.raises(StalledError, match=r"selector Waits says that it has more trials.*None"):
        run.run()
    assert run.selector.told((1,)) == [row_of((1,), 0)]
    assert not run.study.finished
    assert not run.study.waiting_outside
    assert run.study.progress().done == 1


@pytest.mark.parametrize("look_ahead", [0, -1, 1.5, None, True])
def test_a_look_ahead_that_lets_nothing_be_asked_is_refused(look_ahead):
    selector = Script([((1,), 1)])
    selector.look_ahead = look_ahead
    with pytest.raises(SelectorError, match=rf"look_ahead={look_ahead}: .*1 or more"):
        Run(selector).run()


# -- points from outside --------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("slots", [1, 8])
def test_points_may_come_from_outside(slots, adaptive):
    class Mailbox(Recording):
        """Each of its points arrives at some moment; over when the last has come."""

        def __init__(self, arrivals):
            super().__init__()
            self.arrivals = list(arrivals)

        def decide(self):
            if self.arrivals and self.arrivals[0][0] <= backend.now - 1e9:
                return self.arrivals.pop(0)[1:]
            return None

        def has_more_trials(self):
            return bool(self.arrivals)

        def waiting_outside(self):
            return True

    Mailbox.adaptive = adaptive
    backend = ToyBackend(seed=1)
    selector = Mailbox([(5, (1,), 1), (6, (2,), 0), (400, (1,), 1), (400, (3,), 1)])
    run = Run(selector, slots, backend=backend).run()
    assert [ask for ask in selector.asks if ask] == [((1,), 1), ((2,), 0), ((1,), 1), ((3,), 1)]
    assert selector.told((1,)) == [row_of((1,), 0), row_of((1,), 1)]
    assert any(isinstance(event, Tick) for event in run.events)
    assert run.study.progress().done == 3


def test_what_is_known_already_is_told_also_where_it_is_asked_for_late():
    class Late(Listed):
        def has_more_trials(self):
            return bool(self.left)

    def failing(params, stage, _number):
        return params == (3,) and stage == "lr_range"

    asks = [((1,), 1), None, ((2,), 2), None, ((3,), 1)]
    first = Run(Late(asks), failing=failing).run()
    again = Run(Late(asks), folder=first.folder, failing=failing).run()
    assert again.batches == []
    for run in (first, again):
        assert {entry[:2] for entry in run.selector.tells if entry[0] != "trials"} == {
            ("hparams", (1,)),
            ("hparams", (2,)),
            ("failed", (3,)),
        }
        assert run.selector.told((2,)) == [row_of((2,), 0), row_of((2,), 1)]


def test_a_failed_point_that_is_asked_for_again_is_told_as_failed_again():
    class Stubborn(Listed):
        def has_more_trials(self):
            return bool(self.left)

    for adaptive in (False, True):
        Stubborn.adaptive = adaptive
        selector = Stubborn([((3,), 1), None, ((3,), 2), None, ((2,), 1)])
        Run(selector, failing=untunable).run()
        kinds = [entry[:2] for entry in selector.tells if entry[0] != "hparams"]
        assert kinds == [("failed", (3,)), ("failed", (3,)), ("trials", (2,))]


# -- interruption and resume ----------------------------------------------------------------------


def resumed(make, stops, **how):
    """Runs in one folder, stopped where `stops` say and then let to the end; gives the last."""
    folder, seen = Folder(), Counter()
    for stop in [*stops, None]:
        run = Run(make(), folder=folder, **how).run(stop)
        seen.update((o.point, o.stage, o.number) for o in run.finished)
    assert set(seen.values()) == {1}, "a replica finished twice"
    return run


STOPS = st.tuples(st.integers(1, 60), st.sampled_from(["nothing", "events", "decisions"]))


@settings(max_examples=60)
@given(
    st.lists(STOPS, min_size=1, max_size=4),
    st.sampled_from([1, 2, 8]),
    st.integers(0, 3),
    st.sampled_from([1, 2]),
)
@example([(1, "events"), (1, "nothing"), (2, "events")], 64, 0, 1)
def test_an_adaptive_sweep_goes_on_as_if_never_stopped(gamble, stops, slots, seed, per_job):
    how = {"slots": slots, "seed": seed, "per_job": per_job, "deaths": 0.15, **TROUBLE}
    run = resumed(Gambler, stops, **how)
    assert run.selector.history == gamble.selector.history
    assert run.results == gamble.results
    assert run.folder.open().log("Gambler") == gamble.folder.open().log("Gambler")


@pytest.mark.parametrize("durable", ["nothing", "events", "decisions"])
@pytest.mark.parametrize("make", [Gambler, lambda: Listed(ASKS)], ids=["adaptive", "fixed"])
def test_it_goes_on_from_every_batch(make, durable):
    whole = Run(make(), **TROUBLE).run()
    for batch in range(1, len(whole.batches) + 1):
        run = resumed(make, [(batch, durable)], **TROUBLE)
        assert run.results == whole.results
        if run.selector.adaptive:
            assert run.selector.history == whole.selector.history
        for params in trials_asked(ASKS):
            assert run.selector.told(params) == whole.selector.told(params)


def test_an_ask_of_which_nothing_is_left_to_tell_has_its_place_in_the_replay():
    class Patient(Script):
        look_ahead = 3

    asks = [((1,), 0), ((1,), 0), ((2,), 3), None, None, ((3,), 1)]
    whole = Run(Patient(asks)).run()
    assert [entry[1] for entry in whole.selector.history if entry[0] == "asked"] == asks
    for batch in range(1, len(whole.batches) + 1):
        run = resumed(lambda: Patient(asks), [(batch, "decisions")])
        assert run.selector.history == whole.selector.history


def test_what_is_done_is_not_done_again(gamble):
    again = Run(Gambler(), 8, folder=copy_of(gamble.folder), **TROUBLE).run()
    assert again.batches == []
    assert again.selector.history == gamble.selector.history
    assert [d for d in again.decisions if isinstance(d, Planned)] == []
    assert again.results == gamble.results


def test_more_trials_extend_the_folder_and_fewer_leave_them_stored():
    folder = Run(Listed([((1,), 2), ((2,), 2)])).run().folder
    more = Run(Listed([((2,), 3)]), folder=folder).run()
    assert list(more.started) == [(point_of((2,)).signature, TRIAL, 2)]
    assert more.selector.told((2,)) == [row_of((2,), number) for number in range(3)]
    assert [point.params for point in read_results(folder.open())] == [(2,)]
    fewer = Run(Listed([((2,), 1), ((1,), 1)]), folder=folder).run()
    assert fewer.batches == []
    assert fewer.selector.told((2,)) == [row_of((2,), 0)]
    progress = fewer.study.progress()
    assert (progress.trials_asked, progress.trials_done) == (2, 2)
    assert [len(point.perf_val) for point in read_results(folder.open())] == [1, 1]


def test_an_adaptive_selector_may_be_given_more_to_do():
    folder = Run(Script([((1,), 2)])).run().folder
    more = Run(Script([((1,), 2), ((2,), 1)]), folder=folder).run()
    assert {point for point, *_ in more.started} == {point_of((2,)).signature}


def test_the_best_of_what_was_known_is_shown_at_once(gamble):
    again = Run(Gambler(), 8, folder=copy_of(gamble.folder), **TROUBLE).run()
    results = read_results(gamble.folder.open())
    best = again.study.progress().best
    assert best.params == results.best().params
    assert best.mean == pytest.approx(results.best().perf_val.mean())
    assert best.trials == len(results.best().perf_val)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ([((1,), 2), ((9,), 1)], r"says 1 trials of 2, it now says 1 trials of 9"),
        ([((1,), 2), ((2,), 5)], r"says 1 trials of 2, it now says 5 trials of 2"),
        ([((1,), 2)], r"says 1 trials of 2, it now says that it has no more trials"),
        ([((1,), 2), None], r"says 1 trials of 2, it now says to wait for results"),
    ],
)
def test_one_that_answers_differently_on_replay_is_refused_with_both_asks(now, said):
    class Waits(Script):
        pass

    folder = Run(Waits([((1,), 2), ((2,), 1), ((3,), 0)])).run().folder
    before = results_in(folder.open())
    with pytest.raises(SelectorError, match=f"selector Waits .*{said}"):
        Run(Waits(now), folder=folder).run()
    assert results_in(folder.open()) == before


def test_a_wait_that_is_no_wait_on_replay_is_refused():
    class Waits(Script):
        pass

    folder = Run(Waits([((1,), 1), None, ((2,), 1)])).run().folder
    with pytest.raises(SelectorError, match="says to wait for results, it now says 1 trials of 2"):
        Run(Waits([((1,), 1), ((2,), 1)]), folder=folder).run()


def test_a_folder_that_lost_what_was_told_is_refused():
    folder = Run(Script([((1,), 2), ((2,), 1)])).run().folder
    folder.first.connection.execute("DELETE FROM outcomes WHERE stage = 'trial' AND number = 1")
    with pytest.raises(SelectorError, match="told of results that the folder does not hold"):
        Run(Script([((1,), 2), ((2,), 1)]), folder=folder).run()


def test_a_folder_that_holds_other_results_than_were_told_is_refused():
    def failing(_params, stage, number):
        return stage == TRIAL and number == 1

    asks = [((1,), 3), ((2,), 1)]
    folder = Run(Script(asks), failing=failing).run().folder
    # Another selector had the failed trial tried again, and it went well.
    folder.open().forget_failures()
    Run(Listed(asks), folder=folder).run()
    with pytest.raises(SelectorError, match="told of results that the folder does not hold"):
        Run(Script(asks), folder=folder).run()


def test_recorded_failures_that_were_forgotten_are_tried_again():
    asks = [((3,), 1), ((1,), 3)]
    folder = Run(Listed(asks), **TROUBLE).run().folder
    folder.open().forget_failures()
    again = Run(Listed(asks), folder=folder).run()
    assert again.study.progress().done == 2
    assert again.results == Run(Listed(asks)).run().results


# -- the small print of telling -------------------------------------------------------------------


def study_of(selector, recorded=None):
    study = Study(selector, ToyPlan(), point_of, most_cores=4, slots=2, recorded=recorded)
    return study, study.begin()


def tuned(params, numbers=()):
    """What a folder remembers of a tuned point with these trials."""
    signature = point_of(params).signature
    ended = {n: tuple(metrics_of(params, n)[name] for name in METRICS) for n in numbers}
    step = Step(TRIAL, payload={"steps": 20}, found=found_of(params))
    return Recorded(
        steps={signature: step}, trials={signature: RecordedTrials(ended, 1.0)}, ids={signature: 0}
    )


def test_what_a_folder_knows_is_told_before_anything_runs():
    selector = Listed([((1,), 2)])
    study, decisions = study_of(selector, tuned((1,), range(4)))
    signature = point_of((1,)).signature
    assert decisions == [
        Asked(point_of((1,)), 2, 0),
        Told(signature, "hparams"),
        Told(signature, "trials", (0, 1)),
    ]
    assert study.finished
    assert study.release() == []
    assert selector.told((1,)) == [row_of((1,), 0), row_of((1,), 1)]


def test_trials_are_told_up_to_the_first_that_is_missing():
    selector = Listed([((1,), 4)])
    study, _ = study_of(selector, tuned((1,), [0, 2]))
    assert len(selector.told((1,))) == 1
    (work,) = study.release()
    assert work.numbers == (1, 3)
    signature = work.point
    told = study.tell([Finished(0.0, Outcome(signature, TRIAL, 3, 0.0, 1.0, metrics_of((1,), 3)))])
    assert told == []
    told = study.tell([Finished(0.0, Outcome(signature, TRIAL, 1, 0.0, 1.0, metrics_of((1,), 1)))])
    assert told == [Told(signature, "trials", (1, 2, 3))]
    assert study.finished


def test_the_arrays_are_the_selectors_own():
    class Vandal(Listed):
        def on_trials_completed(self, params, *columns):
            super().on_trials_completed(params, *columns)
            for column in columns:
                column[:] = -1

    run = Run(Vandal([((1,), 2)])).run()
    (point,) = read_results(run.folder.open())
    assert (point.perf_val >= 0).all()


def test_an_outcome_that_is_known_or_of_a_stage_that_is_over_changes_nothing():
    study, _ = study_of(Listed([((1,), 2)]), tuned((1,), [0]))
    study.release()
    before = study.progress()
    signature = point_of((1,)).signature
    assert study.tell([Finished(0.0, Outcome(signature, TRIAL, 0, 0.0, 1.0, {}))]) == []
    assert study.tell([Finished(0.0, Outcome(signature, "lr_range", 0, 0.0, 1.0))]) == []
    assert study.tell([Finished(0.0, Outcome("other", "lr_range", 0, 0.0, 1.0))]) == []
    after = study.progress()
    assert (after.trials_done, after.training) == (before.trials_done, before.training)


def test_params_are_told_as_they_were_asked_for():
    run = Run(Listed([({"b": np.int64(1), "a": dict}, 1)])).run()
    (_, params, _), _ = run.selector.tells
    assert params == {"b": 1, "a": dict}
    assert list(params) == ["b", "a"]
    assert type(params["b"]) is int


def test_time_left_is_known_once_speeds_are():
    study, _ = study_of(Listed([((1,), 4)]), tuned((1,)))
    (work,) = study.release()
    assert study.progress().seconds_left is None
    done = Outcome(work.point, TRIAL, 0, 0.0, 8.0, metrics_of((1,), 0))
    study.tell([Finished(8.0, done)])
    assert study.progress().seconds_left == pytest.approx(3 * 8.0 / 2)


def test_the_best_may_fall_behind():
    (one, two) = ((1,), (2,))
    recorded = [tuned(params) for params in (one, two)]
    both = Recorded(
        steps={**recorded[0].steps, **recorded[1].steps},
        ids={point_of(one).signature: 0, point_of(two).signature: 1},
    )
    study, _ = study_of(Listed([(one, 2), (two, 1)]), both)
    for params, number, perf in ((one, 0, 0.9), (two, 0, 0.8), (one, 1, 0.5)):
        metrics = {**metrics_of(params, number), "perf_val": perf}
        outcome = Outcome(point_of(params).signature, TRIAL, number, 0.0, 1.0, metrics)
        study.tell([Finished(1.0, outcome)])
    assert study.progress().best.params == two


def test_run_sees_only_tuning_and_trials():
    kinds = defaultdict(set)
    for event in Run(Listed(ASKS), **TROUBLE).run().events:
        if isinstance(event, Started):
            kinds[event.job.kind].add(event.job.stage)
    assert kinds["trial"] == {TRIAL}
    assert TRIAL not in kinds["tuning"]
    assert set(kinds) == {"tuning", "trial"}
