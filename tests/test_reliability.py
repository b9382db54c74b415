"""docs/reliability.md says what holds and which test shows it: the page and the tests are equal."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)

WHOLLY = (
    "test_disk.py",
    "test_environment.py",
    "test_hostile.py",
    "test_kills.py",
    "test_odd_data.py",
    "test_resume.py",
    "test_simulate.py",
    "test_together.py",
)
"""Files about nothing else: each of their tests has its line."""


def names_in(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def rows() -> list[list[str]]:
    """The cells of every line of every table, headings left out."""
    cells = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    return [row for row in cells if row[0].strip() != "fault" and not set(row[0]) <= set(" -|")]


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_every_test_that_is_named_exists(file):
    assert {test for where, test in NAMED if where == file} <= names_in(file)


def test_every_line_names_a_test_and_nothing_but_tests():
    assert len(rows()) > 20
    for fault, promise, tests in rows():
        assert promise.strip(), fault
        left = re.sub(r"`test_\w+\.py::test_\w+`", "", tests)
        assert left != tests, f"{fault}: no test"
        assert set(left) <= set(" ,|"), f"{fault}: {left}"


@pytest.mark.parametrize("file", WHOLLY)
def test_every_test_of_these_files_has_its_line(file):
    assert names_in(file) <= {test for where, test in NAMED if where == file}
