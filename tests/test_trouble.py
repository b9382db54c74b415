"""Programs in trouble, a case a row: what comes of it, and that the next trial does not see it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest

import programs_trouble
import sweeper
from sweeper.results import SweepResult
from sweeper.run import scheduler
from sweeper.store.database.store import Store
from sweeping import python
from test_program import Asks, run

OUTCOMES = {
    # -- what it gives
    "nothing": "gave None (a NoneType), so nothing that could be compared: expected a number",
    "text": "gave '0.9' (a str): expected a number",
    "tensor": 0.5,
    "several numbers": "(a Tensor), which holds 2 numbers, not one: expected a number",
    "array": "(a ndarray), which holds 3 numbers, not one",
    "empty dict": "gave an empty dict: name at least one number",
    "nan": np.nan,
    "text as a metric": np.nan,
    "another set": 1.0,
    "large": 1.0,
    "objects": "artifacts: 'mine' is <object",
    # -- what it does to its process
    "forks": 0.0,
    "changes folder": 1.0,
    "redirects": 1.0,
    "closes output": 1.0,
    "closes all": "the worker closed its connection|ended with exit code",
    "prints": 1.0,
    "leaves children": 1.0,
    "affinity": 1.0,
    "threads": 8.0,
    "killed": "the worker was ended by signal 9 (SIGKILL)",
    "exits": "SystemExit: 3",
    "interrupts": "KeyboardInterrupt",
}
"""By case: the metric `value` of the trial that makes trouble, or what its failure says."""


class OneByOne(sweeper.ParamSelector):
    """Both trials of a point before the next point: so each looks around where the other was."""

    adaptive = True
    look_ahead = 1

    def __init__(self, points):
        self.points = list(points)

    def has_more_trials(self):
        return bool(self.points)

    def get_next_trials(self):
        return self.points.pop(0), 2

    def on_results(self, result):
        pass


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> SweepResult:
    """Each case once, and after it, on the same core, a trial that looks around."""
    os.environ["PROGRAMS_CWD"] = str(Path.cwd())
    points = [{"case": case} for case in OUTCOMES]
    return sweeper.sweep(
        programs_trouble.objective,
        OneByOne(points),
        folder=tmp_path_factory.mktemp("trouble"),
        progress=False,
        total_cores=1,
        max_tries=1,
    )


def test_every_case_has_its_row():
    assert set(OUTCOMES) == set(programs_trouble.CASES)


@pytest.mark.parametrize("case", OUTCOMES)
def test_each_has_its_outcome_and_harms_no_other(swept, case):
    place = list(OUTCOMES).index(case)
    assert swept[place].params == {"case": case}
    failures = [one.message for one in swept.failures if one.params == {"case": case}]
    expected = OUTCOMES[case]
    numbers = swept.trial_numbers[place].tolist()
    measured = dict(zip(numbers, swept.values("value")[place], strict=True))
    if isinstance(expected, str):
        assert len(failures) == 1
        assert any(text in failures[0] for text in expected.split("|")), failures
        assert set(measured) == {1}
    else:
        assert failures == []
        assert np.array_equal(measured[0], expected, equal_nan=True)
    last = {name: values[-1] for name, values in swept[place].metrics.items()}
    assert measured[1] > 1, "the seed of the trial that looked around"
    assert {name: last[name] for name in ("folder", "cores", "output", "printed")} == {
        "folder": 1.0,
        "cores": 1.0,
        "output": 1.0,
        "printed": 1.0,
    }


def test_what_is_missing_or_no_number_is_said_once(swept):
    said = [note for note in swept.notes if note.startswith("value is")]
    trials = sum(map(len, swept.trial_numbers))
    assert said == [f"value is missing or not a number in 2 of {trials} trials"]
    assert sum("more is" in note for note in swept.notes) == 1


def test_artifacts_of_100_mb_are_in_a_file_and_nowhere_else(swept):
    place = list(OUTCOMES).index("large")
    ((key, found),) = swept.artifacts().items()
    assert key == (place, 0)
    assert found["large"].nbytes == 100 << 20
    assert found["small"].tolist() == [0, 1, 2]
    assert (found.path.parents[4] / "sweep.db").stat().st_size < 1 << 20
    with found.path.open("ab") as file:
        file.write(b"!")
    with pytest.raises(sweeper.FolderError, match="is not the file that its trial wrote"):
        list(swept.artifacts()[key])


def test_what_a_trial_left_running_has_ended_with_its_worker(swept):
    place = list(OUTCOMES).index("leaves children")
    folder = swept.artifacts()[list(OUTCOMES).index("large"), 0].path.parents[4]
    pid = int((folder / "points" / str(place) / "trials" / "0" / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# -- generators ------------------------------------------------------------------------------------

GENERATORS = {
    ("endless", 700): 700.0,
    ("ends at once", None): "has yielded nothing",
    ("first raises", None): "RuntimeError: before anything",
    ("500th raises", 600): "RuntimeError: no 500th",
    ("500th raises", 499): 499.0,
    ("text", 9): "gave 'text' (a str): expected a number",
}


@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_generators_in_trouble(tmp_path, on_error):
    asks = [sweeper.Ask({"case": case}, 1, budget) for case, budget in GENERATORS]
    results = sweeper.sweep(
        programs_trouble.generates,
        Asks(asks),
        folder=tmp_path,
        progress=False,
        backend="inline",
        on_error=on_error,
    )
    expected = dict(GENERATORS)
    noted = [note for note in results.notes if "raised an exception" in note]
    if on_error == "record":
        expected["500th raises", 600] = 499.0
        said = r"^1 trial .*budget 600 of case=500th raises: RuntimeError: no 500th"
        assert re.search(said, noted[0])
    else:
        assert not noted
    for place, outcome in enumerate(expected.values()):
        failed = [one.message for one in results.failures if one.key == results.key(place)]
        values = results.values("count")[place].tolist()
        if isinstance(outcome, str):
            assert len(failed) == 1
            assert outcome in failed[0]
            assert values == []
        else:
            assert (failed, values) == ([], [outcome])


@pytest.mark.parametrize("objective", [programs_trouble.hangs, programs_trouble.generates])
def test_what_hangs_and_what_never_ends_are_ended_after_their_time(tmp_path, objective):
    results = sweeper.sweep(
        objective,
        [{"case": "endless"}],
        trials=1,
        folder=tmp_path,
        progress=False,
        trial_timeout=0.2,
    )
    assert "exceeded its time (trial_timeout=0.2)" in results.failures[0].message


def test_trials_of_one_job_see_nothing_of_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "SHORT_SECONDS", 60.0)  # on a busy machine, too
    monkeypatch.setattr(scheduler, "HANDED_SECONDS", 600.0)
    points = [{"x": 1}]
    results = run(
        programs_trouble.leaves_traces, tmp_path, points, 60, backend="local", total_cores=1
    )
    assert results.values("value")[0].tolist() == [1.0] * 60
    printed = [path.read_text() for path in tmp_path.glob("points/0/trials/*/stdout.txt")]
    assert printed == ["printed\n"] * 60
    with Store.read(tmp_path / "sweep.db") as store:
        query = "SELECT max(json_array_length(value, '$.numbers')) FROM events WHERE kind = ?"
        assert store.connection.execute(query, ("started",)).fetchone()[0] > 1


def test_a_trial_in_this_process_changes_no_folder_for_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = run(programs_trouble.objective, "out", [{"case": "changes folder"}], 1)
    assert not results.failures
    assert Path.cwd() == tmp_path
    assert (tmp_path / "out" / "points" / "0" / "results.npz").is_file()


def test_a_sweep_leaves_the_random_generator_alone(tmp_path):
    """Also where it is the first in its process, and imports rich."""
    script = (
        "import random, sweeper, programs\n"
        "random.seed(1)\n"
        "expected = random.getstate()\n"
        "sweeper.sweep(programs.drawn, [{'x': 1}], trials=1, progress=False,\n"
        f"              folder={str(tmp_path)!r}, backend='inline')\n"
        "print(random.getstate() == expected)"
    )
    assert python("-c", script, stdout=subprocess.PIPE).communicate()[0] == "True\n"
