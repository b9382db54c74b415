"""Loss and performance on outputs made by hand."""

from __future__ import annotations

import math
import typing

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.records import NUMERICS
from sweeper.train.eager.soundness import has_sum, is_broadcast, notes_of
from sweeper.train.problem.measure.metrics import (
    Measure,
    Tally,
    are_correct,
    inverse_loss,
    measured_loss,
)
from sweeper.train.problem.measure.reductions import MOST_WHOLE, join

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
def test_multilabel_counts_samples_whose_labels_all_match(output, y, correct):
    for name in ("multilabel", "multiclass"):  # as earlier releases called it
        found = are_correct(name, torch.tensor(output), torch.tensor(y))
        assert int(found.sum()) == correct


@pytest.mark.parametrize(
    ("style", "output", "y", "because"),
    [
        (
            "classification",
            (4, 1),
            (4, 1),
            "an output for each class, but the model gives one per sample",
        ),
        (
            "classification",
            (4,),
            (4,),
            "an output for each class, but the model gives one per sample",
        ),
        ("classification", (4, 10), (4, 1), "a class index per sample"),
        ("classification", (4, 3, 2, 2), (4, 2, 2), "a class index per sample"),
        ("multilabel", (4, 10), (4,), "as many labels as outputs, but has 1 and 10"),
        ("multilabel", (4, 10), (2, 10), "as many labels as outputs"),
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


def told(style, loss, batches, numerics=NUMERICS):
    """Loss and performance of batches (output, y), each of so many samples."""
    tally = Tally(Measure(style, loss, numerics), sum(len(output) for output, _ in batches))
    for output, y in batches:
        tally.add(output, y)
    return tally.result()


def constant(*values):
    """A loss that gives these, one after the other."""
    rest = iter(values)
    return lambda _output, _y: torch.tensor(next(rest))


def test_batches_weigh_by_their_samples_where_the_loss_is_a_mean_over_samples():
    batches = [
        (torch.tensor([[1.0, 0.0]] * 3), torch.tensor([0, 0, 1])),
        (torch.tensor([[1.0, 0.0]]), torch.tensor([0])),
    ]
    loss, performance = told("classification", nn.CrossEntropyLoss(), batches)
    assert performance == 3 / 4
    whole = nn.CrossEntropyLoss()(*map(torch.cat, zip(*batches, strict=True)))
    assert loss == pytest.approx(float(whole), rel=1e-6)


@pytest.mark.parametrize("wrap", [lambda y: {"a": y, "b": y}, lambda y: [y], lambda y: [(y, y)]])
def test_samples_are_counted_in_targets_of_several_tensors(wrap):
    batches = [(torch.zeros(3, 2), wrap(torch.zeros(3))), (torch.zeros(1, 2), wrap(torch.zeros(1)))]
    assert told("inv-loss", constant(1.0, 5.0), batches, numerics=1) == (2.0, 1 / 3)


def test_inverse_loss_of_a_set():
    batches = [(torch.zeros(2, 5), torch.zeros(2, 5))]
    assert told("inv-loss", constant(3.0), batches) == (3.0, 0.25)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_is_nan_and_what_was_right_still_counts(value):
    batches = [
        (torch.tensor([[1.0, 0.0], [value, 0.0]]), torch.tensor([0, 1])),
        (torch.tensor([[1.0, 0.0]]), torch.tensor([0])),
    ]
    loss, performance = told("classification", nn.CrossEntropyLoss(), batches)
    assert math.isnan(loss) or value == -INF
    assert performance == 2 / 3
    assert told("inv-loss", constant(value), batches[:1])[1] == 0
    assert math.isnan(told("inv-loss", constant(value), batches[:1])[0])


def test_the_loss_is_in_evaluation_mode_and_leaves_training_mode():
    class Loss(nn.MSELoss):
        modes: typing.ClassVar = []

        def forward(self, output, y):
            self.modes.append(self.training)
            return super().forward(output, y)

    model, loss = nn.Sequential(nn.Dropout(0.9), nn.Identity()), Loss()
    x, y = torch.ones(10, 3), torch.zeros(10, 3)
    batches = [(x[:7], y[:7]), (x[7:], y[7:])]
    assert measured_loss(model, Measure("inv-loss", loss), 10, batches) == 1.0
    assert Loss.modes == [False]
    assert model.training
    assert loss.training
    assert np.isnan(measured_loss(model, Measure("inv-loss", loss), 10, [(x, y * NAN)]))


# -- a set's loss is torch's, however it is cut ----------------------------------------------------

N, CLASSES = 90, 4


def labels(generator):
    return torch.randint(CLASSES, (N,), generator=generator).sort().values


def ignored(generator):
    """Half of them, among those whole batches."""
    return torch.where(torch.arange(N) < N // 2, -100, labels(generator))


def numbers(generator):
    return torch.rand(N, CLASSES, generator=generator)


def bits(generator):
    return (numbers(generator) > 0.7).float()


def signs(generator):
    return bits(generator) * 2 - 1


WEIGHTS = torch.tensor([0.05, 1.0, 3.0, 0.5])
LOSSES = {
    "cross entropy": (nn.CrossEntropyLoss(), labels),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHTS), labels),
    "ignored": (nn.CrossEntropyLoss(), ignored),
    "weighted and ignored": (nn.CrossEntropyLoss(weight=WEIGHTS), ignored),
    "another label ignored": (nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=0), labels),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), labels),
    "smoothed, weighted, ignored": (
        nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2),
        ignored,
    ),
    "probabilities": (nn.CrossEntropyLoss(weight=WEIGHTS), numbers),
    "likelihood": (nn.NLLLoss(weight=WEIGHTS), ignored),
    "squares": (nn.MSELoss(), numbers),
    "huber": (nn.HuberLoss(), numbers),
    "poisson": (nn.PoissonNLLLoss(), numbers),
    "logits": (nn.BCEWithLogitsLoss(weight=WEIGHTS, pos_weight=2 * WEIGHTS), bits),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), numbers),
    "divergence, plain mean": (nn.KLDivLoss(), numbers),
    "margin": (nn.MultiMarginLoss(weight=WEIGHTS), labels),
    "soft margins": (nn.MultiLabelSoftMarginLoss(weight=WEIGHTS), bits),
    "hinge": (nn.HingeEmbeddingLoss(), signs),
    "function": (nn.functional.cross_entropy, ignored),
    "root": (lambda output, y: nn.functional.mse_loss(output, y).sqrt(), numbers),
    "ratio": (lambda output, y: ((output - y) ** 2).sum() / (y**2).sum(), numbers),
    "weighted function": (
        lambda output, y: nn.functional.cross_entropy(output, y, weight=WEIGHTS),
        labels,
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("cut", [7, 32, 45, N])
def test_the_loss_of_a_set_is_what_torch_gives_on_the_whole(name, cut):
    loss, targets = LOSSES[name]
    generator = torch.Generator().manual_seed(1)
    output, y = torch.randn(N, CLASSES, generator=generator), targets(generator)
    batches = list(zip(output.split(cut), y.split(cut), strict=True))
    found, _ = told("inv-loss", loss, batches)
    assert found == pytest.approx(float(loss(output, y)), rel=1e-6)


def test_outputs_of_several_tensors_are_joined():
    class Two(typing.NamedTuple):
        mean: torch.Tensor
        rest: dict[str, torch.Tensor]

    def loss(output, y):
        return (output.mean - y[0]).square().mean().sqrt() + output.rest["a"].mean()

    whole = Two(torch.arange(10.0), {"a": torch.arange(20.0).view(10, 2)})
    y = [torch.ones(10), torch.zeros(10)]
    parts = [
        (Two(whole.mean[some], {"a": whole.rest["a"][some]}), [one[some] for one in y])
        for some in (slice(0, 7), slice(7, 10))
    ]
    tally = Tally(Measure("inv-loss", loss), 10)
    for output, target in parts:
        tally.add(output, target)
    assert tally.loss == pytest.approx(float(loss(whole, y)), rel=1e-6)
    assert type(join([part for part, _ in parts])) is Two


def test_outputs_without_a_row_for_each_sample_are_not_joined():
    weights = torch.ones(3, 4)
    whole, y = torch.arange(10.0), torch.zeros(10)
    loss = lambda output, y: squares(output[0], y).mean() + output[1].norm()  # noqa: E731
    for cut in (7, 3):  # with three samples, what has as many rows may be one a sample
        tally = Tally(Measure("inv-loss", loss), 10)
        for some in torch.arange(10).split(cut):
            tally.add((whole[some], weights), y[some])
        assert tally.loss == pytest.approx(float(loss((whole, weights), y)), rel=1e-6)
    (note,) = notes_of(Measure("inv-loss", loss), (whole, weights), y, 1000)
    assert "a row for each sample" in note


def test_a_squeezed_output_of_one_sample_is_joined():
    whole, y = torch.arange(8.0), torch.ones(8)
    tally = Tally(Measure("inv-loss", roots), 8)
    tally.add(whole[:7], y[:7])
    tally.add(whole[7], y[7:])
    assert tally.loss == pytest.approx(float(roots(whole, y)), rel=1e-6)


def test_what_does_not_fit_into_memory_weighs_by_its_samples():
    tally = Tally(Measure("inv-loss", constant(1.0, 5.0)), MOST_WHOLE)
    for count in (3, 1):
        tally.add(torch.zeros(count, 2), torch.zeros(count))
    assert tally.loss == 2.0


def test_labels_that_the_loss_leaves_out_count_in_no_accuracy():
    output = torch.tensor([[2.0, 1.0]] * 4)
    y = torch.tensor([0, 1, -100, -100])
    for loss in (nn.CrossEntropyLoss(), nn.functional.cross_entropy):
        assert told("classification", loss, [(output, y)])[1] == 1 / 2
        assert told("classification", loss, [(output[2:], y[2:]), (output, y)])[1] == 1 / 2
    own = nn.CrossEntropyLoss(ignore_index=1)
    assert told("classification", own, [(output[:2], y[:2])])[1] == 1.0
    nested = lambda output, y: 2 * own(output, y)  # noqa: E731
    assert told("classification", nested, [(output[:2], y[:2])])[1] == 1.0
    assert told("classification", nn.CrossEntropyLoss(), [(output, y)], numerics=1)[1] == 1 / 4


@pytest.mark.parametrize(
    ("loss", "right"),
    [
        (nn.BCEWithLogitsLoss(), 1.0),
        (nn.functional.binary_cross_entropy_with_logits, 1.0),
        (lambda output, y: nn.functional.binary_cross_entropy_with_logits(output, y) * 3, 1.0),
        (nn.MultiLabelSoftMarginLoss(), 1.0),
        (nn.SoftMarginLoss(), 1.0),
        (lambda output, y: nn.functional.binary_cross_entropy(output.sigmoid(), y), 1.0),
        (lambda output, y: -nn.functional.logsigmoid((2 * y - 1) * output).mean(), 1.0),
        (lambda output, y: -nn.functional.logsigmoid(-output).mean(), 1.0),
        (nn.MSELoss(), 0.0),
        (lambda output, y: nn.functional.mse_loss(output, y) + (3 * y).sigmoid().mean(), 0.0),
    ],
)
def test_logits_are_compared_with_zero(loss, right):
    output, y = torch.tensor([[0.2, -0.2], [0.3, 0.4]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert told("multiclass", loss, [(output, y)])[1] == right
    assert told("multiclass", loss, [(output, y)], numerics=1)[1] == 0.0


# -- what a first batch shows ---------------------------------------------------------------------

ROWS = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))
PACKED = torch.rand(16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (nn.PoissonNLLLoss(), True),
        (nn.L1Loss(), True),
        (lambda output, y: (output - y).square().mean(), True),
        (lambda output, y: (output - y).abs().mean() + output.square().mean(), True),
        (lambda output, y: (output.squeeze(1) - y).square().mean(), False),
        (lambda output, y: (output - y.unsqueeze(1)).square().mean(), False),
        (lambda output, y: (output.view(-1) - y.view(-1)).square().mean().sqrt(), False),
        # Pairs samples on purpose.
        (lambda output, y: (output - output.T).mul(y[:, None] - y).square().mean(), False),
    ],
)
def test_shapes_that_are_broadcast_are_seen_in_every_loss(loss, wrong):
    assert is_broadcast(loss, ROWS, PACKED) is wrong


def roots(output, y):
    return (output - y).square().mean().sqrt()


@pytest.mark.parametrize(
    ("loss", "output", "y", "wrong"),
    [
        # Nothing that is a mean over samples shows it.
        (roots, ROWS, PACKED, True),
        (lambda output, y: roots(output * 2 + 1, y.clamp(0, 1)), ROWS, PACKED, True),
        (lambda output, y: roots(output.squeeze(1), y), ROWS, ROWS, True),
        (lambda output, y: roots(output, y[0]), ROWS, [PACKED, ROWS], True),
        (lambda output, y: roots(output["a"], y[:, 0]), {"a": ROWS}, ROWS.expand(16, 3), True),
        (lambda output, y: roots(output[:, :1], y[:, 1]), *[ROWS.expand(16, 2)] * 2, True),
        (roots, torch.rand(16, 1, 3, 3), torch.rand(16, 3, 3), True),
        (roots, ROWS, ROWS, False),
        (lambda output, y: roots(output[:, 0], y), ROWS, PACKED, False),
        (lambda output, y: roots(output * torch.arange(15.0), y), ROWS, ROWS, False),
        (lambda output, y: roots(output * torch.arange(16.0), y), ROWS, ROWS, False),
        # Pairs of samples that a loss asks for.
        (lambda _, y: (y[:, None] == y).float().mean(), ROWS, PACKED, False),
        (
            lambda output, _: (
                (output**2).sum(1, keepdim=True) + (output**2).sum(1) - 2 * output @ output.T
            ).mean(),
            ROWS,
            PACKED,
            False,
        ),
    ],
)
def test_pairs_of_samples_are_seen_where_no_loss_asks_for_them(loss, output, y, wrong):
    assert is_broadcast(loss, output, y) is wrong


def squares(output, y):
    return (output - y).square()


@pytest.mark.parametrize(
    ("loss", "summed"),
    [
        (lambda output, y: squares(output, y).sum(), True),
        (lambda output, y: squares(output, y).mean() + 0.01 * output.abs().sum(), True),
        (lambda output, y: squares(output, y).mean() + 7.0, False),
        (lambda output, y: squares(output, y).mean().sqrt(), False),
        (lambda output, y: squares(output, y).mean() + len(y) ** 0.5, False),
    ],
)
def test_a_sum_is_seen_as_the_whole_or_a_part_of_a_loss(loss, summed):
    assert has_sum(loss, ROWS, ROWS + 1) is summed
    two = lambda output, y: loss(output["a"], y[0]) + squares(output["b"], y[1]).mean()  # noqa: E731
    assert has_sum(two, {"a": ROWS, "b": ROWS}, [ROWS + 1, ROWS + 2]) is summed


def test_a_sum_of_what_is_zero_before_training_is_seen():
    loss = lambda output, y: squares(output[0], y).mean() + 0.1 * output[1].square().sum()  # noqa: E731
    assert has_sum(loss, (ROWS, torch.zeros(16, 2)), ROWS + 1)
    # Weights, which have no row for each sample.
    assert not has_sum(loss, (ROWS, torch.ones(3, 2)), ROWS + 1)


def test_a_loss_gathers_nothing_when_it_is_asked_what_it_takes():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, output, y):
            return nn.functional.cross_entropy(self.norm(output), y)

    for mode in (True, False):
        loss = Normalised().train(mode)
        Measure("classification", loss).judge(torch.randn(5, 2), torch.zeros(5, dtype=torch.long))
        assert loss.norm.num_batches_tracked == 0
        assert loss.training is loss.norm.training is mode


def test_accuracy_of_what_is_no_tensor_is_refused_with_words():
    measure = Measure("classification", nn.CrossEntropyLoss())
    with pytest.raises(TypeError, match="the model gives a dict: let the model give one tensor"):
        measure.judge({"logits": torch.zeros(3, 2)}, torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeError, match="the labels are a list"):
        measure.judge(torch.zeros(3, 2), [torch.zeros(3)])


def test_a_person_is_told_what_does_not_fit():
    output, y = torch.zeros(4, 2), torch.zeros(4, 2)
    fine = Measure("multiclass", nn.BCEWithLogitsLoss())
    assert notes_of(fine, output, y, 1000) == []
    (note,) = notes_of(Measure("multilabel", nn.CrossEntropyLoss()), output, y, 1000)
    assert "accuracy_style 'multilabel' beside CrossEntropyLoss" in note
    (note,) = notes_of(Measure("inv-loss", squares), output, y, MOST_WHOLE)
    assert "more than 64 MiB" in note
    (note,) = notes_of(Measure("inv-loss", squares), {"a": 3}, y, 1000)
    assert "cannot" not in note
    assert "a row for each sample" in note
