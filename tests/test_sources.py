"""The files that a problem consists of: found without running them, and known by what they say."""

from __future__ import annotations

import functools
import importlib
import sys
import zlib
from types import ModuleType

import pytest

import sweeper
from blobs import UNTUNED
from sweeper.code import sources
from sweeper.code.importing import find_ref
from sweeper.code.sources import check_sources
from sweeper.errors import ChangedCodeError
from sweeper.store.sources import Kept, changed_files
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.reading import read_spec
from sweeping import run as run_tuned

run = functools.partial(run_tuned, hparams=UNTUNED)
"""Nothing here is about tuning."""

TOY = """
from torch import nn
from torch.utils.data import TensorDataset
import torch
accuracy_style = "inv-loss"
loss = nn.MSELoss
def model(hidden=3): return nn.Linear(3, 1)
def dataset():
    x = torch.arange(12.0).reshape(4, 3)
    return TensorDataset(x, x[:, :1]), TensorDataset(x, x[:, :1])
"""

FILES = {
    "own/__init__.py": "",
    "own/problem.py": TOY
    + """
import json, importlib, numpy, sweeper, helper, own.nets
from . import losses
from .deep import inner
TYPE_CHECKING = False
def late():
    import in_a_function
    import nowhere.to_be_found
    importlib.import_module("by_constant")
if __name__ == "__main__":
    import plots
if TYPE_CHECKING:
    import only_types
else:
    import not_for_types
__import__("by" + "_name")
""",
    "own/nets.py": "from own.deep.more import *",
    "own/losses.py": "",
    "own/deep/__init__.py": "",
    "own/deep/inner.py": "from .. import up",
    "own/deep/more.py": "",
    "own/up.py": "",
    "own/unused.py": "",
    "helper.py": "import helpers_own",
    "helpers_own.py": "import helper",
    "in_a_function.py": "",
    "by_constant.py": "",
    "by_name.py": "",
    "plots.py": "",
    "only_types.py": "",
    "not_for_types.py": "",
    "site-packages/installed.py": "",
}

WANTED = {
    *("__init__.py", "problem.py", "nets.py", "losses.py", "up.py"),
    *("deep/__init__.py", "deep/inner.py", "deep/more.py"),
    *("../helper.py", "../helpers_own.py", "../in_a_function.py", "../by_constant.py"),
    *("../by_name.py", "../not_for_types.py"),
}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder where Python looks; what is imported from it is forgotten afterwards.

    Modules of the same names that other tests have left do not stand in the way.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "site-packages"), *sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def labels(spec):
    return {source.label for source in spec.sources}


def test_what_a_problem_imports_is_found_wherever_it_says_so(folder):
    write(folder, FILES)
    spec = read_spec(-1, find_ref("own.problem"))
    assert labels(spec) == WANTED
    by_label = {source.label: source for source in spec.sources}
    own = by_label["problem.py"]
    assert own.sha256 == spec.source_sha256
    assert zlib.decompress(own.text).decode() == FILES["own/problem.py"]
    assert by_label["../helper.py"].path == str(folder / "helper.py")


def test_what_is_said_by_name_is_found_without_running_it(folder):
    write(folder, FILES)
    problem = load_problem(find_ref("own.problem"))
    for name in ("own.losses", "own.deep.inner", "own.up", "own.deep", "helper", "helpers_own"):
        del sys.modules[name]
    assert labels(problem.spec()) == WANTED - {"../by_name.py"}
    assert "own.up" not in sys.modules


def test_what_is_installed_is_not_a_source_unless_the_problem_is(folder):
    write(folder, {"problem.py": TOY + "import installed", "site-packages/installed.py": ""})
    assert labels(read_spec(-1, find_ref("problem.py"))) == {"problem.py"}
    pack = {"pack/__init__.py": "", "pack/problem.py": TOY + "import pack.more", "pack/more.py": ""}
    write(folder / "site-packages", pack)
    found = labels(read_spec(-1, find_ref("pack.problem")))
    assert found == {"__init__.py", "problem.py", "more.py"}


def test_the_files_are_the_same_however_the_problem_is_given(folder):
    write(folder, {"problem.py": TOY + "import helper", "helper.py": ""})
    by_path = load_problem(find_ref("problem.py")).spec()
    del sys.modules["problem"], sys.modules["helper"]
    by_name = load_problem(find_ref("problem")).spec()
    assert by_path.sources == by_name.sources


def test_modules_that_are_made_up_have_no_files(folder, monkeypatch):
    write(folder, {"problem.py": TOY + "import made_up, gone"})
    for name, file in (("made_up", "made_up.py"), ("gone", str(folder / "gone.py"))):
        module = ModuleType(name)
        module.__file__ = file
        monkeypatch.setitem(sys.modules, name, module)
    assert labels(load_problem(find_ref("problem.py")).spec()) == {"problem.py"}
    everything = load_problem(find_ref("problem.py")).spec(list(sys.modules))
    assert "problem.py" in labels(everything)


def test_of_very_many_files_the_nearest_are_taken(folder, monkeypatch):
    monkeypatch.setattr(sources, "MOST_FILES", 2)
    chain = {f"chain_{n}.py": f"import chain_{n + 1}" for n in range(3)}
    write(folder, {"problem.py": TOY + "import chain_0", **chain, "chain_3.py": ""})
    assert labels(read_spec(-1, find_ref("problem.py"))) == {"problem.py", "chain_0.py"}


def test_a_large_file_is_known_and_not_kept(folder, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST", 10)
    write(folder, {"problem.py": TOY})
    (source,) = read_spec(-1, find_ref("problem.py")).sources
    assert source.text == b""
    assert source.sha256


def test_a_file_that_changed_or_is_gone_is_named(tmp_path):
    path = tmp_path / "helper.py"
    path.write_text("x = 1")
    known = [(str(path), sweeper.disk.files.sha256_of_file(path))]
    check_sources(known)
    path.write_text("x = 2")
    with pytest.raises(ChangedCodeError, match=r"helper.py was changed while the sweep ran"):
        check_sources(known)
    path.unlink()
    with pytest.raises(ChangedCodeError, match=r"helper.py was changed while the sweep ran"):
        check_sources(known)


@pytest.mark.parametrize(
    ("known", "now", "changed"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, ()),
        ({"a": "1", "b": "2"}, {"a": "3", "b": "2"}, ("a",)),
        ({"a": "1"}, {"a": "1", "b": "2"}, ("b",)),
        ({"a": "1", "b": "2"}, {"a": "1"}, ("b",)),
        ({"a": "1", "b": "2"}, {"a": "1", "../b": "2"}, ()),
        ({"a": "1", "b": "2"}, {"a": "1", "../b": "3"}, ("../b", "b")),
    ],
)
def test_files_that_differ_are_named_and_one_that_moved_does_not(known, now, changed):
    as_files = [[Kept(*pair, b"") for pair in files.items()] for files in (known, now)]
    assert changed_files(*as_files) == changed


CHANGES_ITS_HELPER = """
import os, pathlib, blobs, changing_helper
from blobs import dataset, loss, accuracy_style
def model(hidden): return blobs.model(hidden)
def handlers(trainer, evaluator, trial):
    if trial.number == 1:
        path = pathlib.Path(__file__).with_name("changing_helper.py")
        path.write_text(path.read_text() + "# more")
        os._exit(1)  # the next worker would import what it says now
"""


def test_a_helper_that_changes_while_the_sweep_runs_stops_it(tmp_path):
    write(tmp_path, {"problem.py": CHANGES_ITS_HELPER, "changing_helper.py": "x = 1\n"})
    selector = sweeper.Grid(trials=3, hidden=[2])
    path = tmp_path / "problem.py"
    with pytest.raises(ChangedCodeError, match=r"changing_helper\.py was changed while the sweep"):
        run(tmp_path / "out", selector, path, backend="local", total_cores=1, cores=1)
