"""Loss and performance on outputs made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.train.metrics import Tally, are_correct, inverse_loss, mean_loss

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("output", "y", "correct"),
    [
        ([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]], [0, 1, 0], 2),
        ([[-2.0, -1.0, -3.0]], [1], 1),
        ([[NAN, 1.0], [0.0, 1.0]], [1, 1], 1),
        ([[0.0, INF], [INF, 0.0]], [1, 0], 0),
        ([[-INF, 1.0]], [1], 0),
        # One-hot rows, of whole numbers or floats.
        ([[2.0, 1.0], [0.0, 3.0], [5.0, 3.0]], [[1, 0], [0, 1], [0, 1]], 2),
        ([[2.0, 1.0], [0.0, 3.0]], [[0.0, 1.0], [0.0, 1.0]], 1),
    ],
)
def test_classification_is_by_argmax(output, y, correct):
    assert (
        int(are_correct("classification", torch.tensor(output), torch.tensor(y)).sum()) == correct
    )


@pytest.mark.parametrize(
    ("output", "y", "correct"),
    [
        ([[0.9, 0.1], [0.9, 0.9], [0.1, 0.1]], [[1, 0], [1, 0], [0, 0]], 2),
        ([[0.5, 0.51]], [[0, 1]], 1),  # raw outputs, above a half
        ([[7.0, -3.0]], [[1.0, 0.0]], 1),
        ([[NAN, 0.9], [0.1, INF]], [[0, 1], [0, 1]], 0),
        ([0.9, 0.1, 0.9], [1, 0, 0], 2),  # a single label
    ],
)
def test_multiclass_counts_samples_whose_labels_all_match(output, y, correct):
    assert int(are_correct("multiclass", torch.tensor(output), torch.tensor(y)).sum()) == correct


@pytest.mark.parametrize(
    ("style", "output", "y", "because"),
    [
        ("classification", (4, 1), (4, 1), "an output for each class, and has one a sample"),
        ("classification", (4,), (4,), "an output for each class, and has one a sample"),
        ("classification", (4, 10), (4, 1), "a class index a sample"),
        ("classification", (4, 3, 2, 2), (4, 2, 2), "a class index a sample"),
        ("multiclass", (4, 10), (4,), "as many labels as outputs, and has 1 and 10"),
        ("multiclass", (4, 10), (2, 10), "as many labels as outputs"),
    ],
)
def test_shapes_that_say_nothing_are_refused(style, output, y, because):
    with pytest.raises(ValueError, match=because):
        are_correct(style, torch.zeros(output), torch.zeros(y))


@pytest.mark.parametrize(
    ("loss", "performance"),
    [
        *((0.0, 1.0), (1.0, 0.5), (3.0, 0.25), (NAN, 0.0), (INF, 0.0), (-INF, 0.0)),
        *((-1e-9, 1 + 1e-9), (-0.5, 1.5), (-1.0, 2.0), (-5.0, 6.0)),
    ],
)
def test_inverse_loss(loss, performance):
    assert inverse_loss(loss) == performance


def test_a_tally_weighs_batches_by_their_samples():
    tally = Tally("classification")
    tally.add(torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0, 0, 1]), 2.0)
    tally.add(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 6.0)
    assert tally.performance == 3 / 4
    assert tally.loss == (3 * 2.0 + 6.0) / 4


@pytest.mark.parametrize("wrap", [lambda y: {"a": y, "b": y}, lambda y: [y], lambda y: [(y, y)]])
def test_samples_are_counted_in_targets_of_several_tensors(wrap):
    tally = Tally("inv-loss")
    tally.add(torch.zeros(3, 2), wrap(torch.zeros(3)), 1.0)
    tally.add(torch.zeros(1, 2), wrap(torch.zeros(1)), 5.0)
    assert (tally.samples, tally.loss) == (4, 2.0)


def test_a_tally_of_inverse_loss():
    tally = Tally("inv-loss")
    tally.add(torch.zeros(2, 5), torch.zeros(2, 5), 3.0)
    assert (tally.loss, tally.performance) == (3.0, 0.25)


@pytest.mark.parametrize("loss", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_is_nan_and_what_was_right_still_counts(loss):
    tally = Tally("classification")
    tally.add(torch.tensor([[1.0, 0.0], [NAN, 0.0]]), torch.tensor([0, 0]), loss)
    tally.add(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 0.5)
    assert math.isnan(tally.loss)
    assert tally.performance == 2 / 3
    inverse = Tally("inv-loss")
    inverse.add(torch.zeros(1, 1), torch.zeros(1, 1), loss)
    assert inverse.performance == 0


def test_the_mean_loss_is_in_evaluation_mode_and_leaves_training_mode():
    model = nn.Sequential(nn.Dropout(0.9), nn.Identity())
    x, y = torch.ones(10, 3), torch.zeros(10, 3)
    batches = [(x[:7], y[:7]), (x[7:], y[7:])]
    assert mean_loss(model, nn.MSELoss(), batches) == 1.0
    assert model.training
    assert np.isnan(mean_loss(model, nn.MSELoss(), [(x, y * NAN)]))
