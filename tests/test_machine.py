"""Whether products depend on places, and what a folder knows of the machine it was begun on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import sweeper
from sweeper.errors import ChangedCodeError, FolderError
from sweeper.records import NUMERICS, Target
from sweeper.run.processes.worker import Setup
from sweeper.store.database.store import Store
from sweeper.store.identity import machine_note, numerics_note, numerics_of
from sweeper.store.paths import Paths
from sweeper.train.mode import choose as mode
from sweeper.train.mode import machine
from sweeper.train.mode.machine import (
    check_products,
    depends_on_place,
    not_a_worker,
    products_depend_on_place,
)
from sweeper.train.problem.spec import environment_of
from sweeping import run


def by_place(added, first, second):
    """A product whose last bits depend on the place in the pack."""
    found = torch.baddbmm(added, first, second)
    found[1:] = torch.nextafter(found[1:], torch.tensor(torch.inf))
    return found


def by_size(added, first, second):
    """One whose last bits depend on the size of the pack."""
    found = torch.baddbmm(added, first, second)
    return torch.nextafter(found, torch.tensor(torch.inf)) if len(found) == 8 else found


def by_address(added, first, second):
    """As MKL did on AMD: one function for operands at whole vectors, another for the rest."""
    found = torch.baddbmm(added, first, second)
    for place, operand in enumerate(first):
        if operand.data_ptr() % 16:
            found[place] = torch.nextafter(found[place], torch.tensor(torch.inf))
    return found


def by_layout(added, first, second):
    """One that errs in one layout of its second factor alone."""
    return (
        torch.baddbmm(added, first, second)
        if second.is_contiguous()
        else by_place(added, first, second)
    )


@pytest.mark.parametrize("product", [by_place, by_size, by_address, by_layout])
def test_a_product_that_depends_on_its_place_is_found(product):
    assert depends_on_place(product)


def test_a_product_of_single_operands_does_not_depend_on_places():
    def one_by_one(added, first, second):
        rows = zip(added, first.clone(), second.clone(), strict=True)
        return torch.stack([torch.addmm(*(one.clone() for one in row)) for row in rows])

    assert not depends_on_place(one_by_one)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    products_depend_on_place.cache_clear()
    yield tmp_path / "cache" / "machine"
    products_depend_on_place.cache_clear()


@pytest.mark.parametrize("found", [False, True])
def test_it_is_tried_once_for_a_machine(cache, found, monkeypatch):
    tries = []
    monkeypatch.setattr(machine, "depends_on_place", lambda: tries.append(0) or found)
    for _ in range(2):
        products_depend_on_place.cache_clear()
        assert products_depend_on_place() is found
    assert len(tries) == 1
    (file,) = cache.iterdir()
    file.write_text("neither")
    products_depend_on_place.cache_clear()
    assert products_depend_on_place() is found
    assert json.loads(file.read_text()) is found


def test_a_process_that_was_not_made_to_be_a_worker_tries_for_itself(cache, monkeypatch):
    monkeypatch.setattr(machine, "depends_on_place", lambda: False)
    assert products_depend_on_place() is False  # and kept
    monkeypatch.setattr(machine, "depends_on_place", lambda: True)
    with not_a_worker():
        assert products_depend_on_place() is True
    assert products_depend_on_place() is False
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(cache, monkeypatch):
    cache.parent.write_text("a file")
    monkeypatch.setattr(machine, "depends_on_place", lambda: True)
    assert products_depend_on_place() is True


def test_where_products_depend_on_places_nothing_is_packed(monkeypatch, tmp_path):
    monkeypatch.setattr(mode, "products_depend_on_place", lambda: True)
    results = run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    (note,) = [note for note in results.notes if note.startswith("training:")]
    assert "0 of 1 points in packs; 1 one by one: on this machine the bits" in note
    assert "MKL_CBWR" in note


def test_packs_do_not_go_on_where_products_depend_on_places(monkeypatch, tmp_path):
    run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    monkeypatch.setattr(machine, "depends_on_place", lambda: True)
    with pytest.raises(ChangedCodeError, match="go on where they were begun"):
        run(tmp_path, sweeper.Grid(trials=3, hidden=[2]))
    more = sweeper.Grid(trials=3, hidden=[2])
    assert len(run(tmp_path, more, allow_changed_code=True)[0].perf_val) == 3
    with not_a_worker():
        with pytest.raises(ChangedCodeError, match="on this machine"):
            check_products(allow=False)
        check_products(allow=True)


# -- what a folder knows --------------------------------------------------------------------------


def meta_of(folder):
    with Store.read(Paths(folder).database) as store:
        return store.meta


def test_a_folder_knows_its_numerics_and_its_machine(tmp_path):
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))
    meta = meta_of(tmp_path)
    assert meta["numerics"] == NUMERICS
    assert set(meta["machine"]) == {"processor", "torch", "libraries", "MKL_CBWR"}
    assert torch.__version__.startswith(meta["machine"]["torch"].partition("+")[0])
    assert "MKL" in meta["machine"]["libraries"]


def test_going_on_with_another_processor_is_said(tmp_path):
    def notes():
        return run(tmp_path, sweeper.Grid(trials=1, hidden=[2])).notes

    assert not any("begun with" in note for note in notes())
    with Store.open(Paths(tmp_path).database) as store:
        store.set_meta({"machine": store.meta["machine"] | {"processor": "an abacus"}})
    for _ in range(2):  # and stays said
        (note,) = [note for note in notes() if "begun with processor an abacus" in note]
        assert "last digits" in note


def test_workers_have_what_the_numerics_need_unless_the_driver_has_it(monkeypatch):
    target = Target("a:b", environment=environment_of(2))
    monkeypatch.delenv("MKL_CBWR")
    assert Setup.here(target).environment["MKL_CBWR"] == "AUTO"
    assert "MKL_CBWR" not in Setup.here(Target("a:b", environment=environment_of(1))).environment
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    assert Setup.here(target).environment["MKL_CBWR"] == "AVX2"


def test_a_machine_note_names_what_differs():
    there = {"processor": "a", "torch": "2", "libraries": "MKL 1"}
    assert machine_note({"machine": there}, there) == ""
    assert machine_note({}, there) == ""
    note = machine_note({"machine": there}, there | {"torch": "3"})
    assert note.startswith("begun with torch 2 and gone on with torch 3")


def test_a_folder_of_earlier_numerics_goes_on_with_them(tmp_path):
    assert numerics_of({}, tmp_path) == 1
    assert numerics_of({"numerics": NUMERICS}, tmp_path) == NUMERICS
    assert numerics_note({"numerics": NUMERICS}) == ""
    assert "measured as it was then" in numerics_note({})
    assert environment_of(1) == {}
    assert environment_of(2) == {"MKL_CBWR": "AUTO"}
    for unknown in (NUMERICS + 1, 0, "2"):
        with pytest.raises(FolderError, match=f"numerics {unknown!r}"):
            numerics_of({"numerics": unknown}, tmp_path)


# -- the process that is its own worker -----------------------------------------------------------

FUSSY = """
import os
import blobs
from blobs import *  # the whole problem

def model(hidden):
    assert os.environ.get("MKL_CBWR") == "AUTO", "before the setting"
    return blobs.model(hidden)
"""
DRIVER = """
import os, sys
os.environ.pop("MKL_CBWR", None)
import sweeper
from blobs import UNTUNED
from sweeping import run
for _ in range(2):
    found = run("out", sweeper.Grid(trials=1, hidden=[2]), "fussy", hparams=UNTUNED)
print(len(found.failures), found.notes)
"""


def test_inline_what_needs_a_setting_comes_after_it(tmp_path):
    """In processes of their own: MKL reads its setting once, at the first matrix product."""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    for edit in ("", "def unused(): pass\n"):
        (tmp_path / "fussy.py").write_text(FUSSY + edit)
        found = subprocess.run(
            [sys.executable, "-c", DRIVER],
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        assert found.stdout.startswith("0 ")
        assert "begun with" not in found.stdout


def test_inline_a_program_has_the_setting_of_workers(tmp_path, monkeypatch):
    monkeypatch.delenv("MKL_CBWR")
    found = sweeper.sweep(
        lambda wanted: float(os.environ.get("MKL_CBWR") == wanted),
        [{"wanted": "AUTO"}],
        trials=1,
        folder=tmp_path,
        backend="inline",
        progress=False,
    )
    assert found[0].metrics["value"].tolist() == [1.0]
