"""Models of several inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import several_inputs
import sweeper
from blobs import UNTUNED
from sweeper.train.problem.measure.inputs import call_model
from sweeping import assert_same_bits, run


class One(nn.Module):
    def forward(self, x):
        return ["one", x]


class Two(nn.Module):
    def forward(self, a, b):
        return [a, b]


class Perhaps(nn.Module):
    def forward(self, a, b=None):
        return [a, b]


class Any(nn.Module):
    def forward(self, *inputs, **named):
        return [inputs, named]


@pytest.mark.parametrize(
    ("model", "x", "output"),
    [
        (One(), (1, 2), ["one", (1, 2)]),
        (One(), {"x": 1}, ["one", {"x": 1}]),
        (Two(), (1, 2), [1, 2]),
        (Two(), [1, 2], [1, 2]),
        (Two(), {"b": 2, "a": 1}, [1, 2]),
        (Perhaps(), (1, 2), [(1, 2), None]),
        (Any(), (1, 2), [((1, 2),), {}]),
    ],
)
def test_a_model_is_given_one_input_where_it_takes_one(model, x, output):
    assert call_model(model, x) == output


@pytest.mark.parametrize("x", [(1, 2, 3), {"a": 1, "c": 2}, 1.0])
def test_what_does_not_fit_raises_as_a_call_does(x):
    with pytest.raises(TypeError):
        call_model(Two(), x)


def test_however_the_inputs_are_given_a_sweep_gives_the_same(tmp_path, monkeypatch):
    found = []
    for kind in ("tuple", "dict", "pair"):
        monkeypatch.setattr(several_inputs, "kind", kind)
        selector = sweeper.Grid(trials=2, hidden=[4])
        results = run(tmp_path / kind, selector, several_inputs, hparams=UNTUNED)
        assert not results.failures
        found.append(results)
    assert torch.isfinite(torch.tensor(found[0][0].loss_val)).all()
    assert_same_bits(found[0], found[1])
    assert_same_bits(found[0], found[2])
