"""What comes from anywhere does no harm: folders that somebody sent, and values of all kinds.

Reading executes nothing, ends, writes nothing outside, and says in a line what is wrong.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import blobs
import sweeper
from sweeper import cli
from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.disk.files import write_swapped
from sweeper.disk.locking import folder_lock, read_lock
from sweeper.errors import DiskError, FolderError, ParamError, ProblemError, SweeperError
from sweeper.results import SweepResult
from sweeper.signature import DEEPEST, decode, encode, normalise
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.collate import collate
from sweeper.store.results.load import load
from sweeping import python, run
from test_store import fill

PACKAGE = Path(sweeper.__file__).parent


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with every file that a sweep leaves."""
    folder = tmp_path_factory.mktemp("template") / "out"
    paths = Paths(folder)
    with Store.open(paths.database) as store:
        fill(store)
        collate(store, paths)
    paths.lock.touch()
    paths.logs.mkdir()
    (paths.logs / "worker-0.log").write_text("hello")
    write_swapped(paths.model(0, 1), b"weights")
    return folder


@pytest.fixture
def sent(template, tmp_path):
    """A folder that somebody sent."""
    folder = tmp_path / "sent"
    shutil.copytree(template, folder)
    return folder


def command(*arguments):
    """The command line in this process: its exit code, and what it printed on both streams."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run_command_line([*map(str, arguments)])
    assert code in (0, 1, 2), err.getvalue()
    assert "Traceback (most" not in err.getvalue()
    return code, out.getvalue(), err.getvalue()


LOOKING = [
    ("status",),
    ("show",),
    ("show", "--failures"),
    ("export", "--format", "csv"),
    ("export", "--format", "json"),
]


def look(folder, commands=LOOKING):
    """Everything that reads a folder; the exit codes."""
    codes = [command(*arguments, folder)[0] for arguments in commands]
    try:
        str(load(folder).summary())
    except SweeperError:
        codes.append(2)
    return codes


def around(folder):
    """What is beside a folder."""
    return {path for path in folder.parent.parent.rglob("*") if folder not in (path, *path.parents)}


def change(folder, query, *values):
    """Change the database; a checksum that no longer holds is taken off."""
    with contextlib.closing(sqlite3.connect(folder / "sweep.db")) as connection:
        connection.execute(query, values)
        for table in ("meta", "points", "outcomes", "decisions", "log"):
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f"UPDATE {table} SET crc = NULL")
        connection.commit()


# -- pickles --------------------------------------------------------------------------------------


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def malicious(marker):
    """Bytes that execute something where they are unpickled: bare, in an .npz, as torch saves."""
    evil = Evil(marker)
    for protocol in range(6):
        yield pickle.dumps(evil, protocol)
    buffer = io.BytesIO()
    np.savez(buffer, step=np.array([evil], dtype=object), perf_val=np.array(evil, dtype=object))
    yield buffer.getvalue()
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save({"weight": evil}, buffer, _use_new_zipfile_serialization=zipped)
        yield buffer.getvalue()


def test_the_pickles_would_do_harm(tmp_path):
    count = 0
    for count, data in enumerate(malicious(tmp_path / "marker"), 1):
        with contextlib.suppress(Exception):
            pickle.loads(data)
        with contextlib.suppress(Exception):
            np.load(io.BytesIO(data), allow_pickle=True)["step"]
        with contextlib.suppress(Exception):
            torch.load(io.BytesIO(data), weights_only=False)
        assert (tmp_path / "marker").exists(), count
        (tmp_path / "marker").rmdir()
    assert count == 9


def test_no_pickle_in_place_of_a_file_is_executed(sent, tmp_path):
    files = [path for path in sent.rglob("*") if path.is_file()]
    files += [sent / "sweep.db-wal", sent / "sweep.db-shm"]
    assert len(files) >= 15
    original = {path: path.read_bytes() for path in files if path.exists()}
    for data in malicious(tmp_path / "marker"):
        for path in files:  # all but the database, which is what is read
            if path.name != "sweep.db":
                path.write_bytes(data)
        look(sent)
        (sent / "sweep.db").write_bytes(data)
        assert set(look(sent)) == {2}
        for path in files:
            path.unlink(missing_ok=True)
        for path, before in original.items():
            path.write_bytes(before)
    assert set(look(sent)) == {0}
    assert not (tmp_path / "marker").exists()


def test_no_pickle_in_a_row_is_executed(sent, tmp_path):
    for data in malicious(tmp_path / "marker"):
        change(sent, "UPDATE outcomes SET arrays = ?", data)
        change(sent, "UPDATE decisions SET arrays = ? WHERE length(arrays)", data)
        assert command("show", sent)[0] == 0, "the numbers are there"
        _, _, said = command("export", sent)
        assert "arrays cannot be read" in said
    assert not (tmp_path / "marker").exists()


def test_weights_are_loaded_as_weights_only(tmp_path):
    folder = tmp_path / "out"
    run(folder, sweeper.Grid(trials=1, hidden=[2]))
    (model,) = folder.rglob("model.pt")
    blobs.model(2).load_state_dict(torch.load(model, weights_only=True))


PIPES = {
    "code/carried.py": {"pickle.loads"},
    "run/processes/helper.py": {"pickle.loads"},
    "run/processes/channel.py": {"pickle.loads"},
    "train/native/inductor.py": {"pickle.load"},
    "train/problem/spec.py": {"pickle.loads"},
}
"""What is unpickled, by file: it comes from a process that this one started, or that started it."""


def reads_tensors_alone(call):
    """Whether it is `torch.load(…, weights_only=True)`, which makes no other objects."""
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    return ast.unparse(call.func) == "torch.load" and options.get("weights_only") == "True"


def test_nothing_of_ours_unpickles_but_what_comes_through_its_own_pipes():
    for path in PACKAGE.rglob("*.py"):
        names = {
            f"{node.func.value.id}.{node.func.attr}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and not reads_tensors_alone(node)
        }
        found = names & {"pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"}
        assert found == PIPES.get(path.relative_to(PACKAGE).as_posix(), set()), path


EVIL_MODULE = "import os, pathlib; pathlib.Path(__file__).with_name('marker').mkdir()\n"


def test_what_parameters_name_is_not_imported(sent, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(EVIL_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    encoded = '["t",[["c","evil_module:Name"]]]'
    change(sent, "UPDATE points SET params = ?", encoded)
    assert set(look(sent)) == {0}
    assert load(sent)[0].params == ("evil_module:Name",)
    assert not (tmp_path / "marker").exists()
    assert "evil_module" not in sys.modules


def test_a_folder_that_is_looked_at_from_inside_is_not_imported_from(sent, tmp_path):
    names = ("numpy", "scipy", "rich", "typer", "json", "torch", "zipfile", "unicodedata")
    for name in names:
        (sent / f"{name}.py").write_text(EVIL_MODULE)
    # As the installed script does, which lies elsewhere.
    script = tmp_path / "script.py"
    script.write_text("from sweeper.cli import main\nmain()\n")
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(
        [sys.executable, script, "show", "."],
        cwd=sent,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert not (sent / "marker").exists()


# -- databases ------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"

A_ROW = "0 AS point, 'trial' AS stage, x AS number, 1.0 AS started, 1.0 AS ended"
NOTHING = "'{}' AS metrics, x'' AS arrays, NULL AS failure, NULL AS crc"

HOSTILE = {
    "an endless view": [
        "DROP TABLE outcomes",
        f"CREATE VIEW outcomes AS {ENDLESS} SELECT {A_ROW}, {NOTHING} FROM n",
    ],
    "a trigger": [
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM outcomes; END",
    ],
    "a virtual table": [
        "DROP TABLE log",
        "CREATE VIRTUAL TABLE log USING fts5(seq, selector, kind, point, value, crc)",
    ],
    "a computed column": [
        "DROP TABLE meta",
        f"CREATE TABLE meta (key, crc, n AS (1), value AS (hex(zeroblob({10**6}))))",
    ],
    "no table": ["DROP TABLE decisions"],
    "another column": ["ALTER TABLE outcomes RENAME COLUMN metrics TO other"],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_database_is_refused(sent, what):
    with contextlib.closing(sqlite3.connect(sent / "sweep.db")) as connection:
        for query in HOSTILE[what]:
            connection.execute(query)
        connection.commit()
    assert set(look(sent)) == {2}
    with (
        pytest.raises(FolderError, match="is damaged, or no sweep wrote it"),
        contextlib.ExitStack() as opened,
    ):
        list(opened.enter_context(Store.open(sent / "sweep.db")).outcomes())


def test_pages_that_lead_to_the_same_page_again_and_again_are_refused(sent):
    with Store.open(sent / "sweep.db") as store:
        many = [(0, "probe", n, 1.0, 1.0, "{}", b"\0" * 900, None, None) for n in range(3000)]
        places = ", ".join("?" * 9)
        with store.transaction():
            store.connection.executemany(f"INSERT INTO outcomes VALUES ({places})", many)
    with contextlib.closing(sqlite3.connect(sent / "sweep.db")) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'outcomes'"
        (root,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray((sent / "sweep.db").read_bytes())
    page = data[(root - 1) * size : root * size]
    assert page[0] == 2, "an interior page"
    count = int.from_bytes(page[3:5], "big")
    cells = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(count)]
    places = [8, *cells]
    assert len(places) > 4
    last = int.from_bytes(page[8:12], "big")
    chain = [number for number in range(100, 120) if number not in (root, last)][:15]
    # Each level has the next one several times: more rows than anybody can read.
    for number, child in zip([root, *chain], [*chain, last], strict=True):
        for place in places:
            page[place : place + 4] = child.to_bytes(4, "big")
        data[(number - 1) * size : number * size] = page
    (sent / "sweep.db").write_bytes(data)
    with pytest.raises(FolderError, match=r"is damaged.*reference to page"):
        load(sent)


def test_readers_are_as_careful_as_sqlite_can_be(sent):
    with Store.read(sent / "sweep.db") as store:
        pragmas = {
            name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("trusted_schema", "query_only", "cell_size_check", "mmap_size")
        }
        assert pragmas == {
            "trusted_schema": 0,
            "query_only": 1,
            "cell_size_check": 1,
            "mmap_size": 0,
        }
        with pytest.raises(sqlite3.OperationalError, match="not authorized"):
            store.connection.execute("SELECT load_extension('evil')")
        connection = store.connection
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")


CELLS = [
    ("meta", "value"),
    ("points", "signature"),
    ("points", "params"),
    ("outcomes", "stage"),
    ("outcomes", "number"),
    ("outcomes", "started"),
    ("outcomes", "ended"),
    ("outcomes", "metrics"),
    ("outcomes", "arrays"),
    ("outcomes", "failure"),
    ("decisions", "point"),
    ("decisions", "after"),
    ("decisions", "step"),
    ("decisions", "choice"),
    ("decisions", "arrays"),
    ("log", "kind"),
    ("log", "point"),
    ("log", "value"),
    ("events", "kind"),
    ("events", "value"),
]

DEEP = 5000
BOMBS = [
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
    '["t",[' * DEEP + "]]" * DEEP,
    '["l",[' * 60 + "]]" * 60,
    "9" * 10_000,
    '["i","' + "9" * 10_000 + '"]',
    '["t",[["f","0x1p99999"]]]',
    '["t",[["s","\\ud800\\u0000\\u001b[31m"]]]',
    '{"a": NaN, "b": 1e999, "c": -Infinity}',
    '"\\ud800"',
    "null",
]
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_cells = (
    st.sampled_from(BOMBS)
    | _json.map(json.dumps)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=40)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cell=st.sampled_from(CELLS), value=_cells)
def test_whatever_a_row_says_it_is_shown_or_refused(template, tmp_path, cell, value):
    _look_at_cell(template, tmp_path, cell, value)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_bombs_in_a_row_are_shown_or_refused(template, tmp_path, cell):
    for value in BOMBS:
        _look_at_cell(template, tmp_path, cell, value)


def _look_at_cell(template, tmp_path, cell, value):
    folder = tmp_path / "sent"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(template / "sweep.db", folder / "sweep.db")
    table, column = cell
    with contextlib.suppress(sqlite3.IntegrityError):
        change(folder, f"UPDATE {table} SET {column} = ?", value)
    look(folder, [("status",), ("show", "--failures"), ("export", "--format", "json")])
    assert {path.name for path in tmp_path.iterdir()} <= {"sent"}


def step_of(**changes):
    usual = {"stage": "trial", "replicas": 0, "payload": {}, "found": None, "error": None}
    return json.dumps(usual | changes)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("decisions", "step", step_of(found={"lr_min": "x", "lr_max": 1, "batch_size": 1})),
        ("decisions", "step", step_of(found={"lr_min": 1, "lr_max": 1, "batch_size": [1]})),
        ("decisions", "step", step_of(found=3)),
        ("decisions", "step", step_of(payload=[1])),
        ("decisions", "step", step_of(error=5)),
        ("decisions", "step", step_of(found={"lr_min": 1, "lr_max": 1, "batch_size": 1})),
        ("outcomes", "metrics", '{"perf_val": "a"}'),
        ("outcomes", "failure", '{"kind": 1, "message": [], "detail": {}}'),
        ("outcomes", "failure", '{"kind": "a", "message": "b", "evil": "c"}'),
        ("points", "params", '["i","5"]'),
        ("points", "params", '["d",[[["i","5"],["n"]]]]'),
        ("points", "params", '["d",[[["l",[]],["n"]]]]'),
        ("meta", "value", '{"settings": []}'),
        ("meta", "value", "[5]"),
        ("log", "value", "-5"),
        ("outcomes", "started", 1e300),
        ("outcomes", "ended", -1e300),
    ],
)
def test_rows_of_the_wrong_shape_are_refused(sent, table, column, value):
    change(sent, f"UPDATE {table} SET {column} = ?", value)
    codes = look(sent)
    said = command("export", sent)[2]
    assert 2 in codes or "no sweep wrote it" in said
    assert 1 not in codes


@pytest.mark.parametrize(
    ("column", "value"),
    [("started", 1e300), ("ended", -1e300), ("started", "soon"), ("ended", b""), ("number", 0.5)],
)
def test_no_sweep_goes_on_from_trials_that_cannot_be(sent, column, value):
    change(sent, f"UPDATE outcomes SET {column} = ? WHERE stage = 'trial' AND number = 0", value)
    with Store.read(Paths(sent).database) as store, pytest.raises(FolderError, match="damaged"):
        store.recorded("anybody", log=False)


def test_values_may_be_nested_so_deep_and_no_deeper():
    value = 1
    for _ in range(DEEPEST):
        value = [value]
    assert decode(encode((normalise(value),))) == (value,)
    with pytest.raises(ParamError, match="nested more than 40 levels deep"):
        normalise([value])
    endless = []
    endless.append(endless)
    with pytest.raises(ParamError, match="nested more than"):
        normalise(endless)
    with pytest.raises(ParamError, match="nested more than"):
        decode(encode(([[value]],)))


# -- arrays ---------------------------------------------------------------------------------------


def bombs():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, perf_val=np.zeros(2_000_000))
    yield buffer.getvalue()
    # A header that promises more than there is.
    for shape in ((10**12,), (2**62,), (10**9, 10**9)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": shape}
        )
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("perf_val.npy", header.getvalue())
        yield buffer.getvalue()
    # Sizes that are lies.
    packed = bytearray(pack_arrays({"perf_val": np.zeros(10)}))
    place = packed.rindex(b"PK\x01\x02")
    packed[place + 20 : place + 28] = (2**31).to_bytes(4, "little") * 2
    yield bytes(packed)
    # Many entries that are one and the same data.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", b"\0" * 10_000)
        first = file.infolist()[0]
        for number in range(100):
            other = zipfile.ZipInfo(f"{number}.npy")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(other, name, getattr(first, name))
            file.filelist.append(other)
    yield buffer.getvalue()


def test_arrays_that_unpack_to_more_than_they_are_are_refused():
    for number, data in enumerate(bombs()):
        with pytest.raises(ValueError, match="arrays cannot be read"):
            unpack_arrays(data)
        assert number < 6


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_arrays(data):
    with contextlib.suppress(ValueError):
        assert isinstance(unpack_arrays(data), dict)


# -- files of any content -------------------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["sweep.db", "sweep.db-wal", "sweep.db-shm", "lock", "sweep.db-journal"]),
    data=st.binary(max_size=120),
    head=st.sampled_from(
        [b"", b"SQLite format 3\0\x10\0\x02\x02\0\x40\x20\x20", b"\x37\x7f\x06\x82"]
    ),
)
def test_arbitrary_bytes_as_a_file_are_read_or_refused(template, tmp_path, name, data, head):
    folder = tmp_path / "sent"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(template / "sweep.db", folder / "sweep.db")
    (folder / name).write_bytes(head + data)
    look(folder, [("status",), ("export",)])
    assert {path.name for path in tmp_path.iterdir()} <= {"sent"}


@pytest.mark.parametrize("name", ["lock", "sweep.db"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_holds_nobody_up(sent, name, kind):
    path = sent / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert set(look(sent)) == ({0} if name == "lock" else {2})
    with pytest.raises((FolderError, DiskError)):
        run(sent, sweeper.Grid(trials=1, hidden=[2]))


@settings(max_examples=60)
@given(_json)
def test_whatever_a_lock_says_it_is_read(said):
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"sweeper-lock-{os.getpid()}"
    try:
        path.write_text(json.dumps({"host": said, "pid": said, "start": said}))
        holder = read_lock(path)
        assert holder is None or str(holder)
        path.write_text(json.dumps(said))
        assert read_lock(path) is None
        with folder_lock(path) as dead:
            assert dead is None
    finally:
        path.unlink()


# -- links ----------------------------------------------------------------------------------------


def victim(tmp_path):
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


@pytest.mark.parametrize("name", ["logs", "points", "history"])
def test_a_link_to_a_folder_is_not_followed(tmp_path, name):
    folder, target = tmp_path / "out", victim(tmp_path)
    folder.mkdir()
    (folder / name).symlink_to(target)
    with pytest.raises(FolderError, match=f"out/{name} .*symbolic link"):
        run(folder, sweeper.Grid(trials=1, hidden=[2]), resume=name != "history")
    assert [path.name for path in target.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "name", ["lock", "sweep.db", "sweep.db-wal", "sweep.db-shm", "logs/worker-0.log"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_file_is_not_followed(tmp_path, name, there):
    folder, target = tmp_path / "out", victim(tmp_path) / ("precious" if there else "new")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(target)
    with pytest.raises(FolderError, match=f"out/{name} .*symbolic link"):
        run(folder, sweeper.Grid(trials=1, hidden=[2]))
    assert [path.read_text() for path in target.parent.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["points", "points/0", "points/0/hparams"])
def test_views_are_not_written_through_a_link(sent, tmp_path, name):
    target = victim(tmp_path)
    shutil.rmtree(sent / name)
    (sent / name).symlink_to(target)
    assert "symbolic link" in command("export", sent)[2]
    assert [path.name for path in target.iterdir()] == ["precious"]


def test_a_view_that_is_a_link_is_replaced(sent, tmp_path):
    target = victim(tmp_path) / "precious"
    for path in (sent / "points").rglob("*.*"):
        path.unlink()
        path.symlink_to(target)
    assert command("export", sent)[0] == 0
    assert target.read_text() == "precious"
    assert not (sent / "points" / "funcres.pt").is_symlink()


def test_models_are_not_written_through_a_link(tmp_path):
    folder, target = tmp_path / "out", victim(tmp_path)
    (folder / "points/0/trials").mkdir(parents=True)
    (folder / "points/0/trials/0").symlink_to(target)
    results = run(folder, sweeper.Grid(trials=2, hidden=[2]))
    (failure,) = results.failures
    assert failure.number == 0
    assert "symbolic link" in failure.message
    assert [path.name for path in target.iterdir()] == ["precious"]


def test_a_folder_that_is_itself_a_link_is_the_persons_own(tmp_path):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    assert not run(tmp_path / "out", sweeper.Grid(trials=1, hidden=[2])).failures
    assert (tmp_path / "large disk" / "points" / "0" / "trials" / "0" / "model.pt").is_file()


# -- names and values -----------------------------------------------------------------------------

ANYTHING = """
import blobs
from blobs import dataset, loss, accuracy_style
def model(value, other=None): return blobs.model()
"""

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202e\r\x00"
NASTY = [
    "../../outside",
    "/tmp/outside",
    "~",
    "nul\0byte",
    "CON",
    "x" * 5000,
    "half \ud800",
    ESCAPES,
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "",
    ".",
    "{id}",
    "%s",
    "a\nb",
]


def test_values_of_parameters_stay_values(tmp_path):
    path = tmp_path / "anything.py"
    path.write_text(ANYTHING)
    folder = tmp_path / "deep" / "out"
    before = around(folder)
    points = [{"value": value} for value in NASTY] + [{"value": 1, "other": {ESCAPES: NASTY}}]
    selector = sweeper.FixedSweep.with_fixed_trials(points, 0)
    results = run(folder, selector, path, cores=1, hparams=blobs.UNTUNED)
    assert [point.params for point in results] == points
    assert [point.params for point in load(folder)] == points
    for arguments in LOOKING:
        code, out, err = command(*arguments, folder)
        assert (code, err) == (0, "")
        if "export" not in arguments:
            assert not [one for one in out if not (one.isprintable() or one == "\n")]
    summary = str(results.summary())
    assert not [one for one in summary if not (one.isprintable() or one == "\n")]
    with (folder / "points" / "params.csv").open(newline="", encoding="utf-8") as file:
        cells = [
            cell for row in csv.reader(line.replace("\0", "") for line in file) for cell in row
        ]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    out = tmp_path / "out.csv"
    assert command("export", folder, "--output", out)[0] == 0
    new = {path for path in around(folder) - before if "__pycache__" not in path.parts}
    assert new <= {out, folder.parent}
    ids = {path.name for path in (folder / "points").iterdir() if path.is_dir()}
    assert ids == {str(number) for number in range(len(points))}


@pytest.mark.parametrize("folder", ["a\0b", "x" * 5000, "/dev/null", "/dev/null/x", "/dev/zero"])
def test_folders_that_cannot_be_are_refused(tmp_path, folder):
    with pytest.raises((FolderError, DiskError)):
        run(folder, sweeper.Grid(trials=1, hidden=[2]))
    for arguments in LOOKING:
        code, _, said = command(*arguments, folder)
        assert code == 2
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["../up", "/abs", "..", ".", "", "a/b", "nul\0", "x" * 61, ESCAPES, "a\\b", "C:"]
)
def test_a_problem_is_not_named_like_a_path(tmp_path, name):
    path = tmp_path / "named.py"
    path.write_text(f"name = {name!r}\n" + ANYTHING)
    with pytest.raises(ProblemError, match="expected one that a folder could have"):
        sweeper.sweep(path, sweeper.Grid(trials=1, value=[2]))
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix] == ["named.py"]


# -- command lines --------------------------------------------------------------------------------

OPTIONS = [
    *("--grid", "--random", "--range", "--trials", "--cores", "--total-cores", "--pack", "--seed"),
    *("--cores-per-trial", "--hparams", "--set", "--folder", "--curve-samples", "--backend"),
    *("--selector", "--option"),
]
SAYINGS = [
    *("", " ", "-", "--", "=", "a=", "=1", "a=1", "hidden=2", "hidden=2,", "hidden=1:2", ":", ","),
    *("0", "1", "-1", "1.5", "1e9", "999999999999999999", "9" * 5000, "٣", "1_0", "nan", "inf"),
    *("auto", "off", "inline", "None", "cycles=0", "lr_start=nan", "lr_end=inf", "cycles=1e9"),
    *("\0", "a\0b", "\x1b[31m", "\udcff", "\n", "%s", "{0}", "x" * 5000, "hidden='", "../x"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder; what would be trained is not."""
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("sweeper.engine.engine._run", lambda *_: SweepResult([]))
    return inner


def say(here, option, value):
    usual = {"--grid": "hidden=2", "--trials": "1", "--backend": "inline", "--folder": "out"}
    if option in ("--random", "--range"):
        usual |= {"--random": "2", "--range": "hidden=1:9"}
        del usual["--grid"]
    usual[option] = value
    command("run", "blobs", "--quiet", *(f"{name}={text}" for name, text in usual.items()))
    assert [path.name for path in here.parent.iterdir()] == ["inner"]


@pytest.mark.parametrize("option", OPTIONS)
def test_whatever_is_said_on_the_command_line_is_answered(here, option):
    for saying in SAYINGS:
        if (option, saying) != ("--folder", "../x"):  # that is the person's own wish
            say(here, option, saying)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(option=st.sampled_from(OPTIONS), value=st.text(max_size=12))
def test_arbitrary_text_on_the_command_line_is_answered(here, option, value):
    if option == "--folder":
        value = value.replace("/", "").replace("..", "")
    say(here, option, value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from([*SAYINGS, *OPTIONS, "--help"]) | st.text(max_size=9)))
def test_arbitrary_words_after_a_command_are_answered(here, words):
    words = [word for word in words if "/" not in word]
    for name in ("status", "show", "export"):
        command(name, *words)
    # A module's name: no such one is there.
    command("run", *(f"no-such-{word}" for word in words[:1]), *words[1:], "--no-such")
    assert [path.name for path in here.parent.iterdir()] == ["inner"]
    assert [path.name for path in here.iterdir()] == []


# -- permissions, the network ---------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_files_have_the_permissions_that_the_person_gives(tmp_path, mask):
    before = os.umask(mask)
    try:
        run(tmp_path / "out", sweeper.Grid(trials=1, hidden=[2]))
        with Store.open(tmp_path / "out" / "sweep.db"):
            modes = {
                path: stat.S_IMODE(path.stat().st_mode)
                for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]
            }
    finally:
        os.umask(before)
    assert len(modes) > 10
    for path, mode in modes.items():
        assert mode & mask == 0, path
        assert path.is_dir() or mode & 0o111 == 0, path
    assert modes[tmp_path / "out" / "sweep.db"] & 0o022 == 0


LISTENING = """
import os, psutil, blobs
from blobs import dataset, loss, accuracy_style
def model(hidden):
    me = psutil.Process()
    for process in (me, *me.parents()[:3]):
        found = [one for one in process.net_connections() if one.status == "LISTEN" or one.laddr]
        print("process", process.pid, "has", found)
    return blobs.model(hidden)
"""


@pytest.mark.slow
def test_nothing_listens_on_a_network(tmp_path):
    path = tmp_path / "listening.py"
    path.write_text(LISTENING)
    script = (
        "import sys, os, sweeper, blobs\n"
        "sweeper.sweep(sys.argv[1], sweeper.Grid(trials=1, hidden=[2]), 1, blobs.QUICK,"
        " sys.argv[2], progress=False)\n"
        "print(os.getpid())"
    )
    driver = python("-c", script, str(path), str(tmp_path / "out"), stdout=subprocess.PIPE)
    pid, _ = driver.communicate(timeout=100)
    printed = "".join(log.read_text() for log in (tmp_path / "out" / "logs").iterdir())
    assert f"process {pid.strip()} has []" in printed, "the driver was looked at, too"
    looked = [line for line in printed.splitlines() if line.startswith("process")]
    ours = [line for line in looked if not line.startswith(f"process {os.getpid()} ")]
    assert len(ours) >= 3
    assert all(line.endswith("has []") for line in ours)
