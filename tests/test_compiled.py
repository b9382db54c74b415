"""Native steps: the same bits in every company, made once, and never trusted blindly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import stepped
import sweeper
from segments import Killed, count_steps, packed
from stepped import BATCH, model
from sweeper.errors import ChangedCodeError
from sweeper.records import CORRECT, KFold
from sweeper.train.data.samples import Data
from sweeper.train.data.splits import Splits
from sweeper.train.mode import cost as worth
from sweeper.train.mode.choose import choose_mode
from sweeper.train.mode.cost import is_worth_compiling
from sweeper.train.native import cache as compiled
from sweeper.train.native import toolchain
from sweeper.train.native.cache import cache_folder
from sweeper.train.native.inductor import CompilePlan, whole_step
from sweeper.train.native.toolchain import NotCompiledError, check_toolchain
from sweeper.train.packs.members import Member, stack
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.optimizer.recipe import Recipe
from sweeper.train.tuning.trials import Trials
from sweeper.train.vectorize.lowering import batched
from sweeper.train.vectorize.trace import record
from sweeping import HERE, assert_same_bits, outcomes, run
from test_probes import PARAMS, TRIAL, bits, data_of, problem_of, streams_of

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux", reason="there is no C++ compiler"
)

COMPILER = """#!/bin/sh
echo "$@" >> {calls}
exec g++ "$@"
"""


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """A cache for all tests, and a compiler that notes what it is asked for."""
    folder = tmp_path_factory.mktemp("tools")
    path = folder / "c++"
    path.write_text(COMPILER.format(calls=folder / "calls"))
    path.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def here(tools, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tools))
    monkeypatch.setenv("CXX", str(tools / "c++"))
    monkeypatch.setattr(worth, "COMPILING", 0.0)
    toolchain.toolchain.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    toolchain.toolchain.cache_clear()


def compilations(tools):
    calls = (tools / "calls").read_text().splitlines()
    return len([call for call in calls if ".main.cpp" in call])


PROBLEM = problem_of(stepped.model, optimizer=stepped.optimizer)


def pack(numbers, mode="compiled", problem=PROBLEM, data=None):
    data = data or data_of()
    told = Trials(replace(TRIAL, lr_start=0.001, lr_end=0.01, batch_size=BATCH))
    made = [Member.make(problem, data, streams_of(n, "trial"), PARAMS, BATCH) for n in numbers]
    found = train_pack(problem, data, made, told, 5, mode)
    return {member.streams.number: trained for member, trained in found}


def alike(one, other):
    assert bits(one.model) == bits(other.model)
    assert repr(one.metrics) == repr(other.metrics)
    for name, curve in one.arrays.items():
        assert curve.tobytes() == other.arrays[name].tobytes()


# -- bits -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trial_is_the_same_alone_and_in_any_company():
    known = pack(range(4))
    for numbers in ([2], [3, 2], [1, 3, 0], [3, 0, 2, 1]):
        for number, trained in pack(numbers).items():
            alike(trained, known[number])
    assert len({repr(trained.metrics) for trained in known.values()}) == 4


def test_a_compiled_trial_is_the_packed_one_but_for_rounding():
    flat = pack([0, 1], "flat")
    for number, found in pack([0, 1]).items():
        for name, value in flat[number].metrics.items():
            assert found.metrics[name] == pytest.approx(value, rel=1e-2)
        assert found.arrays[CORRECT].tobytes() == flat[number].arrays[CORRECT].tobytes()


SEGMENTED = replace(TRIAL, batch_size=BATCH, cycle_epochs=1, cycles=5, steps=5 * 6)


def test_killed_in_any_cycle_a_compiled_trial_goes_on(tmp_path, monkeypatch):
    steps = count_steps(monkeypatch)
    through = packed(None, SEGMENTED, (0,), PROBLEM, mode="compiled")[0]
    for moment in (8, 3, 13):
        steps.clear()
        steps.kill_at = moment
        with pytest.raises(Killed):
            packed(tmp_path, SEGMENTED, (0,), PROBLEM, mode="compiled")
    steps.clear()
    alike(packed(tmp_path, SEGMENTED, (0,), PROBLEM, mode="compiled")[0], through)
    assert len(steps) == 12


def test_a_larger_budget_goes_on_with_compiled_steps(tmp_path, monkeypatch):
    steps = count_steps(monkeypatch)
    through = packed(None, SEGMENTED.with_budget(3), (0, 1), PROBLEM, mode="compiled")
    packed(tmp_path, SEGMENTED.with_budget(1), (0, 1), PROBLEM, mode="compiled")
    steps.clear()
    found = packed(tmp_path, SEGMENTED.with_budget(3), (0, 1), PROBLEM, mode="compiled")
    assert len(steps) == 12
    for number, one in found.items():
        alike(one, through[number])


def test_a_compiled_trial_is_measured_on_its_own_split_and_on_the_test_set():
    two = data_of(78)
    splits = Splits(KFold(5), 78, two.train.y.numpy(), 0)
    data = Data(two.train, two.train, two.val, splits)
    known = pack(range(5), data=data)
    for number, trained in known.items():
        kept, held = splits.of_trial(number)
        parts = {"train": (two.train, kept), "val": (two.train, held), "test": (two.val, ...)}
        for name, (samples, places) in parts.items():
            with torch.no_grad():
                output = trained.model.eval()(samples.x[places])
            loss = nn.functional.cross_entropy(output, samples.y[places])
            assert trained.metrics[f"loss_{name}"] == pytest.approx(float(loss), rel=1e-5)
    assert len({len(splits.of_trial(number)[1]) for number in known}) == 2
    for numbers in ([4], [0, 4], [3, 1, 2]):
        for number, trained in pack(numbers, data=data).items():
            alike(trained, known[number])


# -- the cache ------------------------------------------------------------------------------------

AGAIN = """
import torch
torch.set_num_threads(1)
from test_compiled import pack
print(repr(pack([2])[2].metrics))
"""


def test_another_process_finds_what_was_compiled(tools):
    known = repr(pack([2])[2].metrics)
    before = compilations(tools)
    found = subprocess.run(
        [sys.executable, "-c", AGAIN],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == known
    assert compilations(tools) == before


@pytest.mark.slow
def test_a_damaged_file_is_made_again_and_is_the_same(tools):
    known = pack([2])[2]
    (path,) = [one for one in cache_folder().glob("*.so") if loaded(one)]
    whole = path.read_bytes()
    for spoilt in (b"", whole[:-1], whole[:100], whole[:5000] + b"!" + whole[5001:]):
        replaced(path, spoilt)
        assert compiled._read(path) is None
    before = compilations(tools)
    compiled._entry.cache_clear()
    alike(pack([2])[2], known)
    assert compilations(tools) == before + 1
    assert compiled._read(path) is not None


def loaded(path):
    return str(path) in Path("/proc/self/maps").read_text()


def replaced(path, data):
    """As a new file: this process has the old one in its memory."""
    aside = path.with_suffix(".aside")
    aside.write_bytes(data)
    aside.replace(path)


def test_nothing_is_executed_that_others_may_have_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path))
    cache_folder().mkdir()
    cache_folder().chmod(0o777)
    with pytest.raises(NotCompiledError, match="is not this user's alone"):
        pack([2])


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("SWEEPER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sweeper" / "compiled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "sweeper" / "compiled"


# -- the execution mode ---------------------------------------------------------------------------


def found(**changes):
    mode = choose_mode(PROBLEM, data_of(), streams_of(0, "way"), PARAMS, replace(TRIAL, **changes))
    return mode.payload()


def test_without_a_compiler_it_is_packed_and_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    toolchain.toolchain.cache_clear()
    mode = found()
    assert mode["way"] == "flat"
    assert mode["because"].endswith("not compiled: there is no C++ compiler (no-such-compiler)")
    assert mode["toolchain"] == ""


def test_what_a_compiler_says_last_is_the_reason():
    with pytest.raises(NotCompiledError, match=r"not be compiled: .*No module named .absent"):
        toolchain.run_apart("absent", [], b"")


def test_what_is_worth_compiling_depends_on_the_model_and_the_length_of_a_trial(monkeypatch):
    monkeypatch.undo()
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))
    loss = nn.CrossEntropyLoss()
    trace, _, _ = record(small, loss, torch.randn(5, 2), torch.zeros(5, dtype=torch.int64))
    assert not is_worth_compiling(trace, 60, False, 1_000)
    assert is_worth_compiling(trace, 60, False, 1_000_000)
    assert is_worth_compiling(trace, 60, True, 10_000)
    image = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    trace, _, _ = record(image, loss, torch.randn(5, 1, 6), torch.zeros(5, dtype=torch.int64))
    assert not is_worth_compiling(trace, 60, True, 10**9)


# -- whole sweeps ---------------------------------------------------------------------------------


def swept(folder, trials, **options):
    selector = sweeper.FixedSweep.with_fixed_trials([{}], trials)
    return run(folder, selector, stepped, hparams=stepped.HPARAMS, **options)


def test_a_sweep_with_compiled_steps(tmp_path, monkeypatch, tools):
    reference = swept(tmp_path / "one", 7)
    final = json.loads((tmp_path / "one/points/0/hparams/final.json").read_text())
    assert final["way"] == "compiled"
    assert "training: 1 of 1 points in packs, 1 of them compiled" in str(reference.summary())

    # In other packs, in other processes, first three and then all.
    before = compilations(tools)
    swept(tmp_path / "two", 0)
    for trials, options in ((3, {"total_cores": 1}), (7, {"pack": 2})):
        result = swept(tmp_path / "two", trials, backend="local", **options)
    assert_same_bits(reference, result)
    assert outcomes(tmp_path / "one") == outcomes(tmp_path / "two")
    assert compilations(tools) == before

    # With other tools the bits would be others.
    monkeypatch.setattr(toolchain, "toolchain", lambda: "other tools")
    with pytest.raises(ChangedCodeError, match="here it would be other tools"):
        swept(tmp_path / "one", 9)
    monkeypatch.undo()
    monkeypatch.setenv("SWEEPER_CACHE", str(tools))
    monkeypatch.setenv("CXX", "no-such-compiler")
    toolchain.toolchain.cache_clear()
    with pytest.raises(ChangedCodeError, match="here it would be there is no C"):
        swept(tmp_path / "one", 9)
    mixed = swept(tmp_path / "one", 9, allow_changed_code=True)
    assert mixed[0].loss_val[:7].tobytes() == reference[0].loss_val.tobytes()
    np.testing.assert_array_equal(mixed.trial_numbers[0], range(9))


def test_a_worker_with_other_tools_says_so():
    assert check_toolchain(toolchain.toolchain(), allow=False)
    with pytest.raises(ChangedCodeError, match="compiled with something else"):
        check_toolchain("something else", allow=False)
    assert check_toolchain("something else", allow=True)


class Handing(nn.Module):
    """Remembers the means of the last two batches: one buffer becomes the other."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.register_buffer("last", torch.zeros(2))
        self.register_buffer("before", torch.zeros(2))

    def forward(self, x):
        h = self.inner(x)
        out = h - 0.1 * self.before
        self.before, self.last = self.last, h.detach().mean(0)
        return out


def test_a_buffer_that_is_handed_on_is_not_written_over_before():
    model, x, y = Handing(), torch.randn(6, 3), torch.arange(6) % 2
    trace, _, _ = record(model, nn.CrossEntropyLoss(), x, y)
    parameters, buffers = stack([model, model])
    buffers = [buffer + place for place, buffer in enumerate(buffers, 1)]
    given = [torch.stack([x, x]), torch.stack([y, y]), torch.zeros(2, dtype=torch.int64)]
    inputs = [*parameters, *buffers, *given]
    shapes = tuple((tuple(one.shape), one.dtype) for one in inputs)
    with torch.no_grad():
        _, *found = batched(trace)([one.clone() for one in inputs])
        whole_step(CompilePlan(trace, Recipe("sgd"), len(parameters), shapes))(
            *inputs, torch.zeros(1, 2)
        )
    for one, other in zip(found[len(parameters) :], buffers, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_step_with_parameter_groups_and_clipped_gradients_is_compiled():
    groups = lambda model: [  # noqa: E731
        {"params": [model[0].weight, model[4].weight], "weight_decay": 0.1, "lr_scale": 0.5},
        {"params": [*model[1].parameters(), model[4].bias], "momentum": 0.5, "centered": True},
    ]
    optimizer = {"name": "rmsprop", "groups": groups}
    problem = problem_of(model, optimizer=optimizer, clip_grad_norm=0.3)
    flat, known = pack([0, 1], "flat", problem), pack(range(3), problem=problem)
    for number, found in pack([1, 0], problem=problem).items():
        alike(found, known[number])
        for name, value in flat[number].metrics.items():
            assert found.metrics[name] == pytest.approx(value, rel=1e-2)
