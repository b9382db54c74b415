"""A disk that is full, failing, read-only or gone; files that are torn or damaged; old folders.

What must hold: a clear error or a rebuilt file, never a wrong number, never a lost finished trial.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import json
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import blobs
import sweeper
from sweeper.disk import files, locking
from sweeper.disk.arrays import unpack_arrays
from sweeper.disk.files import disk_error, write_swapped
from sweeper.disk.locking import folder_lock
from sweeper.errors import DiskError, FolderError, StoppedError
from sweeper.records import METRICS, Asked
from sweeper.store.database.schema import SCHEMA_VERSION
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate
from sweeper.store.results.load import load
from sweeper.train.replica import models
from sweeping import assert_same_bits, outcomes, python, replicas_started, run
from test_store import ONE, SELECTOR, THREE, TWO, files_in, fill, finished, trial

GRID = {"hidden": [2], "dropout": [0.0, 0.5]}
DATA = Path(__file__).parent / "data"


def sweep_grid(folder, **options):
    return run(folder, sweeper.Grid(trials=3, **GRID), **options)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The sweep to which nothing happened."""
    folder = tmp_path_factory.mktemp("quiet") / "out"
    return folder, sweep_grid(folder)


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path / "out")


@pytest.fixture
def filled(paths):
    """A small sweep, closed, its views written."""
    with Store.open(paths.database) as store:
        fill(store)
        collate(store, paths)
    return paths


def everything_in(folder):
    """All that a folder says of results: to be compared."""
    with Store.read(Paths(folder).database) as store, store.snapshot():
        outcomes = [
            (one.point, one.stage, one.number, dict(one.metrics), one.failure,
             {name: array.tolist() for name, array in unpack_arrays(one.arrays).items()})
            for one in store.outcomes()
        ]  # fmt: skip
        decisions = [
            [(*decision[:3], unpack_arrays(decision[3]).keys()) for decision in store.decisions(n)]
            for n, _ in store.encoded_params()
        ]
    return repr((list(load(folder)), outcomes, decisions))


# -- full, read-only, gone ------------------------------------------------------------------------

# The command line in a process of its own, once where there is little room and once where there
# is enough; what the folder holds is copied out both times.
DRIVER = """
import contextlib, io, json, resource, shutil, signal, subprocess, sys
from pathlib import Path
from sweeper import cli

kind, room, folder, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
options = json.loads(sys.argv[5])

def give(size):
    if kind == "limit":
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    else:
        options = f"{'remount,' if folder.is_mount() else ''}size={size}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

def do(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli._run_command_line([*map(str, arguments)])
    return code, said.getvalue()

folder.mkdir(parents=True, exist_ok=True)
sys.path.insert(0, options.pop("tests"))
run = ["run", "blobs", "--folder", folder, *options["run"]]
give(room)
first = do(*run)
shutil.copytree(folder, out / "first")
give(50_000_000)
second = do(*run)
shutil.copytree(folder, out / "second")
if kind == "tmpfs":
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    locked = [do(*run), *(do(name, folder) for name in ("status", "show", "export"))]
else:
    locked = []
print(json.dumps([first, second, locked]))
"""


def quick_options(models):
    """The command line of the quiet sweep."""
    fields = [(name, getattr(blobs.QUICK, name)) for name in blobs.QUICK.__slots__]
    options = ["--backend", "inline", "--quiet", "--cores", "2", "--trials", "3", *models]
    for name, values in GRID.items():
        options += ["--grid", f"{name}={','.join(map(str, values))}"]
    for name, value in fields:
        options += ["--set", f"{name}={value}"]
    return options


def in_little_room(tmp_path, kind, room, models=("--no-models",)):
    options = json.dumps({"tests": str(Path(__file__).parent), "run": quick_options(models)})
    arguments = ["-c", DRIVER, kind, str(room), str(tmp_path / "folder"), str(tmp_path), options]
    if kind == "tmpfs":
        # A mount that only this process and its children see.
        may = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
        if shutil.which("unshare") is None or subprocess.run(may, check=False).returncode:
            pytest.skip("mounting is not permitted here")
        begun = ["unshare", "-rm", sys.executable, *arguments]
        code = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        arguments = ["-c", code, *begun]
    process = python(*arguments, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    return json.loads(out)


@pytest.mark.parametrize(
    ("kind", "room"),
    [("limit", 230_000), pytest.param("tmpfs", 330_000, marks=pytest.mark.slow)],
)
def test_a_disk_that_is_full_half_way_loses_nothing(quiet, tmp_path, kind, room):
    (code, said), again, locked = in_little_room(tmp_path, kind, room)
    assert code == 1, said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    assert str(tmp_path / "folder") in said
    assert "then give the same command again; finished work is kept" in said
    kept, whole = outcomes(tmp_path / "first"), outcomes(quiet[0])
    assert 0 < len(kept) < len(whole), "it was not half way"
    wanted = measured(whole)
    assert measured(kept).items() <= wanted.items()
    assert again[0] == 0, again
    assert_same_bits(quiet[1], sweeper.load(tmp_path / "second"))
    assert measured(outcomes(tmp_path / "second")) == wanted
    # Nothing that had finished was trained again.
    begun = replicas_started(tmp_path / "second")[len(replicas_started(tmp_path / "first")) :]
    ids = {row[0]: row[1] for row in signatures(tmp_path / "first")}
    assert not {(ids[point], *rest) for point, *rest in begun if point in ids} & set(kept)
    if kind == "tmpfs":  # which is made read-only at the end
        run_again, *reading = locked
        assert run_again[0] == 1, run_again
        assert "make its disk writable" in run_again[1]
        assert [one[0] for one in reading] == [0, 0, 0], reading
        assert "cannot be written" in reading[2][1] or "were not rebuilt" in reading[2][1]


def test_a_disk_that_is_full_while_a_model_is_written_loses_no_trial(quiet, tmp_path, monkeypatch):
    write, count = models.write_swapped, itertools.count()

    def full(path, data, **options):
        if next(count) >= 2:
            raise disk_error(path, "No space left on device", errno.ENOSPC)
        write(path, data, **options)

    monkeypatch.setattr(models, "write_swapped", full)
    with pytest.raises(StoppedError, match=r"model\.pt .*No space left .*make room on its disk"):
        sweep_grid(tmp_path / "out")
    monkeypatch.undo()
    assert not load(tmp_path / "out").failures
    again = sweep_grid(tmp_path / "out")
    assert_same_bits(quiet[1], again)
    assert outcomes(tmp_path / "out") == outcomes(quiet[0])


def measured(found):
    """Less the arrays, which hold checksums of models where models are kept."""
    return {key: values[0] for key, values in found.items()}


def signatures(folder):
    with Store.read(Paths(folder).database) as store:
        return list(store.signatures().items())


@pytest.mark.parametrize("what", ["moved", "removed", "replaced"])
def test_a_folder_that_goes_away_while_it_is_swept_is_noticed(quiet, tmp_path, monkeypatch, what):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    append, count = Store.append, itertools.count()

    def then_it_goes(self, records):
        if next(count) == 6:
            folder.rename(elsewhere)
            if what == "replaced":
                shutil.copytree(elsewhere, folder)
        append(self, records)

    monkeypatch.setattr(Store, "append", then_it_goes)
    with pytest.raises(DiskError, match=r"was moved, removed or replaced while the sweep ran"):
        sweep_grid(folder, save_models="none")
    monkeypatch.undo()
    assert folder.exists() == (what == "replaced")
    if what == "moved":  # and put back
        elsewhere.rename(folder)
    assert_same_bits(quiet[1], sweep_grid(folder, save_models="none"))


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locking.fcntl, "flock", refuse)
    with pytest.raises(FolderError, match=r"No locks available.*no working locks.*network"):
        sweep_grid(tmp_path / "out")
    assert not (tmp_path / "out" / "sweep.db").exists()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "see that you may write there"),
        (errno.EROFS, "make its disk writable"),
        (errno.ENOSPC, "make room on its disk"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch, number, advice):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "open", refuse)
    with (
        pytest.raises(DiskError, match=rf"out/lock .*{advice}") as said,
        folder_lock(tmp_path / "out" / "lock"),
    ):
        pass
    assert said.value.errno == number


@pytest.mark.parametrize("what", ["FULL", "IOERR_WRITE", "READONLY", "CANTOPEN", "BUSY"])
def test_what_sqlite_refuses_is_said_and_nothing_is_left(paths, what):
    class Refusing(sqlite3.Connection):
        def execute(self, query, *values):
            if query == "COMMIT" and refusing:
                super().execute("ROLLBACK")  # as SQLite does by itself
                error = sqlite3.OperationalError("no")
                error.sqlite_errorname = f"SQLITE_{what}"
                raise error
            return super().execute(query, *values)

    refusing = []
    Store.open(paths.database).close()
    store = Store(sqlite3.connect(paths.database, isolation_level=None, factory=Refusing))
    store.begin([Asked(ONE, 1, 0)], SELECTOR, keep_log=True)
    refusing.append(True)
    with pytest.raises(DiskError, match=r"sweep\.db cannot be used: no: .*same command again"):
        store.append(finished(trial(ONE, 0)))
    assert list(store.outcomes()) == []
    refusing.clear()
    store.append(finished(trial(ONE, 0)))
    assert len(list(store.outcomes())) == 1
    store.close()


# -- the n-th write -------------------------------------------------------------------------------


class Disk:
    """Counts what is asked of the disk, and refuses the n-th; every write takes half at most."""

    def __init__(self, monkeypatch, number=None, after=None):
        self.calls, self.number, self.after = 0, number, after
        disk, fdopen = self, os.fdopen

        class Raw(io.FileIO):
            def write(self, data):
                disk.call()
                view = memoryview(data).cast("B")
                return super().write(view[: max(1, len(view) // 2)])

        def opened(handle, mode="r", **options):
            return io.BufferedWriter(Raw(handle, "wb")) if mode == "wb" else fdopen(handle, mode)

        monkeypatch.setattr(files.os, "fdopen", opened)
        for name in ("fsync", "replace"):
            monkeypatch.setattr(files.os, name, self.counted(getattr(os, name)))
        monkeypatch.setattr(files, "_create", self.counted(files._create))

    def counted(self, function):
        def call(*arguments, **options):
            self.call()
            return function(*arguments, **options)

        return call

    def call(self):
        self.calls += 1
        if self.after is not None and self.calls >= self.after:
            raise OSError(self.number, os.strerror(self.number))


def test_a_write_that_fails_at_any_point_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    new = bytes(range(256)) * 200
    with monkeypatch.context() as patched:
        disk = Disk(patched)
        write_swapped(path, new, sync=True)
    assert path.read_bytes() == new, "short writes are gone on with"
    assert disk.calls > 10
    for after, number in itertools.product(range(1, disk.calls), (errno.EIO, errno.ENOSPC)):
        path.write_bytes(b"old")
        with monkeypatch.context() as patched:
            Disk(patched, number, after)
            with pytest.raises(DiskError) as said:
                write_swapped(path, new, sync=True)
        assert said.value.errno == number
        assert str(path) in str(said.value)
        # The last call is after the swap: it syncs the folder.
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_a_collation_that_fails_at_any_write_leaves_whole_files_and_can_be_repeated(
    filled, monkeypatch
):
    before = files_in(filled.points)
    with Store.open(filled.database) as store:
        store.append(finished(trial(ONE, 2)))  # the files would be others
        with monkeypatch.context() as patched:
            shutil.copytree(filled.folder, filled.folder.with_name("copy"))
            disk = Disk(patched)
            collate(store, filled)
        after = files_in(filled.points)
        assert before != after
        shutil.rmtree(filled.points)
        shutil.copytree(filled.folder.with_name("copy") / "points", filled.points)
        for number in range(1, disk.calls + 1, 2):
            with monkeypatch.context() as patched:
                Disk(patched, errno.EIO, number)
                with pytest.raises(DiskError):
                    collate(store, filled)
            found = files_in(filled.points)
            assert found.keys() == before.keys()
            assert all(found[name] in (before[name], after[name]) for name in found)
        collate(store, filled)
    assert files_in(filled.points) == after


# -- torn and damaged -----------------------------------------------------------------------------


def test_a_torn_log_is_read_up_to_the_tear(paths):
    counts = {0}
    store = Store.open(paths.database)
    store.begin([Asked(ONE, 9, 0), Asked(TWO, 9, 1), Asked(THREE, 9, 2)], SELECTOR, keep_log=True)
    for number in range(4):
        batch = [trial(ONE, number), trial(TWO, number), trial(THREE, number)]
        store.append(finished(*batch))
        counts.add(3 * number + 3)
    whole = {(one.point, one.number): one for one in store.outcomes()}
    copies = {name: (paths.folder / name).read_bytes() for name in ("sweep.db", "sweep.db-wal")}
    store.close()
    torn = Paths(paths.folder.with_name("torn"))
    torn.folder.mkdir()
    wal = copies["sweep.db-wal"]
    frame = 4096 + 24
    cuts = sorted(
        {*range(0, 64, 3), *range(32, len(wal), 997), *range(32 + frame, len(wal), frame)}
    )
    seen = set()
    for cut in cuts:
        for name, data in copies.items():
            (torn.folder / name).write_bytes(data[:cut] if name.endswith("wal") else data)
        try:
            with Store.open(torn.database) as store:
                found = list(store.outcomes())
                assert all(whole[one.point, one.number] == one for one in found)
                seen.add(len(found))
                if found and not cut % 3:  # and it goes on
                    store.append(finished(trial(ONE, 8)))
        except FolderError as error:
            # Nothing was ever committed: the tables are in the log.
            assert "no table" in str(error) or "format 0" in str(error)  # noqa: PT017
    assert seen <= counts, "half a transaction"
    assert len(seen) >= 4


def test_a_damaged_database_says_so_or_says_what_it_said(filled):
    data = filled.database.read_bytes()
    wanted = everything_in(filled.folder)
    chosen = random.Random(7)
    refused, bits = 0, 0
    for place in chosen.sample(range(len(data)), 300):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << chosen.randrange(8)
        filled.database.write_bytes(spoilt)
        try:
            assert everything_in(filled.folder) == wanted, place
        except (FolderError, ValueError):  # the arrays of one replica are a ValueError
            refused += 1
        bits += 1
    assert 0 < refused < bits


@pytest.mark.parametrize("size", [0, 10, 100, 4096, 8000])
def test_a_database_that_was_cut_is_refused(filled, size):
    filled.database.write_bytes(filled.database.read_bytes()[:size])
    for opened in (Store.open, Store.read):
        if size or opened is Store.read:
            with pytest.raises(FolderError, match=r"sweep\.db (is damaged|has format 0)"):
                opened(filled.database)


SPOILT = {
    "metrics": (
        "UPDATE outcomes SET metrics = replace(metrics, '1.5', '1.6')",
        r"trial 0 of point 0 is not as it was written",
    ),
    "failure": ("UPDATE outcomes SET failure = NULL", "not as it was written"),
    "step": ("UPDATE decisions SET step = replace(step, '48', '49')", "a row of table decisions"),
    "params": ("UPDATE points SET params = replace(params, '3', '4')", "a row of table points"),
    "trials": ("UPDATE log SET value = '1'", "a row of table log"),
    "meta": ("UPDATE meta SET value = '\"another\"'", "a row of table meta"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_row_that_was_changed_is_refused(filled, what):
    query, said = SPOILT[what]
    with sqlite3.connect(filled.database) as connection:
        connection.execute(query)
    connection.close()
    with pytest.raises(FolderError, match=said):
        load(filled.folder)


@pytest.mark.parametrize("what", sorted({*SPOILT} - {"meta"}))
def test_a_sweep_does_not_go_on_from_a_row_that_was_changed(filled, what):
    query, said = SPOILT[what]
    with Store.open(filled.database) as store:
        assert set(store.recorded(SELECTOR).trials) == {ONE.signature, TWO.signature}
        store.connection.execute(query)
        with pytest.raises(FolderError, match=said):
            store.recorded(SELECTOR)


@pytest.mark.parametrize(
    "change",
    [
        "started = 'soon'",
        "ended = 1e12",
        """metrics = replace(metrics, '1.5', '"1.5"'), crc = NULL""",
        "metrics = '{}', crc = NULL",
        """metrics = metrics || ',' || metrics, crc = NULL""",
    ],
)
def test_a_sweep_does_not_go_on_from_trials_that_no_sweep_writes(filled, change):
    with Store.open(filled.database) as store:
        query = f"UPDATE outcomes SET {change} WHERE stage = 'trial' AND failure IS NULL"
        store.connection.execute(query)
        with pytest.raises(FolderError, match="damaged"):
            store.recorded(SELECTOR)


def test_damaged_arrays_are_refused_where_they_are_read(filled):
    with sqlite3.connect(filled.database) as connection:
        (blob,) = connection.execute("SELECT arrays FROM outcomes WHERE stage = 'trial'").fetchone()
        spoilt = bytearray(blob)
        spoilt[blob.index(np.float64(2.0).tobytes())] ^= 1
        connection.execute("UPDATE outcomes SET arrays = ?", (bytes(spoilt),))
    connection.close()
    with Store.open(filled.database) as store:
        with pytest.raises(FolderError, match="CRC"):
            collate(store, filled)
        assert len(load(filled.folder)) == 3, "the numbers are there"


def test_a_view_that_was_cut_is_refused_by_its_reader_and_rebuilt(filled):
    whole = files_in(filled.points)
    for name, data in whole.items():
        read = {".npz": read_npz, ".pt": pickle.loads, ".json": json.loads}.get(Path(name).suffix)
        if read is not None:
            wanted = repr(read(data))
            for cut in range(len(data)):
                found = wanted
                with contextlib.suppress(Exception):  # whatever its reader raises
                    found = repr(read(data[:cut]))
                assert found == wanted, (name, cut)
        (filled.points / name).write_bytes(data[: len(data) // 2])
    with Store.open(filled.database) as store:
        collate(store, filled)
    assert files_in(filled.points) == whole


def read_npz(data):
    with np.load(io.BytesIO(data)) as file:
        return {name: file[name] for name in file.files}


# -- folders of earlier versions ------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_folder_of_an_earlier_format_is_read_and_gone_on_with(tmp_path, version):
    folder = tmp_path / "out"
    shutil.copytree(DATA / f"schema-{version}", folder)
    expected = json.loads((folder / "expected.json").read_text())
    for look in range(2):
        found = load(folder)
        assert [point.params for point in found] == [point["params"] for point in expected]
        for point, wanted in zip(found, expected, strict=True):
            assert (point.lr_min, point.lr_max) == (wanted["lr_min"], wanted["lr_max"])
            assert point.batch_size == wanted["batch_size"]
            for metric in METRICS:
                assert getattr(point, metric).tolist() == wanted[metric]
        if look == 0:
            with Store.open(Paths(folder).database) as store:
                pragma = store.connection.execute("PRAGMA user_version").fetchone()
                assert pragma == (SCHEMA_VERSION,)
                store.set_meta(store.meta)
                store.append(finished(trial_of(store.signatures()[0], 7)))
                collate(store, Paths(folder))
    assert (folder / "points" / "1" / "results.npz").is_file()


def test_a_folder_begun_by_an_earlier_release_goes_on(tmp_path):
    kept = DATA / "begun-ladder"
    folder = tmp_path / "out"
    shutil.copytree(kept, folder)
    expected = json.loads((kept / "expected.json").read_text())
    points = [point["params"] for point in expected]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 4)
    before = set(replicas_started(folder))
    found = run(folder, selector, folder / "blobs.py", hparams=blobs.LADDER)
    for point, wanted in zip(found, expected, strict=True):
        assert (point.lr_min, point.lr_max) == (wanted["lr_min"], wanted["lr_max"])
        assert point.batch_size == wanted["batch_size"]
        for metric in METRICS:
            assert getattr(point, metric).tolist()[:3] == wanted[metric]
            assert len(getattr(point, metric)) == 4
    new = [one for one in replicas_started(folder) if one not in before]
    assert sorted((stage, number) for _, stage, number in new) == [("trial", 3)] * 2


def trial_of(signature, number):
    return dataclasses.replace(trial(ONE, number), point=signature)


def test_every_format_has_its_folder():
    kept = {path.name for path in DATA.glob("schema-*")}
    assert kept == {f"schema-{version}" for version in range(1, SCHEMA_VERSION + 1)}


def test_a_later_format_is_refused(tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(DATA / "schema-2", folder)
    with sqlite3.connect(folder / "sweep.db") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(FolderError, match=r"has format 3.* formats 1 to 2: .* or a later one"):
        load(folder)
    with pytest.raises(FolderError, match="has format 3"):
        sweep_grid(folder)
