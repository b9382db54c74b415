"""Classes with `setup` and `run`: trials that share a root, and how they are kept together."""

import importlib
import itertools
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

import branches
import sweeper
from simulation import name
from sweeper.code.importing import ModuleRef
from sweeper.errors import UsageError
from sweeper.program.objective.branches import shared_key
from sweeper.program.objective.locate import ObjectiveRef, Takes
from sweeper.records import Died, Failure, Job, Outcome, Result, Work
from sweeper.run.scheduler import Scheduler
from sweeping import check_nothing_was_repeated, outcomes, python

DEPTHS, HEADS = (5, 6, 7), (1, 2, 3)
POINTS = [{"depth": depth, "head": head} for head in HEADS for depth in DEPTHS]


def run(objective, folder, points=POINTS, **options):
    options = {"backend": "inline", "trials": 2, **options}
    return sweeper.sweep(objective, points, folder=folder, progress=False, **options)


def marked(mark):
    return [{**point, "mark": str(mark)} for point in POINTS]


def built(mark):
    """How often each trunk was built."""
    return Counter(Path(mark).read_text().split())


# -- what trials share -----------------------------------------------------------------------------


def test_points_that_agree_on_what_setup_names_share_what_it_built(tmp_path):
    results = run(branches.Heads, tmp_path / "out", marked(tmp_path / "mark"))
    assert built(tmp_path / "mark") == {"5": 1, "6": 1, "7": 1}
    trunks = {}
    for point, values in zip(results, results.values("trunk"), strict=True):
        trunks.setdefault(point.params["depth"], set()).update(values.tolist())
    assert [len(values) for values in trunks.values()] == [1, 1, 1]
    assert len({value for values in results.values("own") for value in values}) == 18
    assert results.values("head")[0].tolist() == [5.0, 6.0], "run gets what it names, trial too"
    about = "each trial is one run of the class branches.Heads; trials that agree on depth, mark"
    assert results.notes == (f"{about} share its setup",)


def test_a_run_that_changes_what_setup_built_changes_no_other_trial(tmp_path):
    first = run(branches.Spoils, tmp_path / "forth", marked(tmp_path / "mark"))
    assert built(tmp_path / "mark") == {"5": 1, "6": 1, "7": 1}, "nor is it built anew"
    run(branches.Spoils, tmp_path / "back", marked(tmp_path / "mark")[::-1])
    assert outcomes(tmp_path / "forth") == outcomes(tmp_path / "back")
    trunks = first.values("trunk")
    assert all(one - zero == pytest.approx(1.0) for zero, one in trunks)


def test_what_cannot_be_copied_is_built_for_each_trial_and_said(tmp_path):
    with pytest.warns(RuntimeWarning, match="cannot be copied .*lock.* called anew for each trial"):
        results = run(branches.Uncopied, tmp_path / "out", marked(tmp_path / "mark"))
    assert not results.failures
    assert built(tmp_path / "mark") == {"5": 6, "6": 6, "7": 6}


def test_run_may_be_a_generator_and_take_all_that_is_not_shared(tmp_path):
    points = [{"depth": 5, "head": 2, "width": 8, "act": 1}]
    results = run(branches.Yields, tmp_path, points)
    assert results.values("step")[0].tolist() == [4, 4]
    assert results.values("others")[0].tolist() == [2, 2]
    one, other = results.values("trunk")[0]
    assert one == other, "each trial begins with what setup built"


def test_setup_may_share_nothing(tmp_path):
    results = run(branches.Nothing, tmp_path, [{"x": 2}, {"x": 3}])
    assert [values.tolist() for values in results.values("value")] == [[2, 2], [3, 3]]
    assert "all trials of a worker share its setup" in results.notes[0]


def test_a_setup_that_raises_fails_its_trials(tmp_path):
    results = run(branches.FailsInSetup, tmp_path, POINTS[:1])
    assert [one.message for one in results.failures] == ["ValueError: no trunk of 5"] * 2


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (branches.NoRun, "a class without a method run"),
        ("branches:NoRun", "a class without a method run"),
        (
            branches.SharesAll,
            r"parameters without names \(\*\*\): name those that its trials share",
        ),
        (branches.SharesTrial, "setup has the parameter 'trial'"),
        (branches.Static, "run is a staticmethod: write it as a method"),
    ],
)
def test_a_class_that_cannot_be_swept_is_refused_in_words(tmp_path, objective, said):
    with pytest.raises(UsageError, match=said):
        run(objective, tmp_path)


def test_a_class_that_needs_arguments_fails_with_pythons_words(tmp_path):
    results = run(branches.NeedsArguments, tmp_path, POINTS[:1])
    assert "missing 1 required positional argument: 'size'" in results.failures[0].message


def test_a_root_is_the_same_by_whatever_name_its_module_is_imported():
    takes = Takes(("kind",), (), more=False, trial=False, shared=("kind",))
    keys = {
        shared_key(takes, ObjectiveRef(ModuleRef("", module.__name__), "Heads"), {"kind": kind})
        for module in (branches, importlib.import_module("tests.branches"))
        for kind in (module.Heads, module.Spoils)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("given", [3, [{"head": 1}]])
def test_branches_by_number_or_list_are_refused_with_what_to_write(tmp_path, given):
    with pytest.raises(UsageError, match=r"branches=.*write them as points, Domain\(width="):
        run(branches.Heads, tmp_path, branches=given)


# -- the same bits, however it is run --------------------------------------------------------------


def test_two_cores_and_this_process_give_the_same_bits_in_any_order(tmp_path):
    points, mark = marked(tmp_path / "mark"), tmp_path / "mark"
    run(branches.Heads, tmp_path / "here", points)
    mark.unlink()
    run("branches:Heads", tmp_path / "two", points, backend="local", total_cores=2)
    # Which worker helps which depends on how long trials take.
    assert max(built(mark).values()) <= 2, "each once by either worker"
    random.seed(1)
    run(f"{branches.__file__}:Heads", tmp_path / "back", points[::-1])
    here = outcomes(tmp_path / "here")
    assert len(here) == 18
    assert here == outcomes(tmp_path / "two") == outcomes(tmp_path / "back")


def test_killed_on_one_core_and_gone_on_with_on_two_the_bits_are_the_same(tmp_path):
    folder = tmp_path / "out"
    run(branches.Dies, tmp_path / "quiet")
    call = (
        "import os, sweeper, branches\n"
        "os.environ['BRANCHES_DRIVER'] = str(os.getpid())\n"
        f"sweeper.sweep('branches:Dies', branches.points(), trials=2, folder={str(folder)!r}, "
        "progress=False, total_cores=1)"
    )
    assert python("-c", call).wait() == -signal.SIGKILL
    assert 0 < len(outcomes(folder)) < 18, "it was killed in the middle"
    run(branches.Dies, folder, backend="local", total_cores=2)
    check_nothing_was_repeated(folder)
    assert outcomes(folder) == outcomes(tmp_path / "quiet")


# -- the scheduler ---------------------------------------------------------------------------------


def shared(point, root, trials=2, expected=None):
    numbers = tuple(range(trials))
    return Work(name(point), point, "trial", "trial", numbers, expected=expected, root=root)


def finished(job, slot):
    ended = [Outcome(job.point, job.stage, number, 0.0, 1.0) for number in job.numbers]
    return [Result(slot, one) for one in ended]


def run_all(scheduler):
    """The roots of the jobs of each slot in order, where all jobs take as long."""
    ran = {}
    while starts := scheduler.starts():
        for start in starts:
            ran.setdefault(start.slot, []).append(start.job.root)
        for start in starts:
            scheduler.react(finished(start.job, start.slot), 0.0)
    return ran


def changes(roots):
    return 1 + sum(one != other for one, other in itertools.pairwise(roots))


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
def test_points_of_a_root_run_one_after_another_on_the_same_worker(cores):
    scheduler = Scheduler(cores)
    scheduler.add([shared(point, f"root {point % 6}") for point in range(24)])
    ran = run_all(scheduler)
    assert sum(map(len, ran.values())) == 48
    assert max(map(len, ran.values())) == -(-48 // cores), "no core was idle"
    assert sum(map(changes, ran.values())) <= 6 + cores - 1


def test_work_that_takes_twice_as_long_goes_first():
    scheduler = Scheduler(1)
    scheduler.add([shared(0, "a", expected=1.0), shared(1, "b", 1, expected=2.1)])
    assert run_all(scheduler) == {0: ["b", "a", "a"]}
    scheduler.add([shared(0, "a", 2, expected=1.0), shared(1, "b", 1, expected=1.9)])
    assert run_all(scheduler) == {0: ["a", "a", "b"]}


def test_an_idle_worker_that_holds_the_root_gets_the_job():
    scheduler = Scheduler(2)
    scheduler.add([shared(0, "a", 1), shared(1, "b", 1)])
    assert run_all(scheduler) == {0: ["a"], 1: ["b"]}
    scheduler.add([shared(2, "b", 1)])
    assert run_all(scheduler) == {1: ["b"]}


def test_a_worker_that_died_holds_nothing():
    scheduler = Scheduler(2)
    scheduler.add([shared(0, "a", 1), shared(1, "b", 1)])
    first, second = scheduler.starts()
    scheduler.react(finished(first.job, 0) + finished(second.job, 1), 0.0)
    scheduler.react([Died(1, Failure("crash", "gone"))], 0.0)
    scheduler.add([shared(2, "b", 1)])
    assert run_all(scheduler) == {0: ["b"]}


def test_a_lost_job_is_tried_again_with_its_root():
    job = Job(1, name(0), "trial", "trial", (0,), root="a")
    assert job.__reduce__()[1][-1] == "a"
