"""What a sweep ran in: read beside it, stored once, and written as files."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import platform
import subprocess
import zlib

import pytest

import sweeper
from sweeper.run import environment
from sweeper.run.environment import Environment, packages
from sweeper.store.database.store import Store
from sweeper.store.environment import read_environment
from sweeper.store.paths import Paths
from sweeping import run as sweep_problem

OBJECTIVE = "def objective(x):\n    return x\n"


def git(folder, *arguments):
    own = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    command = ["git", *own, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def code(tmp_path):
    """A program in a repository, with one commit and a change since."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_program.py").write_text(OBJECTIVE)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    (folder / "own_program.py").write_text(f"# changed ±\n{OBJECTIVE}")
    (folder / "new.txt").touch()
    return folder


def run(code, folder, **options):
    options = {"trials": 1, "backend": "inline", "progress": False, **options}
    return sweeper.sweep(f"{code}/own_program.py:objective", [{"x": 1}], folder=folder, **options)


def files(folder):
    return {path.name: path.read_text() for path in (folder / "environment").iterdir()}


def stored(folder):
    with Store.read(Paths(folder).database) as store:
        query = "SELECT count(*) FROM events WHERE kind = 'environment'"
        return store.connection.execute(query).fetchone()[0]


def test_a_program_has_it_in_files_and_in_its_database(code, tmp_path):
    folder = tmp_path / "f"
    run(code, folder)
    found = sweeper.open(folder).environment()
    assert found == files(folder)
    assert found["git-commit.txt"] == git(code, "rev-parse", "HEAD")
    assert " M own_program.py\n?? new.txt\n" in found["git-status.txt"]
    assert "\n+# changed ±\n" in found["git-diff.patch"]
    assert json.loads(found["versions.json"])["python"] == platform.python_version()
    assert "python" in found["command.txt"]
    assert f"\nnumpy=={importlib.metadata.version('numpy')}\n" in found["packages.txt"]


def test_it_is_stored_anew_only_where_it_differs(code, tmp_path):
    folder = tmp_path / "f"
    run(code, folder)
    run(code, folder)
    assert stored(folder) == 1
    git(code, "checkout", "-q", "own_program.py")
    run(code, folder)  # a comment is no change of the code
    assert stored(folder) == 2
    assert "git-diff.patch" not in files(folder)
    run(code, folder, record_environment=False)
    assert stored(folder) == 2
    run(code, folder, record_environment=False, resume=False)
    assert sweeper.open(folder).environment() == {}
    assert not (folder / "environment").exists()


def test_of_a_problem_it_is_recorded_where_that_is_asked_for(tmp_path):
    folder = sweeper.open(tmp_path / "f")
    folder.finish()
    sweep_problem(folder.folder, sweeper.ManualSearch())
    assert folder.environment() == {}
    sweep_problem(folder.folder, sweeper.ManualSearch(), record_environment=True)
    assert "packages.txt" in folder.environment()


def test_the_packages_are_those_that_an_import_finds():
    def normal(text):
        return text.lower().replace("_", "-").replace(".", "-")

    found = {f"{one.name}=={one.version}" for one in importlib.metadata.distributions()}
    assert set(map(normal, packages())) == set(map(normal, found))


def test_without_a_repository_or_git_the_rest_is_kept(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert not any(
        name.startswith("git") for name in Environment(tmp_path / "own", {}).take(wait=True)
    )
    monkeypatch.setenv("PATH", "")
    found = Environment(tmp_path, {"torch": "1"})
    assert json.loads(found.take(wait=True)["versions.json"])["torch"] == "1"
    assert found.take() is None


def test_a_repository_runs_no_program_of_its_own(code, tmp_path):
    mark = tmp_path / "mark"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    (code / ".gitattributes").write_text("*.py diff=own\n")
    for key in ("diff.external", "core.fsmonitor", "diff.own.textconv", "core.pager"):
        git(code, "config", key, str(program))
    assert "changed" in Environment(code, {}).take(wait=True)["git-diff.patch"]
    assert not mark.exists()


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no zlib",
        zlib.compress(b"{}")[:-1],
        zlib.compress(b"[]"),
        zlib.compress(b'{"a": 1}'),
        zlib.compress(bytes(20_000)),
    ],
    ids=["empty", "other", "cut", "list", "number", "bomb"],
)
def test_what_no_sweep_writes_is_refused(tmp_path, code, packed, monkeypatch):
    run(code, tmp_path / "f")
    monkeypatch.setattr("sweeper.store.environment._LARGEST", 10_000)
    with Store.open(Paths(tmp_path / "f").database) as store:
        store.add_event(0.0, "environment", {"zlib": base64.b64encode(packed).decode()})
        with pytest.raises(sweeper.FolderError):
            read_environment(store)


def test_a_text_has_a_largest_length(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "LARGEST", 10)
    assert max(map(len, Environment(tmp_path, {}).take(wait=True).values())) == 10
