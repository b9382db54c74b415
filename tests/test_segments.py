"""Checkpoints in jobs and sweeps: budgets, killed workers, what is kept and what is removed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

import sweeper
from sweeper.api.reading import read_problem
from sweeper.disk.files import sha256_of_file
from sweeper.errors import SettingsError
from sweeper.records import CHOOSE_MODE, EAGER, PACKED, TRIAL, Failure, Job, Outcome, trial_stage
from sweeper.search import Ask
from sweeper.show.status import describe_status
from sweeper.signature import encode
from sweeper.store.checkpoints import remove_checkpoints
from sweeper.store.database.store import Store
from sweeper.store.paths import Paths
from sweeper.store.results.load import read_results
from sweeper.store.status import checkpoint_size, read_status
from sweeper.train.job import execute
from sweeper.train.replica.checkpoints import checkpoints_of
from sweeper.train.tuning.trials import Trial
from sweeper.train.worker.opened import close
from sweeper.train.worker.task import Task
from sweeper.workload import TargetOptions
from sweeping import assert_same_bits, outcomes, run
from test_budgets import Asking

POINT = "5e" * 32
PARAMS = {"params": encode({"hidden": 3, "dropout": 0.2}), "id": 0}
SETTINGS = Trial(0.02, 0.2, batch_size=16, cycle_epochs=2, cycles=2, steps=16)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def target(tmp_path):
    """What workers execute, for sweeps in a folder."""
    with read_problem("blobs", "inline") as reading:
        opened = reading.open(7, 1)

        def make(folder=tmp_path):
            paths = Paths(folder.resolve())
            return opened.target(
                TargetOptions(
                    seed=7,
                    threads=1,
                    numerics=2,
                    model_path=paths.model_pattern,
                    checkpoints=str(paths.checkpoints),
                    logs=str(paths.logs),
                    checkpoint_every=1e9,
                    curve_samples=5,
                    save_models=True,
                    allow_changed_code=False,
                )
            )

        yield make
        close()


def payload_of(target, kind):
    """Settings of trials that are trained one by one, or in packs."""
    if kind == EAGER:
        return SETTINGS.payload() | {"way": EAGER} | PARAMS
    told = {"trial": SETTINGS.payload()} | PARAMS
    (found,) = execute(target.context, target.fd, Job(0, POINT, "probe", CHOOSE_MODE, (0,), told))
    assert found.info["way"] == kind, found
    return SETTINGS.payload() | dict(found.info) | PARAMS


def trained(target, payload, budget, numbers):
    job = Job(1, POINT, "trial", trial_stage(budget), numbers, payload)
    found = {one.number: one for one in execute(target.context, target.fd, job)}
    assert all(one.failure is None for one in found.values()), found
    return {number: (one.metrics, one.arrays, one.info) for number, one in found.items()}


@pytest.mark.parametrize("kind", [EAGER, PACKED])
def test_a_job_with_a_larger_budget_goes_on_from_those_with_a_smaller(kind, target, tmp_path):
    one, other = target(tmp_path / "one"), target(tmp_path / "other")
    payload = payload_of(one, kind)
    through = trained(other, payload, 3, (0, 1, 2))
    first = trained(one, payload, 1, (1,))
    assert trained(one, payload, 3, (0, 1, 2)) == through
    assert trained(other, payload, 1, (1,)) == first
    # Each budget has its own file of weights, which its outcome names.
    paths = Paths(tmp_path / "one")
    for budget, found in ((1, first), (3, through)):
        assert sha256_of(found[1]) == sha256_of_file(paths.model(0, 1, trial_stage(budget)))
    without, same = trained(one, payload, None, (1,)), trained(one, payload, 2, (1,))
    assert sha256_of(without[1]) == sha256_of(same[1]) == sha256_of_file(paths.model(0, 1))


def sha256_of(found):
    _, _, info = found
    return info["model_sha256"]


def test_files_lie_where_the_store_looks_for_them(target, tmp_path):
    paths = Paths(tmp_path)
    made = target()
    trained(made, payload_of(made, EAGER), 1, (4,))
    assert [*paths.checkpoints.rglob("*.*")] == [paths.checkpoints / POINT / "4@1.end"]


# -- what a checkpoint belongs to -----------------------------------------------------------------


def test_everything_that_bits_depend_on_is_in_the_identity(target):
    context = target().context
    job = Job(0, POINT, "trial", "trial@2", (3,), SETTINGS.payload() | PARAMS)

    def identity(context=context, job=job, number=3, trace="", **settings):
        task = Task.read(job)
        trial = replace(task.told.of(number), **settings)
        return checkpoints_of(context, task, number, trial, trace).identity()

    usual = identity()
    assert identity(job=replace(job, stage="trial@5")) == usual, "a larger budget goes on"
    others = [
        identity(replace(context, seed=8)),
        identity(replace(context, numerics=1)),
        identity(replace(context, threads=2)),
        identity(replace(context, curve_samples=6)),
        identity(replace(context, sources=(("blobs.py", "00"),))),
        identity(replace(context, data=replace(context.data, sha256="00"))),
        identity(job=replace(job, point="5f" * 32)),
        identity(job=replace(job, payload=job.payload | {"params": encode({"hidden": 4})})),
        identity(job=replace(job, payload=job.payload | {"cycles": 4, "steps": 32})),
        identity(job=replace(job, stage=TRIAL)),
        identity(number=4),
        identity(trace="a trace"),
        identity(lr_end=0.3),
        identity(batch_size=8),
        identity(schedule="cosine"),
        identity(warmup=0.1),
        identity(options={"weight_decay": 0.1}),
    ]
    assert len({usual, *others}) == 1 + len(others)
    # How often it is saved, and where, is no part of it.
    elsewhere = replace(context, checkpoint_every=0.0, checkpoints="/elsewhere")
    assert identity(elsewhere) == usual


# -- whole sweeps ---------------------------------------------------------------------------------

DIES = """
import os
import torch
from torch import nn
from blobs import dataset, loss, accuracy_style

class Noting(nn.Module):
    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            with open({log!r}, "a+b", buffering=0) as log:
                log.write(b".")
                if log.tell() == {at}:
                    os._exit(7)
        return x

def model():
    return nn.Sequential(Noting(), nn.Linear(2, 4), nn.Dropout(0.1), nn.Linear(4, 2))
"""

FIXED = sweeper.HyperparameterSettings(lr=0.1, batch_size=16, tunings=1, cycle_epochs=1, cycles=5)
"""Five cycles of four steps, and nothing to tune."""


def test_a_worker_that_dies_in_the_third_cycle_costs_no_more_than_that_cycle(tmp_path):
    def swept(folder, at, **options):
        log = tmp_path / f"{folder}.log"
        path = tmp_path / folder / "dies.py"
        path.parent.mkdir()
        path.write_text(DIES.format(log=str(log), at=at))
        options = {"backend": "local", "total_cores": 1, "pack": "off", "hparams": FIXED, **options}
        found = run(tmp_path / folder / "out", sweeper.Grid(trials=1), str(path), **options)
        assert not found.failures
        assert not Paths(tmp_path / folder / "out").checkpoints.exists()
        return found, log.stat().st_size

    quiet, steps = swept("quiet", at=0)
    # The trial's steps are the last ones: 8 of 20 are two cycles, and the 11th is its last.
    killed, taken = swept("killed", at=steps - 20 + 11, checkpoint_every=0)
    assert taken == steps + 3
    assert_same_bits(quiet, killed)
    assert outcomes(tmp_path / "quiet/out") == outcomes(tmp_path / "killed/out")
    again, taken = swept("again", at=steps - 20 + 11)
    assert taken == steps + 11, "nothing is saved within a minute"
    assert_same_bits(quiet, again)


@pytest.mark.parametrize("pack", ["off", "auto"])
def test_a_sweep_with_a_larger_budget_goes_on_from_one_with_a_smaller(pack, tmp_path):
    def swept(folder, *budgets):
        for budget in budgets:
            run(tmp_path / folder, Asking([Ask({"hidden": 3}, 2, budget)]), pack=pack)
        return Paths(tmp_path / folder), outcomes(tmp_path / folder)

    (through, known), (paths, found) = swept("through", 3), swept("out", 1, 3)
    assert known.items() <= found.items()
    for one in (through, paths):
        assert {path.name for path in one.checkpoints.rglob("*.*")} == {"0@3.end", "1@3.end"}


def test_no_result_depends_on_how_often_trials_are_saved(tmp_path):
    usual = run(tmp_path / "usual")
    assert_same_bits(usual, run(tmp_path / "always", checkpoint_every=0))
    assert outcomes(tmp_path / "usual") == outcomes(tmp_path / "always")
    assert not Paths(tmp_path / "always").checkpoints.exists()
    assert_same_bits(usual, run(tmp_path / "usual", checkpoint_every=5)), "it is no identity"


def test_what_a_killed_driver_left_is_removed_by_the_next(tmp_path):
    paths = Paths(tmp_path)
    run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    with Store.read(paths.database) as store:
        (point,) = {one.point for one in store.outcomes() if one.stage == TRIAL}
    for number in (1, 7):
        path = paths.checkpoints / point / f"{number}.part"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"part of a trial")
    run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    assert [path.name for path in paths.checkpoints.rglob("*.part")] == ["7.part"]


def test_what_was_written_in_part_is_removed(tmp_path):
    """A worker may be killed between making a temporary file and renaming it."""
    run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    folder = Paths(tmp_path).checkpoints / POINT
    folder.mkdir(parents=True)
    for name in (".0@3.part.k2j4h1x9", "0@3.end"):
        (folder / name).touch()
    run(tmp_path, sweeper.Grid(trials=2, hidden=[2]))
    assert [path.name for path in folder.iterdir()] == ["0@3.end"]


@pytest.mark.parametrize("every", [-1, math.nan, True, "60"])
def test_seconds_that_are_none_are_refused(every, tmp_path):
    with pytest.raises(SettingsError, match=r"checkpoint_every=.*a number of seconds, 0 or more"):
        run(tmp_path, checkpoint_every=every)


# -- files ----------------------------------------------------------------------------------------


def test_files_are_kept_while_somebody_may_go_on_from_them(tmp_path):
    paths = Paths(tmp_path)
    folder = paths.checkpoints / POINT
    files = {"0.part", "1.part", "0@1.end", "0@3.part", "0@3.end", "0@9.part", "1@1.end"}

    def left_after(stage, failure=None):
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).touch()
        remove_checkpoints(paths, [Outcome(POINT, stage, 0, 0.0, 0.0, failure=failure)])
        return files - {path.name for path in folder.iterdir()}

    failed = Failure("exception", "it raised")
    assert left_after(TRIAL) == {"0.part"}
    assert left_after("trial@1") == set()
    assert left_after("trial@3") == {"0@3.part", "0@1.end"}
    assert left_after("trial@3", failed) == {"0@3.part"}
    assert left_after("trial@10") == {"0@1.end", "0@3.end"}
    assert left_after("lr_range") == set()


def test_their_size_is_in_the_status_where_there_are_any(tmp_path):
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))
    paths = Paths(tmp_path)

    def status():
        with Store.read(paths.database) as store:
            results = read_results(store)
            return describe_status(read_status(store, paths), results, 0.0, checkpoint_size(paths))

    assert "checkpoints" not in status()
    path = paths.checkpoints / POINT / "0@1.end"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(3 << 19))
    assert "checkpoints  1 file, 1.5 MiB" in status()


def test_a_new_beginning_moves_them_to_history(tmp_path):
    paths = Paths(tmp_path)
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]))
    (paths.checkpoints / POINT).mkdir(parents=True)
    (paths.checkpoints / POINT / "0@1.end").touch()
    run(tmp_path, sweeper.Grid(trials=1, hidden=[2]), resume=False)
    assert not paths.checkpoints.exists()
    (kept,) = Path(paths.history).iterdir()
    assert (kept / "checkpoints" / POINT / "0@1.end").exists()
