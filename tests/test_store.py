"""The store: what goes in comes out, all or nothing; whose a folder is; the views of it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import sweeper
from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.errors import DiskError, FolderError
from sweeper.records import (
    CHECK,
    METRICS,
    TRIAL,
    Asked,
    Failure,
    Finished,
    GaveUp,
    Interrupted,
    Job,
    Lost,
    Outcome,
    Planned,
    Recorded,
    RecordedTrials,
    Started,
    Step,
    Tick,
    Told,
    TunedSettings,
    give_up,
)
from sweeper.settings import (
    _FIELDS,
    HyperparameterSettings,
    Limits,
    SweepSettings,
    get_settings,
)
from sweeper.signature import make_point
from sweeper.store.database.schema import SCHEMA_VERSION
from sweeper.store.database.store import Store
from sweeper.store.identity import bind, identify, settings_begun
from sweeper.store.paths import CURVE_FILES, Paths, move_to_history
from sweeper.store.results.collate import collate, csv_text
from sweeper.store.results.load import load, read_results

MOST_TRIES = Limits().max_tries
SELECTOR = "tests:Toy"
CRASH = Failure("crash", "the worker was killed by signal 9", "see logs/worker-0.log")
BOOM = Failure(
    "exception", "ValueError: böse \N{PILE OF POO}", "Traceback (most recent call last)…"
)


# -- small helpers --------------------------------------------------------------------------------


class Activation:
    """Stands for a class among the parameters."""


def point_of(params):
    return make_point(params, "toy", SweepSettings(), 0)


ONE, TWO, THREE = point_of((1, Activation)), point_of({"b": [1, 2], "a": "x"}), point_of((3,))
FOUND = TunedSettings(0.1, 0.4, 48)
TUNED = Step(
    TRIAL, payload={"steps": 20, "cycle_epochs": 4, "cycles": 3, "lr_start": 0.1}, found=FOUND
)
LR_STEP = Step("lr_range", 2, {"steps": 100, "lr_end": 1e-6, "spacing": "linear"})


def curves(number):
    values = {name: np.arange(3.0) + number for name in METRICS}
    return pack_arrays({"step": np.array([1, 5, 9]), **values})


def trial(point, number, failure=None, **changes):
    if failure is not None:
        return Outcome(point.signature, TRIAL, number, 5.0, 6.5, failure=failure)
    metrics = dict(zip(METRICS, (0.5, 1.5, 0.25, 2.5), strict=True))
    metrics = {name: value + number for name, value in metrics.items()} | changes
    return Outcome(point.signature, TRIAL, number, 5.0, 6.5, metrics, curves(number))


def probe(point, number, stage="lr_range"):
    arrays = pack_arrays({"perf": np.linspace(0, 1, 5)})
    return Outcome(point.signature, stage, number, 1.0, 2.0, {}, arrays)


def job(point, stage, numbers):
    kind = "trial" if stage == TRIAL else "tuning"
    return Job(7, point.signature, kind, stage, numbers, {"params": point.encoded})


def finished(*outcomes):
    return [Finished(outcome.ended, outcome) for outcome in outcomes]


def fill(store):
    """A small sweep: one point done, one with a failed trial and a doomed one, one that failed."""
    arrays = pack_arrays({"lr": np.linspace(0, 1, 4), "raw": np.ones((2, 4))})
    store.begin(
        [Asked(ONE, 2, 0), Planned(ONE.signature, LR_STEP), Asked(TWO, 4, 1), Asked(THREE, 1, 2)],
        SELECTOR,
        keep_log=False,
    )
    store.append([Planned(TWO.signature, TUNED), Planned(THREE.signature, LR_STEP)])
    store.append(finished(probe(ONE, 0), probe(ONE, 1)))
    store.append([Planned(ONE.signature, TUNED, "lr_range", {"verdict": "found"}, arrays)])
    store.append(finished(trial(ONE, 1, loss_val=math.nan), trial(ONE, 0)))
    store.append(finished(trial(TWO, 3), trial(TWO, 0), trial(TWO, 1, BOOM)))
    store.append([Lost(8.0, job(TWO, TRIAL, (2,)), (2,), CRASH)] * MOST_TRIES)
    store.append([GaveUp(give_up(TWO.signature, TRIAL, 2, CRASH, MOST_TRIES))])
    store.append(finished(dataclasses.replace(probe(THREE, 0), arrays=b"", failure=BOOM)))
    error = f"lr_range 0: {BOOM.message}"
    store.append([Planned(THREE.signature, Step("lr_range", error=error), "lr_range")])


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "out" / "toy {0}")


@pytest.fixture
def store(paths):
    with Store.open(paths.database) as opened:
        yield opened


def everything(store):
    """Every row of every table."""
    tables = ("meta", "points", "outcomes", "decisions", "log", "events")
    return {name: store.connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


# -- records --------------------------------------------------------------------------------------


def test_what_is_appended_is_recorded(store, paths):
    step = Step("lr_range.1", 3, {"steps": 10, "low": 1e-300, "sizes": [1, 2], "none": None})
    asked = [Asked(ONE, 2, 0), Asked(None), Asked(TWO, 0, 1), Asked(ONE, 3, 0)]
    first = [asked[0], Planned(ONE.signature, LR_STEP), *asked[1:]]
    store.begin(first, SELECTOR, keep_log=True)
    told = [
        Told(ONE.signature, "hparams"),
        Told(ONE.signature, "trials", (0, 2)),
        Told(ONE.signature, "failed", (1,)),
        Told(TWO.signature, "failed"),
    ]
    outcomes = [
        probe(TWO, 1, "lr_range.1"),
        trial(ONE, 0, loss_train=math.nan, loss_val=math.inf, perf_val=0.1 + 0.2),
        trial(ONE, 1, BOOM),
        probe(TWO, 0, "lr_range"),
    ]
    store.append(
        [
            Started(3.5, job(TWO, "lr_range.1", (0, 1, 2)), 0),
            Lost(4.5, job(TWO, "lr_range.1", (0, 1, 2)), (0, 2), CRASH),
            Tick(5.0),
            *finished(*outcomes),
            Interrupted(9.0, 2),
        ]
    )
    store.append([Planned(TWO.signature, step), Planned(ONE.signature, TUNED, "lr_range"), *told])
    store.close()
    with Store.read(paths.database) as again:
        recorded = again.recorded(SELECTOR)
        assert recorded.steps == {ONE.signature: TUNED, TWO.signature: step}
        assert recorded.ids == {ONE.signature: 0, TWO.signature: 1}
        assert recorded.tries == {(TWO.signature, "lr_range.1", 0): (CRASH,)}
        assert [(entry.point and entry.point.signature, entry.trials, entry.id)
                for entry in recorded.log if isinstance(entry, Asked)] == [
            (entry.point and entry.point.signature, entry.trials, entry.id) for entry in asked
        ]  # fmt: skip
        assert list(recorded.log[4:]) == told
        assert recorded.log[0].point.encoded == ONE.encoded
        assert recorded.log[0].point.params == (1, f"{__name__}:Activation")
        assert list(recorded.log[2].point.params) == ["b", "a"]
        # Of trials what they came to, and the probes of the stage at which tuning stands.
        ended = {0: tuple(outcomes[1].metrics[name] for name in METRICS), 1: BOOM}
        assert repr(recorded.trials) == repr({ONE.signature: RecordedTrials(ended, 1.5)})
        assert recorded.probes == {TWO.signature: (outcomes[0],)}
        stored = list(again.outcomes())
        assert repr(stored) == repr([outcomes[1], outcomes[2], outcomes[3], outcomes[0]])
        assert again.recorded("another").log == ()
    assert Recorded() == Store.open(Path(":memory:")).recorded(SELECTOR)


def test_events_are_kept_with_what_they_were_about(store):
    store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
    store.add_event(1.0, "opened", {"host": "here"})
    store.append([Started(3.5, job(ONE, TRIAL, (0, 1)), 4), Interrupted(9.0, 15)])
    query = "SELECT time, kind, point, stage, value FROM events ORDER BY seq"
    rows = [(*row[:4], json.loads(row[4])) for row in store.connection.execute(query)]
    assert rows == [
        (1.0, "opened", None, None, {"host": "here"}),
        (3.5, "started", 0, TRIAL, {"numbers": [0, 1], "slot": 4, "job": 7}),
        (9.0, "interrupted", None, None, {"signal": 15}),
    ]


def test_a_tick_alone_writes_nothing(store):
    before = store.connection.total_changes
    store.append([Tick(1.0)])
    store.append([])
    assert store.connection.total_changes == before


def test_a_log_goes_on_or_is_begun_anew(store):
    store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
    store.begin([Asked(TWO, 1, 1)], "other", keep_log=False)
    store.begin([Asked(TWO, 2, 1)], SELECTOR, keep_log=True)
    assert [entry.trials for entry in store.log(SELECTOR)] == [1, 2]
    store.begin([Asked(THREE, 5, 2)], SELECTOR, keep_log=False)
    assert [entry.trials for entry in store.log(SELECTOR)] == [5]
    assert [entry.trials for entry in store.log("other")] == [1]
    assert store.meta["selector"] == SELECTOR


def test_of_a_log_begun_anew_what_it_says_already_stays_and_what_is_damaged_does_not(store):
    def rows():
        return store.connection.execute("SELECT seq, value FROM log ORDER BY seq").fetchall()

    asked = [Asked(ONE, 1, 0), Asked(TWO, 2, 1), Asked(THREE, 3, 2)]
    store.begin(asked, SELECTOR, keep_log=False)
    store.begin([Asked(ONE, 7, 0)], "other", keep_log=False)
    store.begin([*asked, Told(ONE.signature, "hparams")], SELECTOR, keep_log=False)
    assert rows() == [(1, "1"), (2, "2"), (3, "3"), (4, "7"), (5, "[]")]
    store.connection.execute("UPDATE log SET value = 8 WHERE seq = 3")
    store.begin(asked, SELECTOR, keep_log=False)
    assert rows() == [(1, "1"), (2, "2"), (4, "7"), (5, "3")]
    store.begin(asked[:1], SELECTOR, keep_log=False)
    assert rows() == [(1, "1"), (4, "7")]


def test_meta_is_plain_data(store):
    values = {"a": [1, 2.5, None, "ü"], "b": {"c": True}}
    store.set_meta(values)
    store.set_meta({"a": 1})
    assert store.meta == {"a": 1, "b": {"c": True}}


def test_commits_are_synced(store):
    pragma = {
        name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2}


# -- all or nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        Finished(1.0, Outcome(ONE.signature, TRIAL, 0, 0.0, 1.0, {"loss": object()})),
        Finished(1.0, Outcome("nobody", TRIAL, 0, 0.0, 1.0)),
        *finished(trial(ONE, 5)),  # for the second time
        Told("nobody", "hparams"),
    ],
)
def test_an_exception_in_the_middle_leaves_nothing(store, paths, bad):
    store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
    store.append(finished(trial(ONE, 5)))
    before = everything(store)
    good = [*finished(trial(ONE, 0)), Asked(TWO, 1, 1), Planned(TWO.signature, LR_STEP)]
    with pytest.raises((TypeError, KeyError, sqlite3.IntegrityError)):
        store.append([*good, bad])
    with pytest.raises((TypeError, KeyError, sqlite3.IntegrityError)):
        store.begin([*good[1:], bad], SELECTOR, keep_log=False)
    assert everything(store) == before
    # What was rolled back is forgotten here too: the point is entered when it comes again.
    assert store.signatures() == {0: ONE.signature}
    store.append(good)
    with Store.read(paths.database) as reader:
        assert reader.signatures() == {0: ONE.signature, 1: TWO.signature}
        assert reader.recorded(SELECTOR).steps == {TWO.signature: LR_STEP}


def test_a_commit_that_fails_leaves_nothing_and_says_why(store):
    store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
    before = everything(store)
    # A constraint that is looked at when the transaction ends, as a full disk is.
    store.connection.execute("PRAGMA foreign_keys = ON")
    store.connection.execute(
        "CREATE TEMP TABLE later (x REFERENCES gone (y) DEFERRABLE INITIALLY DEFERRED)"
    )
    store.connection.execute("CREATE TEMP TABLE gone (y PRIMARY KEY)")
    with (
        pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"),
        store.transaction(),
        contextlib.closing(store.connection.cursor()) as cursor,
    ):
        cursor.execute("INSERT INTO later SELECT 1 FROM meta")
    assert everything(store) == before
    with store.snapshot():  # no transaction is left open
        assert store.meta == {"selector": SELECTOR, "compare_by": []}


def test_a_killed_writer_leaves_whole_transactions(paths):
    # A writer that is gone between two commits and in the midst of a third.
    code = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(sweeper.__file__).parents[1])]!r}
from test_store import *
store = Store.open(Path({str(paths.database)!r}))
store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
store.append(finished(trial(ONE, 0)))
with store.transaction():
    store.insert([Finished(1.0, trial(ONE, 1))])
    os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -9
    with Store.read(paths.database) as reader:
        assert [outcome.number for outcome in reader.outcomes()] == [0]


# -- readers --------------------------------------------------------------------------------------


def test_a_reader_sees_one_state_while_the_writer_goes_on(store, paths):
    fill(store)
    with Store.read(paths.database) as reader:
        with reader.snapshot():
            before = everything(reader), reader.recorded(SELECTOR), read_results(reader)
            late = point_of(("late",))
            store.append(
                [Asked(late, 1, 3), *finished(trial(late, 0)), Told(late.signature, "failed")]
            )
            store.forget_failures()
            after = everything(reader), reader.recorded(SELECTOR), read_results(reader)
            assert repr(after) == repr(before)
        with reader.snapshot():
            assert [point.params for point in read_results(reader)][-1] == ("late",)


def test_a_reader_that_was_open_before_a_point_came_reads_it(store, paths):
    store.begin([], SELECTOR, keep_log=True)
    with Store.read(paths.database) as reader:
        fill(store)
        with reader.snapshot():
            assert len(read_results(reader)) == 3
            assert [o.failure.message for o in reader.outcomes() if o.number == 2] == [
                f"{CRASH.message}, 3 times"
            ]


def test_neither_blocks_the_other(store, paths):
    fill(store)
    # What blocked would raise at once.
    store.connection.execute("PRAGMA busy_timeout = 0")
    with Store.read(paths.database) as reader:
        reader.connection.execute("PRAGMA busy_timeout = 0")
        with reader.snapshot():
            assert len(list(reader.outcomes())) == 9
            store.append(finished(trial(ONE, 7)))
        with store.transaction():
            store.insert([Finished(1.0, trial(ONE, 8))])
            with reader.snapshot():
                assert len(list(reader.outcomes())) == 10
    assert len(list(store.outcomes())) == 11


def test_a_reader_writes_nothing(store, paths):
    fill(store)
    with Store.read(paths.database) as reader, pytest.raises(DiskError, match="readonly"):
        reader.set_meta({"a": 1})


def test_it_is_loaded_while_it_is_written(store, paths):
    fill(store)
    stop, seen, errors = threading.Event(), [], []

    def read():
        while not stop.is_set() or not seen:
            try:
                results = load(paths.folder)
            except Exception as error:  # noqa: BLE001 - told to the main thread
                errors.append(error)
                return
            seen.append([len(numbers) for numbers in results.trial_numbers])

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(30):
        point = point_of((f"new {number}",))
        batch = [Asked(point, 2, 3 + number), *finished(trial(point, 0), trial(point, 1))]
        store.append(batch)
    stop.set()
    reader.join()
    assert errors == []
    assert all(set(counts[3:]) <= {2} for counts in seen), "half a transaction"
    assert len(load(paths.folder)) == 33


# -- what is no folder of ours --------------------------------------------------------------------


def test_a_folder_without_a_sweep_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"holds no sweep: there is no sweep\.db"):
        load(tmp_path)
    with pytest.raises(FolderError, match="holds no sweep"):
        load(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_database_in_which_no_sweep_has_begun_is_said_to_hold_none(paths):
    Store.open(paths.database).close()
    with pytest.raises(FolderError, match="holds no sweep: one was refused there before it had"):
        load(paths.folder)


@pytest.mark.parametrize("opened", [Store.open, Store.read])
def test_a_file_that_is_no_database_is_named(tmp_path, opened):
    path = tmp_path / "sweep.db"
    path.write_bytes(b"something else entirely, " * 100)
    with pytest.raises(FolderError, match=r"sweep\.db is damaged, or no sweep wrote it: file is"):
        opened(path)
    assert path.read_bytes().startswith(b"something")


@pytest.mark.parametrize("opened", [Store.open, Store.read])
def test_another_format_is_refused_and_left_alone(store, paths, opened):
    store.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(FolderError, match=r"has format 3, and this version .* formats 1 to 2"):
        opened(paths.database)


# -- whose a folder is ----------------------------------------------------------------------------

FAST = get_settings("ranges-fast")
GIVEN = {
    "problem": "toy",
    "settings": SweepSettings(FAST),
    "seed": 0,
    "curve_samples": 40,
    "data_sha256": "dd",
}


def bound(store, paths, **changes):
    given = {**GIVEN, **changes}
    told = [given[name] for name in ("settings", "seed", "curve_samples")]
    identity = identify({"problem": given["problem"]}, *told)
    sums = given["data_sha256"]
    return bind(store, paths, identity, data_sha256=(sums,) if isinstance(sums, str) else sums)


def test_a_folder_is_bound_and_goes_on(store, paths):
    bound(store, paths)
    fill(store)
    before = everything(store)
    bound(store, paths)
    assert everything(store) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed is 0 in the folder and 1 here"),
        ({"problem": "digits"}, "problem is 'toy' in the folder and 'digits' here"),
        ({"curve_samples": 0}, "curve_samples is 40 in the folder and 0 here"),
        ({"settings": SweepSettings(FAST, cores=8)}, "cores is 4 in the folder and 8 here"),
        ({"settings": SweepSettings(FAST, 4, 2)}, "cores_per_trial is 1 in the folder and 2 here"),
        (
            {"settings": SweepSettings(dataclasses.replace(FAST, cycles=1, batch_pts=0))},
            "batch_pts is 3 in the folder and 0 here; cycles is 4 in the folder and 1 here",
        ),
        (
            # A whole number counts samples, a float epochs.
            {"settings": SweepSettings(HyperparameterSettings(method="ranges", lr_sweep_len=6))},
            "lr_sweep_len is 6.0 in the folder and 6 here",
        ),
        (
            {"settings": SweepSettings(dataclasses.replace(FAST, cycle_epochs=2)), "seed": 3},
            "seed is 0 in the folder and 3 here; cycle_epochs is None in the folder and 2 here",
        ),
        (
            {"settings": SweepSettings(HyperparameterSettings(tunings=5))},
            (
                "method is 'ranges' in the folder and 'ladder' here; "
                "tunings is 3 in the folder and 5 here"
            ),
        ),
        (
            {"settings": SweepSettings(get_settings("fast"))},
            "hparams is 'ranges-fast' in the folder and 'fast' here",
        ),
        ({"data_sha256": "ee"}, "holds results of other data"),
        ({"data_sha256": "ee", "seed": 1}, "seed is 0 in the folder and 1 here"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_another_sweep_is_refused_with_what_differs(store, paths, change, said):
    bound(store, paths)
    fill(store)
    before = everything(store)
    with pytest.raises(FolderError, match=said) as refused:
        bound(store, paths, **change)
    assert str(paths.folder) in str(refused.value)
    assert "resume=False" in str(refused.value)
    assert everything(store) == before


LATER = _FIELDS["ladder"] | {"method", "epochs"}
"""Fields that there were none of before there were two methods."""


@pytest.mark.parametrize("name", ["fastest", "fast", "slow", "slowest"])
def test_a_folder_of_before_there_were_two_methods_goes_on_with_what_a_name_meant(
    store, paths, name
):
    for length in ({}, {"cycles": 2}, {"cycle_epochs": 3}):
        asked, before = (
            SweepSettings(dataclasses.replace(get_settings(preset), **length), cores=2)
            for preset in (name, f"ranges-{name}")
        )
        identity = identify({"problem": "toy"}, before, 0, 40)
        known = dict(identity["settings"])
        for field in LATER:
            known.pop(field)
        store.set_meta({"identity": {**identity, "settings": known}})
        if not length:
            assert settings_begun(store, asked) == asked, "nothing of it is worth keeping"
            fill(store)
        assert settings_begun(store, asked) == before
        assert settings_begun(store, before) == before
        bind(store, paths, identity, data_sha256=[store.meta.get("data_sha256")])
    # Settings that are no preset's are what they say.
    own = SweepSettings(HyperparameterSettings(tunings=9))
    assert settings_begun(store, own) == own


CHANGES = [{}, {"tunings": 5, "epochs": 40}, {"batch_size": 32}, {"schedule": "cosine"}]


@pytest.mark.parametrize("name", ["fast", "slow", "slowest"])
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_folder_of_before_there_was_a_full_length_round_goes_on_without(
    store, paths, name, changes
):
    asked = SweepSettings(dataclasses.replace(get_settings(name), **changes), cores=2)
    without = dataclasses.replace(asked.hparams, full_length_inits=0)
    before = dataclasses.replace(asked, hparams=without)
    identity = identify({"problem": "toy"}, before, 0, 40)
    known = dict(identity["settings"])
    del known["full_length_inits"]
    store.set_meta({"identity": {**identity, "settings": known}})
    assert settings_begun(store, asked) == asked, "nothing of it is worth keeping"
    fill(store)
    assert settings_begun(store, asked) == before
    # One of this release says what it has.
    store.set_meta({"identity": identity})
    assert settings_begun(store, asked) == asked


def test_a_folder_that_knows_its_method_goes_on_with_it(store, paths):
    fast = SweepSettings(get_settings("fast"))
    assert settings_begun(store, fast) == fast
    bound(store, paths)
    fill(store)
    assert settings_begun(store, fast) == fast


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"data_sha256": "ee"},
        {"settings": SweepSettings(HyperparameterSettings(method="ranges", lr_sweep_len=6))},
    ],
    ids="-".join,
)
def test_a_folder_without_results_is_begun_anew(store, paths, change):
    bound(store, paths)
    store.begin([Asked(ONE, 1, 0), Planned(ONE.signature, LR_STEP)], SELECTOR, keep_log=True)
    store.append(
        [
            Lost(2.0, job(ONE, "lr_range", (0,)), (0,), CRASH),
            *finished(probe(ONE, 0, CHECK)),
        ]
    )
    if change.keys() <= {"data_sha256"}:
        # A failure is no result, but it is this sweep's: no other one may wipe it.
        store.append(finished(dataclasses.replace(probe(ONE, 1), failure=BOOM)))
        with pytest.raises(FolderError, match="seed is 0 in the folder and 9 here"):
            bound(store, paths, seed=9)
    bound(store, paths, **change)
    assert store.recorded(SELECTOR) == Recorded()
    store.begin([Asked(TWO, 1, 0)], SELECTOR, keep_log=True)
    store.append(finished(trial(TWO, 0)))
    bound(store, paths, **change)
    with pytest.raises(FolderError):
        bound(store, paths)


def test_the_checksum_that_earlier_releases_had_of_the_same_data_is_followed_by_the_whole_one(
    store, paths
):
    bound(store, paths)
    fill(store)
    with pytest.raises(FolderError, match="other data"):
        bound(store, paths, data_sha256="ee")
    bound(store, paths, data_sha256=("ee", "dd"))
    bound(store, paths, data_sha256=("ee", "dd"))
    with pytest.raises(FolderError, match="other data"):
        bound(store, paths, data_sha256=("ff", "dd"))


def test_a_setting_that_an_old_folder_does_not_know_is_not_compared(store, paths):
    bound(store, paths)
    fill(store)
    identity = store.meta["identity"]
    del identity["settings"]["cycles"]
    store.set_meta({"identity": identity})
    bound(store, paths)


def test_a_failed_check_is_made_again(store, paths):
    bound(store, paths)
    fill(store)
    failed = dataclasses.replace(probe(ONE, 0, CHECK), failure=BOOM)
    store.append(finished(failed))
    bound(store, paths)
    store.append(finished(failed))  # there is room for its outcome
    with pytest.raises(FolderError):
        bound(store, paths, seed=1)
    assert failed in list(store.outcomes())


def test_forgotten_failures_are_tried_again_and_stay_in_the_events(store):
    fill(store)
    assert [failure.number for failure in read_results(store).failures] == [1, 2, None]
    store.forget_failures()
    recorded = store.recorded(SELECTOR)
    assert recorded.tries == {}
    assert THREE.signature not in recorded.steps, "it is tuned from the beginning"
    assert list(recorded.trials[TWO.signature].ended) == [0, 3]
    assert read_results(store).failures == ()
    lost = store.connection.execute("SELECT count(*) FROM events WHERE kind = 'lost'").fetchone()
    assert lost == (MOST_TRIES,)
    store.append([Lost(9.0, job(TWO, TRIAL, (2,)), (2,), CRASH)])
    assert store.recorded(SELECTOR).tries == {(TWO.signature, TRIAL, 2): (CRASH,)}


def test_decisions_become_durable_with_what_comes_next_and_asks_at_once(store):
    store.begin([Asked(ONE, 3, 0)], SELECTOR, keep_log=True)
    told = Told(ONE.signature, "trials", (0,))
    store.decide([told])
    assert told not in store.log(SELECTOR)
    store.append([Finished(1.0, trial(ONE, 1))])
    assert store.log(SELECTOR)[-1] == told
    again = Told(ONE.signature, "trials", (1,))
    store.decide([again])
    store.decide([Asked(TWO, 1, 1)])
    assert store.log(SELECTOR)[-2:] == (again, Asked(TWO, 1, 1))
    store.decide([Planned(TWO.signature, LR_STEP)])
    assert store.last_steps() == {}
    store.append(())
    assert store.last_steps() == {1: LR_STEP}


def test_many_outcomes_come_back_each_with_its_own(store):
    store.begin([Asked(ONE, 500, 0)], SELECTOR, keep_log=True)
    some = [trial(ONE, number) for number in range(250)]
    some[120] = dataclasses.replace(some[120], metrics={}, failure=BOOM)
    store.append([Finished(1.0, outcome) for outcome in some])
    assert list(store.outcomes()) == some


# -- history --------------------------------------------------------------------------------------


def test_earlier_contents_are_moved_aside_whole(store, paths):
    fill(store)
    expected = repr(list(read_results(store)))
    collate(store, paths)
    paths.logs.mkdir()
    (paths.logs / "worker-0.log").write_text("hello")
    paths.lock.write_text("me")
    store.close()
    moved = move_to_history(paths)
    assert moved.parent == paths.history
    assert sorted(path.name for path in paths.folder.iterdir()) == ["history", "lock"]
    assert repr(list(load(moved))) == expected
    assert (moved / "logs" / "worker-0.log").read_text() == "hello"
    assert (moved / "points" / "funcres.pt").is_file()
    assert move_to_history(paths) is None
    Store.open(paths.database).close()
    again = move_to_history(paths)
    assert again != moved
    assert len(list(paths.history.iterdir())) == 2


def test_what_was_not_yet_folded_in_travels_along(store, paths):
    fill(store)
    wal = paths.folder / "sweep.db-wal"
    assert wal.stat().st_size
    # As a driver leaves it that was killed: the database is not closed.
    moved = move_to_history(paths)
    assert not wal.exists()
    assert len(load(moved)) == 3


# -- results --------------------------------------------------------------------------------------


def test_results_are_those_of_the_last_selector_in_its_order(store):
    fill(store)
    results = read_results(store)
    assert [point.params for point in results] == [
        (1, f"{__name__}:Activation"),
        {"b": [1, 2], "a": "x"},
        (3,),
    ]
    one, two, three = results
    assert one[1:4] == two[1:4] == (0.1, 0.4, 48)
    assert (math.isnan(three.lr_min), math.isnan(three.lr_max), three.batch_size) == (True, True, 0)
    assert one.perf_train.tolist() == [0.5, 1.5]
    assert np.array_equal(one.loss_val, [2.5, math.nan], equal_nan=True)
    assert two.perf_val.tolist() == [0.25, 3.25]
    assert [list(numbers) for numbers in results.trial_numbers] == [[0, 1], [0, 3], []]
    assert all(column.dtype == np.float64 for point in results for column in point[4:])
    assert [(f.params, f.stage, f.number, f.message, f.detail) for f in results.failures] == [
        (two.params, TRIAL, 1, BOOM.message, BOOM.detail),
        (two.params, TRIAL, 2, f"{CRASH.message}, 3 times", CRASH.detail),
        ((3,), "lr_range", None, f"lr_range 0: {BOOM.message}", BOOM.detail),
    ]
    store.begin([Asked(TWO, 2, 1), Asked(ONE, 1, 0)], "other", keep_log=False)
    results = read_results(store)
    assert [len(point.perf_val) for point in results] == [1, 1]
    assert [failure.number for failure in results.failures] == [1]
    assert len(store.recorded("other").ids) == 3


# -- views ----------------------------------------------------------------------------------------


@pytest.fixture
def collated(store, paths):
    fill(store)
    (paths.trial(0, 1)).mkdir(parents=True)
    paths.model(0, 1).write_bytes(b"weights")
    return collate(store, paths)


def files_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_views_are_exactly_those_that_are_documented(collated, store, paths):
    assert set(files_in(paths.points)) == {
        "params_lookup.pt",
        "params.csv",
        "funcres.pt",
        "0/hparams/final.json",
        "0/hparams/misc.json",
        "0/hparams/lr_vs_perf.npz",
        "0/results.npz",
        "0/curves.npz",
        "0/trials/1/model.pt",
        "1/hparams/final.json",
        "1/hparams/misc.json",
        "1/results.npz",
        "1/curves.npz",
        "2/hparams/misc.json",
    }
    assert repr(list(collated)) == repr(list(read_results(store)))


def test_every_stage_of_tuning_has_its_file(store, paths):
    store.begin([Asked(ONE, 0, 0)], SELECTOR, keep_log=True)
    for attempt in ("", ".1"):
        for stage in CURVE_FILES:
            arrays = pack_arrays({"raw": np.array([len(attempt)])})
            store.append([Planned(ONE.signature, LR_STEP, f"{stage}{attempt}", {}, arrays)])
    collate(store, paths)
    names = {"lr_vs_perf", "bs_vs_perf", "bs_sampled", "lr_vs_perf2", "momentum", "weight_decay"}
    found = {path.stem: np.load(path)["raw"] for path in paths.hparams(0).glob("*.npz")}
    rounds = {"ladder": [0], "ladder.1": [2]}  # each tells of other candidates
    assert found == {name: [2] for name in names} | rounds  # else the last attempt


def test_arrays_and_settings_of_a_point(collated, paths):
    with np.load(paths.results(1)) as file:
        assert file.files == [
            "trial_numbers",
            *("final_loss_train", "final_perf_train", "final_loss_val", "final_perf_val"),
        ]
        assert {name: file[name].tolist() for name in file.files} == {
            "trial_numbers": [0, 3],
            "final_loss_train": [1.5, 4.5],
            "final_perf_train": [0.5, 3.5],
            "final_loss_val": [2.5, 5.5],
            "final_perf_val": [0.25, 3.25],
        }
        assert file["trial_numbers"].dtype == np.int64
    with np.load(paths.curves(1)) as file:
        assert set(file.files) == {"trial_numbers", "step", *METRICS}
        assert file["step"].tolist() == [1, 5, 9]
        assert all(file[name].shape == (2, 3) for name in METRICS)
        assert file["perf_val"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert json.loads((paths.hparams(0) / "final.json").read_text()) == {
        "lr_start": 0.1,
        "lr_end": 0.4,
        "batch_size": 48,
        "cycle_size_epochs": 4,
        "epochs": 12,
    }
    failed = json.loads((paths.hparams(2) / "misc.json").read_text())
    assert failed["error"] == f"lr_range 0: {BOOM.message}"
    done = json.loads((paths.hparams(0) / "misc.json").read_text())
    assert [step["after"] for step in done["steps"]] == ["", "lr_range"]
    assert done["steps"][1]["choice"] == {"verdict": "found"}


@pytest.mark.parametrize("other", [[2, 3], [2, 4, 8], [1, 5, 9, 12]])
def test_curves_of_trials_with_other_steps_have_a_row_of_steps_each(store, paths, other):
    """As of tunings that chose different batch sizes."""
    values = {name: np.arange(len(other), dtype=float) for name in METRICS}
    arrays = pack_arrays({"step": np.array(other), **values})
    store.begin([Asked(ONE, 2, 0), Planned(ONE.signature, TUNED)], SELECTOR, keep_log=True)
    store.append(finished(trial(ONE, 0), dataclasses.replace(trial(ONE, 1), arrays=arrays)))
    collate(store, paths)
    with np.load(paths.curves(0)) as file:
        for name, first in (
            ("step", [1, 5, 9]),
            ("loss_val", unpack_arrays(curves(0))["loss_val"]),
        ):
            rows = [row[np.isfinite(row)].tolist() for row in file[name]]
            assert rows == [list(first), other if name == "step" else values[name].tolist()]
        assert len({file[name].shape for name in ("step", *METRICS)}) == 1


def test_without_curves_there_is_no_file_of_them(store, paths):
    store.begin([Asked(ONE, 1, 0), Planned(ONE.signature, TUNED)], SELECTOR, keep_log=True)
    store.append(finished(dataclasses.replace(trial(ONE, 0), arrays=b"")))
    collate(store, paths)
    assert paths.results(0).is_file()
    assert not paths.curves(0).exists()


READ = """
import json, pickle, sys
sys.modules["sweeper"] = None  # as where it is not installed
sys.path.append(sys.argv[1])   # numpy's place, and nothing else's
with open(sys.argv[2], "rb") as file:
    lookup = pickle.load(file)
with open(sys.argv[3], "rb") as file:
    funcres = pickle.load(file)
assert not [name for name in sys.modules if name.startswith("sweeper.")]
print(repr((lookup, [(row[:4], [type(row[0])], [(a.shape, str(a.dtype)) for a in row[4:]])
                     for row in funcres])))
"""


def test_the_pickles_need_no_sweeper(collated, paths):
    place = str(Path(np.__file__).parents[1])
    arguments = [place, str(paths.params_lookup), str(paths.funcres)]
    printed = subprocess.run(
        [sys.executable, "-I", "-S", "-c", READ, *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    activation = f"{__name__}:Activation"
    lookup = (
        {(1, activation): 0, (("b", (1, 2)), ("a", "x")): 1, (3,): 2},
        {0: (1, activation), 1: {"b": [1, 2], "a": "x"}, 2: (3,)},
    )
    two, none = ((2,), "float64"), ((0,), "float64")
    funcres = [
        (((1, activation), 0.1, 0.4, 48), [tuple], [two] * 4),
        (({"b": [1, 2], "a": "x"}, 0.1, 0.4, 48), [dict], [two] * 4),
        (((3,), math.nan, math.nan, 0), [tuple], [none] * 4),
    ]
    assert printed.strip() == repr((lookup, funcres))
    rows = pickle.loads(paths.funcres.read_bytes())
    assert [type(row) for row in rows] == [tuple] * 3
    for row, point in zip(rows, collated, strict=True):
        assert len(row) == 8
        for mine, theirs in zip(row[4:], point[4:], strict=True):
            assert np.array_equal(mine, theirs, equal_nan=True)
    # Classes are text, and of no type of ours.
    assert type(rows[0][0][1]) is str


def test_lists_among_the_parameters_are_usable_as_keys(store, paths):
    deep = {"sizes": [[16, 16], []], "more": {"k": [1]}}
    nested = ([1, (2, [3])], None)
    decisions = [Asked(point_of(deep), 0, 0), Asked(point_of(nested), 0, 1)]
    store.begin(decisions, SELECTOR, keep_log=True)
    collate(store, paths)
    by_params, by_id = pickle.loads(paths.params_lookup.read_bytes())
    assert by_params == {
        (("sizes", ((16, 16), ())), ("more", (("k", (1,)),))): 0,
        ((1, (2, (3,))), None): 1,
    }
    assert by_id == {0: deep, 1: nested}


def test_params_csv_has_a_column_for_each_parameter(collated, paths):
    with paths.params_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    activation = f"{__name__}:Activation"
    assert rows == [
        {"id": "0", "param_0": "1", "param_1": activation, "b": "", "a": ""},
        {"id": "1", "param_0": "", "param_1": "", "b": "[1, 2]", "a": "x"},
        {"id": "2", "param_0": "3", "param_1": "", "b": "", "a": ""},
    ]


def test_a_parameter_called_id_is_not_taken_for_a_points(store, paths):
    points = [make_point({"id": n}, "toy", SweepSettings(), 0) for n in (5, 6)]
    store.begin([Asked(point, 0, n) for n, point in enumerate(points)], SELECTOR, keep_log=True)
    collate(store, paths)
    with paths.params_csv.open(newline="") as file:
        assert [*csv.reader(file)] == [["id", "param_id"], ["0", "5"], ["1", "6"]]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=cmd|"/C calc"!A0']
)
def test_what_a_spreadsheet_would_run_is_made_harmless(text):
    written = csv_text([{"id": 0, "hidden": text, text: 1, "number": -1.5}])
    names, values = csv.reader(io.StringIO(written, newline=""))
    for cells in (names, values):
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
    expected = "\\r=1" if text == "\r=1" else f"'{text}"
    assert values == ["0", expected, "1", "-1.5"]


def test_commas_quotes_and_lines_come_back():
    rows = [{"a": 'x,"y"\nz', "b": None}, {"a": "ü", "c": [1, 2]}]
    read = list(csv.DictReader(csv_text(rows).splitlines(keepends=True)))
    assert read == [{"a": 'x,"y"\nz', "b": "", "c": ""}, {"a": "ü", "b": "", "c": "[1, 2]"}]


def test_views_may_be_deleted_and_rebuilt(collated, store, paths):
    before = files_in(paths.points)
    for path in paths.points.rglob("*"):
        if path.is_file() and path.name != "model.pt":
            path.unlink()
    collate(store, paths)
    assert files_in(paths.points) == before
    collate(store, paths)
    assert files_in(paths.points) == before


def test_points_after_the_first_have_views_where_asked_for_and_from_then_on(
    collated, store, paths, monkeypatch
):
    before = files_in(paths.points)
    monkeypatch.setattr("sweeper.store.results.collate.FIRST_POINTS", 1)
    for point_id in (1, 2):
        shutil.rmtree(paths.hparams(point_id).parent)
    collate(store, paths)
    assert set(before) - set(files_in(paths.points)) == {
        "1/hparams/final.json",
        "1/hparams/misc.json",
        "1/results.npz",
        "1/curves.npz",
        "2/hparams/misc.json",
    }
    collate(store, paths, every_point=True)
    assert files_in(paths.points) == before
    paths.results(1).write_bytes(b"of an earlier collation")
    collate(store, paths)
    assert files_in(paths.points) == before


def test_collating_changes_nothing_in_the_database(collated, store, paths):
    before = everything(store)
    collate(store, paths)
    assert everything(store) == before
    # A reader can do it, too: `export` has no lock.
    with Store.read(paths.database) as reader:
        collate(reader, paths)


def test_no_half_written_file_is_left(collated, store, paths, monkeypatch):
    before = files_in(paths.points)

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        collate(store, paths)
    assert files_in(paths.points) == before
    with store.snapshot():  # and the database is not left in a transaction
        assert store.meta


def test_views_can_be_read_by_others(collated, paths):
    mask = os.umask(0o022)
    os.umask(mask)
    assert paths.funcres.stat().st_mode & 0o777 == 0o666 & ~mask


def test_names_of_models_are_those_that_workers_are_given(paths):
    assert Path(paths.model_pattern.format(id=3, number=14)) == paths.model(3, 14)


def test_texts_of_an_outcome_are_kept_among_its_arrays_and_read_as_texts(store):
    store.begin([Asked(ONE, 2, 0)], "s", keep_log=True)
    plain = probe(ONE, 0, "ladder")
    arrays = {"perf": np.linspace(0, 1, 5), "fingerprint": np.array("f"), "notes": np.array(["a"])}
    # As folders of earlier releases have them: among the arrays.
    earlier = dataclasses.replace(plain, number=1, arrays=pack_arrays(arrays))
    texts = {"fingerprint": "f", "notes": ["a"]}
    store.append(finished(dataclasses.replace(plain, info=texts), earlier))
    found, same = store.outcomes()
    assert found.info == same.info == texts
    assert found.arrays == same.arrays == earlier.arrays
