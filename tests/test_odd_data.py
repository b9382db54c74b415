"""Data, models and losses as nobody wishes them: each a named result or a clear error."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sweeper
from sweeper.errors import ProblemError
from sweeper.records import METRICS
from sweeping import run

COMMON = """
import math
import torch
from torch import nn
from torch.utils.data import TensorDataset

accuracy_style = "classification"
loss = nn.CrossEntropyLoss
train, val = 24, 8


def model(hidden=2):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))


def spoil(x, y):
    return x, y


def dataset():
    y = torch.arange(train + val) % 2
    x = torch.randn(train + val, 2) + 2 * y[:, None]
    x, y = spoil(x, y)
    return TensorDataset(x[:train], y[:train]), TensorDataset(x[train:], y[train:])
"""

LINEAR = "model = lambda hidden=2: nn.Linear(2, 2)"
REGRESSION = """
accuracy_style = "inv-loss"
loss = nn.MSELoss
model = lambda hidden=2: nn.Linear(2, 1)
"""
SPOIL = "def spoil(x, y):\n    {}\n    return x, y"


def sweep_of(tmp_path, text, **options):
    path = tmp_path / "odd.py"
    path.write_text(COMMON + text)
    options = {"cores": 1, "save_models": "none", **options}
    results = run(tmp_path / "out", sweeper.Grid(trials=2, hidden=[2]), path, **options)
    return results, results[0]


def check_named(results):
    """Every trial is a finite result, or says that it is none; every failure says why."""
    for point, numbers in zip(results, results.trial_numbers, strict=True):
        for metric in METRICS:
            values = getattr(point, metric)
            assert len(values) == len(numbers)
            assert not np.isinf(values).any()
            if metric.startswith("perf"):
                assert np.isfinite(values).all()
                assert (values >= 0).all()
        if len(numbers):
            assert 0 < point.lr_min < point.lr_max < math.inf
            assert point.batch_size >= 1
    told = [failure for failure in results.failures if failure.number is not None]
    asked = sum(len(numbers) for numbers in results.trial_numbers) + len(told)
    rejected = [failure for failure in results.failures if failure.number is None]
    assert asked == 2 * len(results) or rejected
    assert all(failure.message for failure in results.failures)
    str(results.summary())


# -- what trains all the same ---------------------------------------------------------------------

TRAINS = {
    "one class": SPOIL.format("y = y * 0"),
    "a single sample": "train, val = 1, 1",
    "fewer than a batch": "train, val = 3, 1",
    "a validation set of one": "val = 1",
    "float64": f"{LINEAR}.double()\n" + SPOIL.format("x = x.double()"),
    "bfloat16": f"{LINEAR}.bfloat16()\n" + SPOIL.format("x = x.bfloat16()"),
    "float16": f"{LINEAR}.half()\n" + SPOIL.format("x = x.half()"),
    "targets to be ignored": SPOIL.format("y[:4] = -100"),
    "several labels": "accuracy_style = 'multiclass'\nloss = nn.BCEWithLogitsLoss\n"
    + SPOIL.format("y = torch.stack([y, 1 - y], 1).float()"),
    "tiny values": SPOIL.format("x = x * 1e-30"),
    "frozen weights": "def model(hidden=2):\n    made = nn.Linear(2, 2)\n"
    "    made.weight.requires_grad_(False)\n    return made",
}


@pytest.mark.parametrize("what", TRAINS)
def test_odd_data_that_trains(tmp_path, what):
    results, point = sweep_of(tmp_path, TRAINS[what])
    check_named(results)
    assert not results.failures
    assert len(point.perf_val) == 2
    assert np.isfinite([getattr(point, metric) for metric in METRICS]).all()


def test_a_loss_that_is_negative_is_the_better_the_lower(tmp_path):
    text = REGRESSION + (
        "class Likelihood(nn.Module):\n"
        "    def forward(self, output, y): return (output - y).square().mean() - 3\n"
        "loss = Likelihood\n"
    )
    results, point = sweep_of(tmp_path, text + SPOIL.format("y = y[:, None].float()"))
    check_named(results)
    assert len(point.loss_val) == 2
    assert (point.loss_val < -1).all()
    assert np.array_equal(point.perf_val, 1 - point.loss_val)


@pytest.mark.parametrize("pack", ["auto", "off"])
def test_a_value_that_is_not_finite_in_the_validation_set_is_nan_and_counts_as_wrong(
    tmp_path, pack
):
    results, point = sweep_of(tmp_path, SPOIL.format("x[train] = math.inf - math.inf"), pack=pack)
    check_named(results)
    assert np.isnan(point.loss_val).all()
    assert (point.perf_val <= 7 / 8).all()
    assert np.isfinite(point.loss_train).all()
    assert results.summary().points[0].diverged == 2


# -- what fails, by name --------------------------------------------------------------------------

FAILS = {
    "all curves equal": (
        (
            "def model(hidden=2):\n    made = nn.Linear(2, 2)\n"
            "    made.forward = lambda x: (x * 0) @ made.weight.T\n    return made"
        ),
        "no learning rate improves it",
    ),
    "huge values": (SPOIL.format("x = x * 1e38"), "training diverges at a learning rate"),
    "a loss that is NaN once evaluated": (
        (
            "class Odd(nn.CrossEntropyLoss):\n    def forward(self, output, y):\n"
            "        value = super().forward(output, y)\n"
            "        return value if output.requires_grad else value * math.nan\nloss = Odd"
        ),
        "no learning rate improves it",
    ),
    "a label beyond the outputs, late in training": (
        "train = 200\n" + SPOIL.format("y[150] = 7"),
        "IndexError: Target 7 is out of bounds",
    ),
}


@pytest.mark.parametrize("what", FAILS)
def test_odd_data_that_fails_the_point(tmp_path, what):
    text, said = FAILS[what]
    results, point = sweep_of(tmp_path, text)
    check_named(results)
    assert said in results.failures[0].message
    assert len(point.perf_val) == 0


@pytest.mark.parametrize("pack", ["auto", "off"])
@pytest.mark.parametrize("label", [2, -1, 2**40])
def test_a_label_beyond_the_outputs_in_the_validation_set_fails_every_trial(tmp_path, pack, label):
    results, point = sweep_of(tmp_path, SPOIL.format(f"y[-1] = {label}"), pack=pack)
    check_named(results)
    assert [failure.number for failure in results.failures] == [0, 1]
    assert all("out of" in failure.message for failure in results.failures)
    assert len(point.perf_val) == 0


# -- what is refused before anything is trained ---------------------------------------------------

REFUSED = {
    "a NaN in the data": (SPOIL.format("x[3] = math.nan"), "is nan; expected a finite number"),
    "an infinite value": (SPOIL.format("x[3] = math.inf"), "is nan; expected a finite number"),
    "a loss that is NaN": (
        (
            "class Odd(nn.CrossEntropyLoss):\n    def forward(self, output, y):\n"
            "        return super().forward(output, y) * math.nan\nloss = Odd"
        ),
        "is nan; expected a finite number",
    ),
    "a loss that is infinite": (
        REGRESSION + SPOIL.format("y = y[:, None] * 1e30"),
        "is inf; expected a finite number",
    ),
    "no parameters": ("model = lambda hidden=2: nn.Tanh()", "without parameters"),
    "float64 weights, float32 data": (f"{LINEAR}.double()", "must have the same dtype"),
    "whole numbers as x": (SPOIL.format("x = x.long()"), "must have the same dtype"),
    "a label beyond the outputs": (SPOIL.format("y[0] = 2"), "Target 2 is out of bounds"),
    "a label below 0": (SPOIL.format("y[0] = -1"), "Target -1 is out of bounds"),
    "targets of 32 bits": (SPOIL.format("y = y.int()"), "target dtype to be Long"),
    "targets between 0 and 3": (
        "accuracy_style = 'multiclass'\nloss = nn.BCELoss\n"
        "model = lambda hidden=2: nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())\n"
        + SPOIL.format("y = 3 * torch.stack([y, 1 - y], 1).float()"),
        "between 0 and 1",
    ),
    "nothing to predict": (
        REGRESSION.replace("nn.Linear(2, 1)", "nn.Linear(2, 0)") + SPOIL.format("y = x[:, :0]"),
        "is nan; expected a finite number",
    ),
    "batch normalisation of one sample": (
        (
            "train, val = 1, 1\nmodel = lambda hidden=2: nn.Sequential(nn.Linear(2, 2), "
            "nn.BatchNorm1d(2))"
        ),
        "more than 1 value per channel",
    ),
    "samples of different shapes": (
        (
            "class Ragged:\n    __len__ = lambda self: 6\n"
            "    __getitem__ = lambda self, place: (torch.zeros(2 + place % 2), 1)\n"
            "def dataset(): return Ragged(), Ragged()"
        ),
        "stack expects each tensor to be equal size",
    ),
    "no sample": ("train = 0", "train_set of dataset() is empty"),
    "no sample to validate with": ("val = 0", "val_set of dataset() is empty"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_odd_data_that_is_refused(tmp_path, what):
    text, said = REFUSED[what]
    with pytest.raises(ProblemError) as error:
        sweep_of(tmp_path, text)
    assert said in str(error.value)
    assert str(error.value).startswith("problem odd ")
    assert "; expected " in str(error.value)


# -- made-up problems -----------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    train=st.sampled_from([1, 2, 3, 5, 16, 33]),
    val=st.integers(1, 4),
    classes=st.integers(1, 3),
    outputs=st.integers(1, 3),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e6, 1e19, 3e38]),
    spoilt=st.sampled_from(["0", "math.nan", "math.inf", "-math.inf"]),
    place=st.integers(0, 36),
    dtype=st.sampled_from(["float32", "float64", "bfloat16"]),
    optimizer=st.sampled_from(["sgd", "adam"]),
)
def test_a_made_up_problem_comes_to_something(tmp_path, **drawn):
    # Imported by its path, so each has a name of its own.
    number = len(list(tmp_path.iterdir()))
    path = tmp_path / f"made_up_{number}.py"
    path.write_text(
        COMMON
        + """
train, val, optimizer = {train}, {val}, "{optimizer}"
model = lambda hidden=2: nn.Linear(2, {outputs}).to(torch.{dtype})
def spoil(x, y):
    x = (x * {scale}).to(torch.{dtype})
    if {spoilt}:
        x[{place} % len(x)] = {spoilt}
    return x, torch.arange(len(x)) % {classes}
""".format(**drawn)
    )
    folder = tmp_path / f"out {number}"
    with contextlib.suppress(ProblemError):  # which says what is wrong with it
        results = run(folder, sweeper.Grid(trials=2, hidden=[2]), path, cores=1, curve_samples=2)
        check_named(results)
        assert repr(list(sweeper.load(folder))) == repr(list(results))
