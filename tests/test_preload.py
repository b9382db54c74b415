"""What the fork server imports before workers are made: read off files, and never a danger."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from sweeper.code import importing as loading
from sweeper.code.importing import installed_imports
from sweeper.run.processes.server import ForkServer


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A problem with neighbours, and an installed package; whatever runs leaves a file."""
    site, own = tmp_path / "site", tmp_path / "own"
    runs = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    files = {
        site / "heavy/__init__.py": runs,
        site / "heavy/part.py": runs,
        own / "problem.py": runs + "import os, heavy.part\nfrom near.inner import x\nimport gone\n",
        own / "near/inner.py": runs + "from heavy import y\nfrom . import z\nimport problem\n",
        own / "broken.py": "import heavy\nthis is no Python\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(own)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(site))
    return own


@pytest.mark.parametrize("given", ["problem", "problem.py", "path"])
def test_what_is_installed_is_found_and_nothing_runs(tree, given, monkeypatch):
    monkeypatch.chdir(tree)
    found = installed_imports(tree / "problem.py" if given == "path" else given)
    assert set(found) == {"heavy.part", "heavy"}
    assert not (tree.parent / "ran").exists()


@pytest.mark.parametrize(
    "given", ["nowhere", "no.where", "nowhere.py", "broken", "sys", "", "a..b"]
)
def test_what_cannot_be_read_needs_nothing(tree, given):
    assert installed_imports(given) == ()


def test_modules_that_import_without_end_are_read_no_further(tree, monkeypatch):
    monkeypatch.setattr(loading, "_MOST_FILES", 1)
    assert installed_imports("problem") == ("heavy.part",)


def test_what_is_pythons_own_is_not_read(tree, monkeypatch):
    (tree / "first.py").write_text("import problem, typing\n")
    monkeypatch.setattr(loading, "_MOST_FILES", 2)
    assert installed_imports("first") == ("heavy.part",)


def make_worker(server):
    """A worker that ends at once; its process id."""
    reader, writer = os.pipe()
    status, ended = os.pipe()
    pid = server.fork(writer, reader, ended, None)
    for fd in (reader, writer, status, ended):
        os.close(fd)
    return pid


def threads_of(server):
    return len(list(Path(f"/proc/{server._process.pid}/task").iterdir()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "raise SystemExit('no')",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()",
    ],
    ids=["sound", "raises", "starts a thread"],
)
def test_the_server_has_one_thread_whatever_is_wished(tmp_path, monkeypatch, text):
    mark = tmp_path / "mark"
    counted = f"with open({str(mark)!r}, 'a') as file: file.write('x')\n"
    (tmp_path / "wished_module.py").write_text(counted + text)
    monkeypatch.syspath_prepend(tmp_path)
    server = ForkServer(("json",), ("wished_module", "no.such.module"))
    try:
        assert make_worker(server) > 0, "it makes workers"
        assert mark.read_text() == "x", "once, also where it had to begin anew"
        assert threads_of(server) == 1
    finally:
        server.close()
    assert server._process.returncode == 0
