"""Who may import whom: docs/architecture.md drawn as a table, and every file read against it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sweeper.run.backends import BACKENDS

ROOT = Path(__file__).parents[1]

BASE = {"records", "settings", "errors"}
LEAVES = {
    *BASE,
    "code",
    "signature",
    "stats",
    "stats.learned",
    "stats.sequential",
    "disk",
    "pace",
    "renamed",
    "summary",
    "results",
    "workload",
}
WORKLOADS = {"train", "program"}
FOLDERS = {"search", "run", "store", "show"} | WORKLOADS

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": {"errors"},
    "settings": {"errors"},
    **dict.fromkeys(LEAVES - BASE, BASE),
    "code": BASE | {"workload"},
    # Values may be classes and functions, which are known by their names.
    "signature": BASE | {"code"},
    # Results sum themselves up, with intervals, read artifacts, and find classes by their names.
    "summary": BASE | {"stats"},
    "results": BASE | {"stats", "summary", "disk", "code"},
    **{folder: LEAVES | {folder} for folder in FOLDERS},
    "study": LEAVES | FOLDERS,
    # The engine knows a workload, not what it is.
    "engine": LEAVES | FOLDERS - WORKLOADS | {"study"},
    "api": LEAVES | FOLDERS | {"engine"},
    # Contracts run the whole loop, in fake time or with jobs that are made up.
    "testing": LEAVES | FOLDERS | {"study"},
    "cli": LEAVES | FOLDERS | {"study", "engine", "api", "sweeper"},
    "__main__": {"cli"},
    # The public names; nothing below `cli` may import them, since they import everything.
    "sweeper": LEAVES | FOLDERS | {"study", "engine", "api", "cli"},
}
"""Parts of the package, each with the parts that it may import; "sweeper" is `__init__.py`."""

TORCH = ("torch", "ignite")
TORCH_IN = ("train/", "program/")
# What `status` and the driver pay for: plans and curves are numbers in, numbers out.
NO_TORCH_IN = (
    *(
        "train/__init__.py",
        "train/problem/spec.py",
        "train/tuning/plans/range_plan.py",
        "train/tuning/stages.py",
    ),
    *(
        "train/problem/behaviour/prints.py",
        "train/tuning/ranges.py",
        "train/native/toolchain.py",
    ),
)

PROCESSES = ("subprocess", "signal", "multiprocessing", "torch.multiprocessing")
# A compiler is a program that runs to its end inside a job; it trains nothing.  A command is a
# program of the user's that is itself the job, with a supervisor that ends it with its worker.  The
# contract of backends is about workers that die, and about signals.
PROCESSES_IN = (
    "run/",
    "train/native/toolchain.py",
    "program/command/process.py",
    "program/command/supervisor.py",
    "testing/backends.py",
    "testing/jobs.py",
)
PROCESS_CALLS = {
    f"os.{name}"
    for name in ("fork", "forkpty", "kill", "killpg", "posix_spawn", "sched_setaffinity", "system")
}


def wrong_arrows(path: str, source: str) -> list[str]:
    """What the file at `path` (below sweeper/) imports or calls and may not."""
    part = (
        "sweeper" if path == "__init__.py" else path.split("/", maxsplit=1)[0].removesuffix(".py")
    )
    if part not in MAY_IMPORT:
        return [f"{path}: the house has no {part}"]
    tree = ast.parse(source)
    found = []
    for line, name in sorted(imported(path, tree)):
        where = f"{path}:{line}: {name}"
        target = part_of(name)
        if target and target != part and target not in MAY_IMPORT[part]:
            found.append(f"{where}: {part} may not import {target}")
        if is_below(name, *TORCH) and (not path.startswith(TORCH_IN) or path in NO_TORCH_IN):
            found.append(f"{where}: torch and ignite belong to train/")
        if is_below(name, "sqlite3") and not path.startswith("store/"):
            found.append(f"{where}: sqlite3 belongs to store/")
        if is_below(name, *PROCESSES, *PROCESS_CALLS) and not path.startswith(PROCESSES_IN):
            found.append(f"{where}: processes, signals and affinity belong to run/")
    return found


def is_below(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def part_of(name: str) -> str | None:
    """The part of the package that `name` is in; None: it is somebody else's."""
    top, _, rest = name.partition(".")
    if top != "sweeper":
        return None
    part = rest.split(".")[0]
    is_part = part in MAY_IMPORT or (ROOT / "sweeper" / f"{part}.py").exists()
    return part if part and is_part else "sweeper"


def imported(path: str, tree: ast.AST) -> set[tuple[int, str]]:
    """Line and full name of all that is imported, wherever in the file, and of what `os` does."""
    found = set()
    of_os = {"os"}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {(node.lineno, each.name) for each in names}
                of_os |= {each.asname for each in names if each.name == "os" and each.asname}
            case ast.ImportFrom(names=names):
                base = absolute(path, node)
                found |= {(node.lineno, f"{base}.{each.name}".strip(".")) for each in names}
            case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function), args=args):
                if function in {"import_module", "__import__"}:
                    constant = [each.value for each in args[:1] if isinstance(each, ast.Constant)]
                    found |= {(node.lineno, str(name)) for name in constant}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in of_os:
                found.add((node.lineno, f"os.{attribute}"))
    return found


def absolute(path: str, node: ast.ImportFrom) -> str:
    """The module that names are imported from, a relative one made absolute."""
    if not node.level:
        return node.module or ""
    package = ["sweeper", *path.split("/")[:-1]]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


FILES = sorted((ROOT / "sweeper").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_arrow_points_the_right_way(file):
    path = file.relative_to(ROOT / "sweeper").as_posix()
    assert wrong_arrows(path, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("results.py", "from sweeper.search.domain import Domain"),
        ("records/points.py", "import sweeper.signature"),
        ("errors.py", "from sweeper.records import Point"),
        ("stats/compare.py", "from sweeper import results"),
        ("search/grid.py", "from sweeper.run.queue import Queue"),
        ("search/grid.py", "from ..run.queue import Queue"),
        ("search/grid.py", "from ..run import queue"),
        ("search/grid.py", "from .. import run"),
        ("search/grid.py", "from sweeper import run as engine"),
        ("search/grid.py", "import sweeper"),
        ("search/grid.py", "from sweeper import sweep"),
        ("search/grid.py", "from sweeper import *"),
        ("search/grid.py", "from sweeper.api.sweep import sweep"),
        ("run/backends/local.py", "from ...train import job"),
        ("run/backends/local.py", "def f():\n    import sweeper.train.job"),
        ("run/backends/local.py", "def f():\n    if True:\n        from sweeper import store"),
        ("run/backends/local.py", "importlib.import_module('sweeper.train.job')"),
        ("run/backends/local.py", "import torch"),
        ("show/table.py", "from sweeper.study import Study"),
        ("study/study.py", "from sweeper.api.sweep import sweep"),
        ("study/points.py", "from ..cli import main"),
        ("engine/engine.py", "from sweeper.train.workload import ProblemWorkload"),
        ("engine/engine.py", "from sweeper.api.reading import read_problem"),
        ("workload.py", "from sweeper.train.problem.spec import Brief"),
        ("api/sweep.py", "from sweeper import cli"),
        ("api/sweep.py", "import torch.nn"),
        ("__main__.py", "from sweeper.api.sweep import sweep"),
        ("helpers.py", "import os"),
        ("train/tuning/plans/range_plan.py", "import torch"),
        ("train/tuning/ranges.py", "from torch.nn import Module"),
        ("train/__init__.py", "def f():\n    from ignite.engine import Engine"),
        ("store/database/store.py", "import torch"),
        ("train/eager/trial.py", "import sqlite3"),
        ("api/sweep.py", "from sqlite3 import connect"),
        ("cli/__init__.py", "import signal"),
        ("program/script.py", "from subprocess import run"),
        ("program/command/command.py", "import signal"),
        ("train/job.py", "import torch.multiprocessing as mp"),
        ("train/job.py", "from torch import multiprocessing"),
        ("disk/files.py", "from multiprocessing.connection import Connection"),
        ("disk/files.py", "import os\ndef f():\n    os.kill(1, 0)"),
        ("disk/files.py", "import os as system\nsystem.fork()"),
        ("disk/files.py", "from os import sched_setaffinity"),
    ],
)
def test_a_wrong_arrow_is_caught(path, source):
    assert len(wrong_arrows(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("records/metrics.py", "from sweeper.errors import SettingsError"),
        ("records/points.py", "from sweeper.records.stages import trial_stage"),
        ("disk/files.py", "import os\nos.replace('a', 'b')\nos.fsync(3)"),
        ("disk/files.py", "import signature, torchless, ossify"),
        (
            "search/selectors/grid.py",
            "from sweeper.signature import encode\nfrom .selector import Any",
        ),
        ("search/grid.py", "from . import selector\nfrom ..records import Params"),
        ("run/backends/local.py", "import os, signal, multiprocessing\nos.kill(1, 0)"),
        ("run/backends/local.py", "from .base import Backend\nfrom ..queue import Queue"),
        ("run/job.py", "TARGET = 'sweeper.train.job:execute'"),
        ("train/packed/trainer.py", "import torch\nfrom ignite.engine import Engine"),
        ("store/database/store.py", "import sqlite3"),
        ("study/session.py", "from sweeper.study.points import Points\nfrom . import progress"),
        (
            "study/study.py",
            "from sweeper.train.tuning.stages import Trials\nfrom sweeper import search",
        ),
        ("engine/engine.py", "from sweeper.study import Study\nfrom sweeper import run, store"),
        ("cli/__init__.py", "from sweeper import __version__, api"),
        ("__main__.py", "from sweeper.cli import main"),
        ("__init__.py", "from sweeper.api.sweep import sweep\nfrom .search import Grid"),
    ],
)
def test_a_right_arrow_is_let_through(path, source):
    assert wrong_arrows(path, source) == []


# -- backends -------------------------------------------------------------------------------------


def constants(source: str) -> set[str]:
    """The texts that a file has as values."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return {node.value for node in nodes if isinstance(node.value, str)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_backend_is_named_outside_of_their_folder(file):
    path = file.relative_to(ROOT / "sweeper").as_posix()
    named = constants(file.read_text(encoding="utf-8")) & set(BACKENDS)
    assert path.startswith("run/backends/") or not named


def test_a_name_of_a_backend_is_seen():
    assert constants('if backend == "inline": pass') & set(BACKENDS)
