"""Trials in segments: killed, or asked to go further, they end as one that ran through."""

from __future__ import annotations

import hashlib
import math
import os
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

from segments import (
    LONG,
    NEVER,
    Killed,
    alike,
    checkpoints,
    count_steps,
    eager,
    kill,
    packed,
)
from sweeper.train.data.samples import Data, LoadedSet
from sweeper.train.replica.checkpoints import restore_tensors
from test_probes import TRIAL, bits, data_of, problem_of, with_state

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = pytest.mark.parametrize("train", [eager, packed])


@pytest.fixture
def steps(monkeypatch):
    return count_steps(monkeypatch)


class Last(nn.Module):
    def forward(self, found):
        return found[0]


# -- budgets --------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("schedule", ["triangular", "constant", None])
def test_a_larger_budget_goes_on_with_the_bits_of_a_trial_that_ran_through(
    train, schedule, tmp_path
):
    told = replace(TRIAL, schedule=schedule)
    through = train(None, told.with_budget(3))
    for budget in (1, 2, 3):
        found = train(tmp_path, told.with_budget(budget), every=NEVER)
    for number, one in found.items():
        alike(one, through[number])


@MODES
@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"warmup": 0.1}], ids=str)
def test_a_schedule_that_spans_the_trial_is_trained_from_the_start(train, changes, tmp_path, steps):
    told = replace(TRIAL, **changes)
    for budget in (1, 3):
        steps.clear()
        found = train(tmp_path, told.with_budget(budget), (0,))[0]
        assert len(steps) == 20 * budget
        alike(found, train(None, told.with_budget(budget), (0,))[0])


@MODES
def test_only_the_cycles_that_a_smaller_budget_has_not_are_trained(train, tmp_path, steps):
    for budget, expected in ((1, 20), (3, 40), (3, 0), (2, 20), (4, 20)):
        steps.clear()
        train(tmp_path, TRIAL.with_budget(budget), (0,), every=NEVER)
        assert len(steps) == expected, budget


@MODES
def test_a_budget_of_its_own_length_has_the_weights_of_a_trial_without_one(train):
    for number, one in train(None, TRIAL.with_budget(TRIAL.cycles)).items():
        assert bits(one.model) == bits(train(None, TRIAL, (number,))[number].model)


# -- kills ----------------------------------------------------------------------------------------

MOMENTS = np.random.default_rng(3).integers(1, 8, 20).tolist()
"""Steps between one kill and the next, of a trial with five steps in each of its ten cycles."""


@MODES
def test_killed_twenty_times_it_trains_no_more_than_a_cycle_twice_each_time(train, tmp_path, steps):
    through = train(None, LONG, (0,))[0]
    done = 0
    for moment in MOMENTS:
        steps.clear()
        steps.kill_at = moment
        with pytest.raises(Killed):
            train(tmp_path, LONG, (0,))
        done = (done + moment) // 5 * 5
    steps.clear()
    found = train(tmp_path, LONG, (0,))[0]
    assert len(steps) == LONG.steps - done
    assert 0 < len(steps) < LONG.steps / 2, "the moments of this test show nothing"
    alike(found, through)


@MODES
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_killed_in_its_last_cycle_it_goes_on_there(train, schedule, tmp_path, steps):
    told = replace(LONG, schedule=schedule, warmup=0.2)
    for one in (told, told.with_budget(4)):
        through = train(None, one, (0,))[0]
        steps.clear()
        steps.kill_at = one.steps - 1
        with pytest.raises(Killed):
            train(tmp_path, one, (0,))
        steps.clear()
        alike(train(tmp_path, one, (0,))[0], through)
        assert len(steps) == 5


def test_members_of_a_pack_go_on_from_cycles_of_their_own(tmp_path, steps):
    through = packed(None, LONG)
    for number, moment in ((0, 23), (2, 7)):
        steps.clear()
        steps.kill_at = moment
        with pytest.raises(Killed):
            packed(tmp_path, LONG, (number,))
    steps.clear()
    for number, one in packed(tmp_path, LONG).items():
        alike(one, through[number])
    assert len(steps) == 30 + 50 + 45


class Drawing(nn.Module):
    """Draws from every global generator."""

    def forward(self, x):
        noise = torch.randn_like(x) + np.random.normal() + random.gauss(0, 1)  # noqa: NPY002
        return x + 0.1 * noise if self.training else x


class Counting(nn.Module):
    """Looks at how often it was called, which no checkpoint has."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1 + 1 / self.calls)


class Caching(nn.Module):
    """A buffer that is new after each step."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return x - self.mean


def test_all_that_an_eager_trial_draws_and_gathers_goes_on(tmp_path, steps):
    def model():
        layers = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.GRU(8, 8), Last(), nn.Linear(8, 2)]
        return nn.Sequential(Drawing(), Caching(), *layers)

    problem = problem_of(model, optimizer={"name": "adam", "amsgrad": True})
    through = eager(None, LONG, problem=problem)[0]
    kill(eager, tmp_path, steps, 23, problem)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what this is about
    random.seed(5)
    found = eager(tmp_path, LONG, problem=problem)[0]
    assert len(steps) == 30
    alike(found, through)


def test_a_model_that_changes_its_attributes_is_trained_from_the_start(tmp_path, steps):
    problem = problem_of(lambda: nn.Sequential(Counting(), with_state()))
    through = eager(None, LONG, problem=problem)[0]
    kill(eager, tmp_path, steps, 23, problem)
    found = eager(tmp_path, LONG, problem=problem)[0]
    assert len(steps) == 50
    alike(found, through)


# -- which moments are saved ----------------------------------------------------------------------


@MODES
def test_a_short_trial_saves_nothing(train, tmp_path):
    train(tmp_path, LONG, every=NEVER)
    assert not list(tmp_path.iterdir())


@MODES
def test_the_last_cycle_is_saved_only_where_a_larger_budget_may_go_on(train, tmp_path, steps):
    for told, cycles in ((LONG, 9), (LONG.with_budget(3), 3)):
        train(tmp_path, told, (0,))
        assert checkpoints(tmp_path, 0, told).read().cycles == cycles
    spanning = replace(LONG, schedule="cosine").with_budget(5)
    train(tmp_path, spanning, (0,))
    assert checkpoints(tmp_path, 0, spanning).read().cycles == 4


@MODES
def test_a_trial_that_diverged_is_not_saved(train, tmp_path):
    told = replace(LONG, lr_start=1e30, lr_end=1e30).with_budget(2)
    for one in (told, told.with_budget(3)):
        assert np.isnan(train(tmp_path, one, (0,))[0].metrics["loss_val"])
    assert not list(tmp_path.iterdir())


# -- files that do not belong, or are damaged -----------------------------------------------------


def damages(path):
    """Ways to spoil a file."""
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    body = hashlib.sha256(b"what its bits depend on").hexdigest().encode() + b"no checkpoint"
    return {
        "empty": b"",
        "cut": whole[:-100],
        "flipped": bytes(flipped),
        "sealed nonsense": hashlib.sha256(body).digest() + body,
    }


@MODES
@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "sealed nonsense", "folder", "pipe"])
def test_a_damaged_file_is_ignored(train, how, tmp_path, steps):
    told = LONG.with_budget(2)
    train(tmp_path, told, (0,), every=NEVER)
    path = tmp_path / "0@2.end"
    found = damages(path)
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.write_bytes(found[how])
    steps.clear()
    alike(train(tmp_path, LONG.with_budget(3), (0,))[0], train(None, LONG.with_budget(3), (0,))[0])
    assert len(steps) == 15 + 15


@MODES
def test_a_file_of_anything_else_is_ignored(train, tmp_path, steps):
    train(tmp_path, LONG.with_budget(2), (0,), identity="0" * 64)
    steps.clear()
    train(tmp_path, LONG.with_budget(3), (0,))
    assert len(steps) == 15


@MODES
def test_a_file_of_other_weights_is_ignored(train, tmp_path, steps):
    wide = problem_of(lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)))
    train(tmp_path, LONG.with_budget(2), (0,), problem=wide)
    steps.clear()
    train(tmp_path, LONG.with_budget(3), (0,))
    assert len(steps) == 15


# -- data that is random on access ----------------------------------------------------------------


class Augmented(Dataset):
    """Samples with noise from the global generators, or from one of its own."""

    def __init__(self, own):
        self.generator = np.random.default_rng(1) if own else None
        self.x, self.y = data_of().train.x.numpy(), data_of().train.y.tolist()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, place):
        noise = self.generator.normal() if self.generator else float(torch.randn(()))
        return torch.from_numpy(self.x[place]) + 0.1 * noise, self.y[place]


@pytest.mark.parametrize("own", [False, True])
def test_data_that_is_random_on_access_goes_on_unless_it_has_a_state_of_its_own(
    own, tmp_path, steps
):
    def train(folder, told, numbers, problem=None):
        data = Data(LoadedSet(Augmented(own)), data_of().val)
        return eager(folder, told, numbers, problem, data, watches_data=True)

    through = train(None, LONG, (0,))[0]
    kill(train, tmp_path, steps, 23)
    alike(train(tmp_path, LONG, (0,))[0], through)
    assert len(steps) == (50 if own else 30)


# -- bits -----------------------------------------------------------------------------------------

NUMBERS = [0.0, -0.0, math.nan, -math.nan, math.inf, 1e-45, 1.0]


@given(
    st.lists(st.sampled_from(NUMBERS), max_size=4), st.lists(st.sampled_from(NUMBERS), max_size=4)
)
def test_tensors_are_restored_to_the_last_bit_and_written_only_where_they_differ(before, after):
    own, known = torch.tensor(before), torch.tensor(after)
    version = own._version
    alike = own.numpy().tobytes() == known.numpy().tobytes()
    assert restore_tensors([own], [known]) == (len(before) == len(after))
    if len(before) == len(after):
        assert own.numpy().tobytes() == known.numpy().tobytes()
    assert (own._version == version) == (alike or len(before) != len(after))
