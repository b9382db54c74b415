"""Packs and eager training in models like real ones: the same weights, or the same on average.

Eager training here is written out, and what it draws comes from outside: each dropout is replaced
by a part that is handed its mask, so that nothing depends on how packs or torch count them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from models_zoo import ZOO
from sweeper.train.data.samples import Data, HeldSet, shuffled
from sweeper.train.mode.choose import choose_mode
from sweeper.train.packs.members import Member
from sweeper.train.packs.trial import train_pack
from sweeper.train.problem.optimizer.optimizers import make_optimizer
from sweeper.train.tuning.schedule import cycle_rates
from sweeper.train.tuning.trials import Trials
from sweeper.train.vectorize.random import RANDOM_RULES, bernoulli, step_keys
from test_probes import PARAMS, TRIAL, problem_of, streams_of

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINED, VALIDATED, BATCH = 64, 32, 16
SEEDS = 20
STEPS = TRAINED // BATCH

ONE = replace(TRIAL, batch_size=BATCH, cycles=1, cycle_epochs=1, steps=STEPS)
SHORT = replace(ONE, lr_start=0.01, lr_end=0.05)
LONG = replace(ONE, cycle_epochs=3, steps=3 * STEPS, lr_start=0.001, lr_end=0.02)


def setting(name, optimizer):
    make, loss, x, y = ZOO[name]()
    style = "classification" if y.ndim == 1 else "inv-loss"
    problem = problem_of(make, loss=loss, accuracy_style=style, optimizer=optimizer)
    end = TRAINED + VALIDATED
    return problem, Data(HeldSet(x[:TRAINED], y[:TRAINED]), HeldSet(x[TRAINED:end], y[TRAINED:end]))


# -- eager training, with what is drawn fixed from outside ----------------------------------------


class Masks(TorchFunctionMode):
    """What one model draws: for each of its sites, in the order in which it first comes to them."""

    def __init__(self):
        super().__init__()
        self.key, self.count, self.sites = torch.zeros(1, dtype=torch.int64), 0, []

    def begin(self, key):
        self.key, self.count = key, 0
        for site in self.sites:
            site.masks = []

    def go_back(self):
        """What is computed from here on was computed before."""
        for site in self.sites:
            site.again = iter(site.masks)

    def next(self):
        self.count += 1
        return self.count - 1

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = {torch.randn_like: "randn_like", torch.rand_like: "rand_like"}.get(func)
        if name is None:
            return func(*args, **(kwargs or {}))
        return RANDOM_RULES[f"aten.{name}.default"](self.key, self.next(), args[0].unsqueeze(0))[0]


class Masked(nn.Module):
    """A dropout that is handed its mask, the same when it is computed again."""

    def __init__(self, masks, usual):
        super().__init__()
        self.source, self.p, self.masks, self.again = masks, usual.p, [], None
        self.by_channel = isinstance(usual, nn.Dropout2d)
        masks.sites.append(self)

    def forward(self, x):
        if not self.training:
            return x
        mask = next(self.again, None) if self.again is not None else None
        if mask is None:
            size = (*x.shape[:2], 1, 1) if self.by_channel else x.shape
            like = torch.empty(1, *size)
            mask = bernoulli(self.source.key, self.source.next(), like, 1 - self.p)[0] / (
                1 - self.p
            )
            self.masks.append(mask)
        return x * mask


def replace_dropouts(model, masks):
    for part in list(model.modules()):
        for name, inner in part.named_children():
            if isinstance(inner, nn.Dropout | nn.Dropout2d):
                setattr(part, name, Masked(masks, inner))


def eagerly(problem, data, number, told):
    """(weights, mean loss on the validation set) of a trial, trained by a loop of torch's."""
    streams, masks = streams_of(number, "trial"), Masks()
    streams.seed_globals("init")
    _, model = problem.make_model(PARAMS)
    loss = problem.make_loss(PARAMS)
    replace_dropouts(model, masks)
    optimizer = make_optimizer(problem.optimizer(PARAMS), model, 0.0)
    order = streams.generator("order")
    places = [rows for _ in range(told.cycle_epochs) for rows in shuffled(TRAINED, BATCH, order)]
    keys = step_keys([streams.key], 0, told.steps)
    for rows, key, rate in zip(places, keys, cycle_rates(told), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        for site in masks.sites:
            site.again = None
        masks.begin(key)
        with masks:
            value = loss(model(data.train.x[rows]), data.train.y[rows])
        masks.go_back()
        value.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        reached = float(loss(model(data.val.x), data.val.y))
    return model.state_dict(), reached


def packed(problem, data, numbers, told):
    members = [
        Member.make(problem, data, streams_of(n, "trial"), PARAMS, told.batch_size) for n in numbers
    ]
    found = train_pack(problem, data, members, Trials(told), 0)
    return [(trained.model.state_dict(), trained.metrics["loss_val"]) for _, trained in found]


# -- the tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_the_check_finds_that_packs_agree(name):
    problem, data = setting(name, "adam")
    mode = choose_mode(problem, data, streams_of(0, "way"), PARAMS, LONG)
    assert (mode.kind, mode.because) == (
        "flat",
        "its packs agree with eager training",
    )


@pytest.mark.parametrize("name", ZOO)
def test_a_few_steps_come_to_the_same_weights(name):
    problem, data = setting(name, {"name": "sgd", "momentum": 0.9})
    together = packed(problem, data, range(3), SHORT)
    for number, (weights, reached) in enumerate(together):
        expected, loss = eagerly(problem, data, number, SHORT)
        assert reached == pytest.approx(loss, rel=1e-4)
        scale = max(float(value.abs().max()) for value in expected.values())
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_trainings_come_to_the_same_on_average(name):
    """Paired by seed: the mean difference is within three of its standard errors, or rounding."""
    problem, data = setting(name, "adam")
    together = packed(problem, data, range(SEEDS), LONG)
    pairs = [
        (reached, eagerly(problem, data, number, LONG)[1])
        for number, (_, reached) in enumerate(together)
    ]
    one, other = np.array(pairs).T
    differences = one - other
    error = differences.std(ddof=1) / math.sqrt(SEEDS)
    rounding = 1e-4 * np.abs(other).mean()
    assert abs(differences.mean()) <= 3 * error + rounding
    # And it says something: seeds differ by more than execution modes.
    assert np.abs(differences).mean() < 0.3 * other.std(ddof=1)
