"""Files that are never seen half written, and the lock of a folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys

import numpy as np
import psutil
import pytest

from sweeper.disk import files, locking
from sweeper.disk.arrays import add_texts, pack_arrays, read_texts, unpack_arrays
from sweeper.disk.files import json_text, sha256_of_file, write_swapped, writing_many
from sweeper.disk.locking import Holder, folder_lock, read_lock
from sweeper.errors import FolderError

# -- writing --------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_swapped(path, b"new", sync=True)
    assert path.read_bytes() == b"new"
    write_swapped(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


class Stop(BaseException):
    """What no code expects."""


@pytest.mark.parametrize("call", ["fdopen", "fsync", "replace"])
def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def stop(*_args, **_kwargs):
        raise Stop

    monkeypatch.setattr(files.os, call, stop)
    with pytest.raises(Stop):
        write_swapped(path, b"new", sync=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_a_reader_sees_old_or_new_at_every_moment(tmp_path, monkeypatch):
    """The file is looked at after every call that the writer makes to the system."""
    path = tmp_path / "file.bin"
    old, new = b"o" * 100_000, b"n" * 100_000
    path.write_bytes(old)
    seen = []

    def watched(function):
        def call(*args, **kwargs):
            result = function(*args, **kwargs)
            seen.append(path.read_bytes())
            return result

        return call

    for name in ("fdopen", "fsync", "replace"):
        monkeypatch.setattr(files.os, name, watched(getattr(os, name)))
    write_swapped(path, new, sync=True)
    assert set(seen) == {old, new}
    assert seen == sorted(seen, reverse=True), "never old again after new"


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from sweeper.disk import files
call, path = sys.argv[1:]
setattr(files.os, call, lambda *_args, **_kwargs: os.kill(os.getpid(), signal.SIGKILL))
files.write_swapped(Path(path), b"new" * 1000, sync=True)
"""


@pytest.mark.parametrize("call", ["fdopen", "replace"])
def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path, call):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    run = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, call, str(path)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_swapped(path, b"newer")
    assert list(tmp_path.iterdir()) == [path], "what it had begun is still there"


def test_what_was_synced_is_synced_before_the_swap(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        function = getattr(os, name)

        def noted(*args, name=name, function=function):
            calls.append(name)
            return function(*args)

        monkeypatch.setattr(files.os, name, noted)
    write_swapped(tmp_path / "file", b"new", sync=True)
    assert calls == ["fsync", "replace", "fsync"]  # the contents; the swap; the folder's entry


def test_a_numbered_file_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "link"):
        function = getattr(os, name)

        def noted(*args, name=name, function=function, **options):
            calls.append(name)
            return function(*args, **options)

        monkeypatch.setattr(files.os, name, noted)
    folder = tmp_path.resolve() / "new"
    assert files.numbered(folder, ".json") == []
    for number in (1, 2):
        path = files.add_numbered(folder, ".json", b"new")
        assert (path.name, path.read_bytes()) == (f"00000{number}.json", b"new")
    # The contents; the name; the folder's entry; at first also that of the folder.
    assert calls == ["fsync", "link", "fsync", "fsync", "fsync", "link", "fsync"]
    (folder / "000007.json").touch()
    (folder / "notes.json").touch()
    assert files.add_numbered(folder, ".json", b"").name == "000008.json"
    assert files.numbered(folder, ".json") == [1, 2, 7, 8]


def test_a_number_is_given_once_where_another_process_was_faster(tmp_path, monkeypatch):
    folder = tmp_path.resolve()
    files.add_numbered(folder, ".json", b"theirs")
    monkeypatch.setattr(files, "numbered", lambda *_: [])  # listed before the other one wrote
    assert files.add_numbered(folder, ".json", b"ours").name == "000002.json"
    assert (folder / "000001.json").read_bytes() == b"theirs"
    assert len(list(folder.iterdir())) == 2


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    write_swapped(tmp_path / "swapped", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "swapped")}
    assert len(modes) == 1


def test_many_files_are_written_side_by_side(tmp_path):
    given = {tmp_path / str(n % 7) / f"{n}.bin": bytes([n]) * n for n in range(200)}
    with writing_many() as write:
        for path, data in given.items():
            write(path, data)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == given


def test_of_data_for_the_same_file_the_last_remains(tmp_path):
    with writing_many() as write:
        for n in range(300):
            write(tmp_path / str(n % 3), b"%d" % n)
    found = [(tmp_path / str(n)).read_bytes() for n in range(3)]
    assert found == [b"297", b"298", b"299"]


def test_one_of_many_files_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)

    def write_all():
        with writing_many() as write:
            write(tmp_path / "link" / "file", b"new")
            write(tmp_path / "other", b"new")

    with pytest.raises(FolderError, match=r"link.*symbolic link"):
        write_all()
    assert not list(tmp_path.glob("file"))


def test_json_is_readable_by_people():
    text = json_text({"lr_min": 0.1, "sizes": [1, 2]}).decode()
    assert json.loads(text) == {"lr_min": 0.1, "sizes": [1, 2]}
    assert text.endswith("}\n")
    assert "\n" in text.rstrip()


def test_a_checksum_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "a") == expected


# -- arrays ---------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_were():
    arrays = {
        "perf": np.linspace(0, 1, 7),
        "empty": np.empty((0, 3)),
        "whole": np.arange(4, dtype=np.int64),
        "text": np.array("a digest"),
        "single": np.float32(0.1),
    }
    found = unpack_arrays(pack_arrays(arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found[name], array)


def test_no_arrays_are_no_bytes():
    assert pack_arrays({}) == b""
    assert unpack_arrays(b"") == {}


def test_the_same_arrays_are_the_same_bytes():
    assert pack_arrays({"a": np.arange(3)}) == pack_arrays({"a": np.arange(3)})


def test_objects_are_neither_written_nor_read():
    objects = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(ValueError, match=r"'a' holds objects"):
        pack_arrays({"a": objects})
    with contextlib.closing(io.BytesIO()) as buffer:
        np.savez(buffer, a=objects)
        with pytest.raises(ValueError, match="allow_pickle"):
            unpack_arrays(buffer.getvalue())


# -- the lock -------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from sweeper.disk.locking import folder_lock
with folder_lock(Path(sys.argv[1])) as dead:
    print("held", dead, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(lock):
    """A process that holds the lock until it is told to end."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout.readline().startswith("held")
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path):
    lock = tmp_path / "folder" / "lock"
    with another_process(lock) as other:
        start = psutil.Process(other.pid).create_time()
        with pytest.raises(FolderError) as refused, folder_lock(lock):
            pass
        holder = Holder(socket.gethostname(), other.pid, start)
        assert str(holder) in str(refused.value)
        for part in (str(lock.parent), f"process {other.pid}", socket.gethostname(), "started 2"):
            assert part in str(refused.value)
        assert read_lock(lock) == holder
        # Being refused changes nothing for the one who holds it.
        with pytest.raises(FolderError, match=str(other.pid)), folder_lock(lock):
            pass


def test_a_dead_process_is_succeeded_and_named(tmp_path):
    lock = tmp_path / "lock"
    with another_process(lock) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert read_lock(lock) is None
    with folder_lock(lock) as dead:
        assert dead.pid == other.pid
        assert dead.host == socket.gethostname()
        assert read_lock(lock).pid == os.getpid()


def test_a_lock_that_was_given_back_leaves_nobody_to_succeed(tmp_path):
    lock = tmp_path / "lock"
    with another_process(lock) as other:
        other.communicate("")
        assert other.returncode == 0
    with folder_lock(lock) as dead:
        assert dead is None
    assert read_lock(lock) is None
    with contextlib.suppress(Stop), folder_lock(lock):
        raise Stop
    with folder_lock(lock) as dead:
        assert dead is None


def test_the_same_process_is_refused_too(tmp_path):
    lock = tmp_path / "lock"
    with folder_lock(lock), pytest.raises(FolderError, match=f"process {os.getpid()} on"):
        folder_lock(lock).__enter__()


def test_a_lock_that_says_nothing_is_still_a_lock(tmp_path):
    lock = tmp_path / "lock"
    with another_process(lock):
        lock.write_text("{half")
        with pytest.raises(FolderError, match="another process"), folder_lock(lock):
            pass
    with folder_lock(lock) as dead:
        assert dead is None


def test_somebody_who_only_asks_who_has_it_is_in_nobodys_way(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    lock.touch()
    with lock.open() as reader:
        locking.fcntl.flock(reader, locking.fcntl.LOCK_SH)
        # It lets go while the other waits for its next try.
        let_go = lambda _: locking.fcntl.flock(reader, locking.fcntl.LOCK_UN)  # noqa: E731
        monkeypatch.setattr(locking.time, "sleep", let_go)
        with folder_lock(lock) as dead:
            assert dead is None


def test_nobody_drives_a_folder_that_is_not_there(tmp_path):
    assert read_lock(tmp_path / "none" / "lock") is None


TEXTS = {"way": "flat", "notes": ["one", "two ±"], "empty": ""}


@pytest.mark.parametrize("arrays", [{}, {"loss": np.array([0.5, 0.25]), "step": np.arange(3)}])
def test_texts_are_kept_beside_arrays_and_read_again(arrays):
    data = add_texts(pack_arrays(arrays), TEXTS)
    assert data == pack_arrays({**arrays, **{name: np.array(text) for name, text in TEXTS.items()}})
    assert read_texts(data) == TEXTS
    found = unpack_arrays(data)
    assert {name: found[name].tolist() for name in arrays} == {
        name: array.tolist() for name, array in arrays.items()
    }


def test_no_texts_change_nothing():
    data = pack_arrays({"loss": np.array([0.5])})
    assert add_texts(data, {}) == data
    assert add_texts(b"", {}) == b""
    assert read_texts(data) == read_texts(b"") == {}
