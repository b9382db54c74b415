"""Every rule, held to two promises: it means what torch means, and its bits are a replica's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sweeper.train.batched import RULES, batched
from sweeper.train.stacked import make_stacked
from sweeper.train.tape import CannotPackError, record

SIZES = (2, 3, 5, 8, 17, 32)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Turned(nn.Module):
    """Looks at its numbers in every way that has a rule, and does arithmetic on them."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        turned = (x.t() * 2.0 - 0.25).transpose(0, 1)
        spread = (turned.unsqueeze(1) + x.unsqueeze(-2)).squeeze(1) / self.scale
        centred = spread - spread.mean(1, keepdim=True)
        return (-centred) / (1.0 + centred.sum(-1, keepdim=True) * 0.01 + self.scale.sum() * 0.1)


class InTwo(nn.Module):
    """Samples of two dimensions each: a product that torch makes of a view."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)

    def forward(self, x):
        return self.inner(x.view(len(x), 1, -1)).squeeze(1) + self.inner(x).mean() * 0.01


ACTIVATIONS = (
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    nn.ReLU6,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.PReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.SiLU,
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.ELU,
    nn.Softplus,
)


def model_of(activation, inputs, hidden, outputs):
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs, bias=hidden % 2 == 0)
    )


def cases():
    """Steps over all rules, with shapes that no power of two divides among them."""
    shapes = [(2, 3, 2, 5), (7, 13, 3, 9), (64, 32, 10, 32), (5, 128, 4, 17), (33, 50, 1, 3)]
    for place, activation in enumerate(ACTIVATIONS):
        for shape in (shapes[place % 5], shapes[(place + 1) % 5]):
            yield lambda a=activation, s=shape: model_of(a, *s[:3]), shape
    for kind in (Turned, InTwo):
        for shape in shapes:
            yield (
                lambda k=kind, s=shape: nn.Sequential(k(s[0]), nn.Tanh(), nn.Linear(s[0], s[2])),
                shape,
            )


CASES = list(cases())


def replicas_of(make, shape, count, seed, loss):
    """Models and batches, each of its own seed."""
    inputs, _, outputs, size = shape
    found = []
    for number in range(count):
        torch.manual_seed(seed * 1000 + number)
        x = torch.randn(size, inputs)
        y = torch.randn(size, outputs)
        found.append((make(), x, y.argmax(1) if isinstance(loss, nn.CrossEntropyLoss) else y))
    return found


def stacked(replicas):
    models = [list(model.parameters()) for model, _, _ in replicas]
    parameters = [torch.stack([p.detach() for p in column]) for column in zip(*models, strict=True)]
    return [*parameters, *(torch.stack([r[part] for r in replicas]) for part in (1, 2))]


LOSSES = [nn.CrossEntropyLoss(), nn.MSELoss(), nn.MSELoss(reduction="sum")]


def losses_of(shape):
    return [loss for loss in LOSSES if shape[2] > 1 or not isinstance(loss, nn.CrossEntropyLoss)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_replicas_bits_depend_on_neither_the_size_of_the_pack_nor_its_place(case):
    make, shape = CASES[case]
    random = np.random.default_rng(case)
    for loss in losses_of(shape):
        replicas = replicas_of(make, shape, 32, case, loss)
        tape, _, _ = record(replicas[0][0], loss, *replicas[0][1:])
        step = batched(tape)
        known = {}
        for size in (*SIZES, *SIZES):
            chosen = random.permutation(32)[:size]
            with torch.no_grad():
                found = step(stacked([replicas[number] for number in chosen]))
            for place, number in enumerate(chosen):
                bits = [value[place].numpy().tobytes() for value in found]
                assert known.setdefault(number, bits) == bits


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_batched_step_is_torchs_own_step_of_each_replica(case):
    make, shape = CASES[case]
    for loss in losses_of(shape):
        replicas = replicas_of(make, shape, 3, case, loss)
        tape, _, _ = record(replicas[0][0], loss, *replicas[0][1:])
        double = [
            (model.double(), x.double(), y.double() if y.is_floating_point() else y)
            for model, x, y in replicas
        ]
        with torch.no_grad():
            losses, *gradients = batched(tape)(stacked(double))
        for place, (model, x, y) in enumerate(double):
            value = loss(model(x), y)
            expected = torch.autograd.grad(value, list(model.parameters()))
            torch.testing.assert_close(losses[place], value.detach(), rtol=1e-10, atol=1e-12)
            for one, other in zip(gradients, expected, strict=True):
                torch.testing.assert_close(one[place], other, rtol=1e-10, atol=1e-12)


def test_every_rule_is_in_some_case():
    seen = set()
    for make, shape in CASES:
        for loss in losses_of(shape):
            ((model, x, y),) = replicas_of(make, shape, 1, 0, loss)
            seen |= {operation.name for operation in record(model, loss, x, y)[0].operations}
    assert seen == set(RULES)


OPTIMIZERS = {
    "sgd": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.01},
    ],
    "adam": [{}, {"weight_decay": 0.1, "betas": (0.8, 0.9)}],
    "adamw": [{}, {"weight_decay": 0.3, "eps": 1e-3}],
}
NAMED = [(name, options) for name, each in OPTIMIZERS.items() for options in each]


@pytest.mark.parametrize(("name", "options"), NAMED)
def test_stacked_optimisers_are_torchs_and_their_bits_a_replicas_own(name, options):
    from sweeper.train.optimizers import make_optimizer

    torch.manual_seed(0)
    shapes = [(3, 5), (7,), (1,)]
    starts = [torch.randn(32, *shape) for shape in shapes]
    gradients = [[torch.randn(32, *shape) for shape in shapes] for _ in range(4)]
    rates = [0.1, 0.3, 0.01, 0.2]

    def trained(chosen, dtype=torch.float32):
        parameters = [start[chosen].to(dtype).clone() for start in starts]
        update = make_stacked(name, options, parameters)
        for step, rate in zip(gradients, rates, strict=True):
            update([gradient[chosen].to(dtype) for gradient in step], rate)
        return parameters

    whole = trained(list(range(32)))
    for size in SIZES:
        chosen = np.random.default_rng(size).permutation(32)[:size].tolist()
        for one, other in zip(trained(chosen), whole, strict=True):
            assert one.numpy().tobytes() == other[chosen].numpy().tobytes()
    own = [nn.Parameter(start[4].double()) for start in starts]
    optimizer = make_optimizer({"name": name, **options}, own, 0.1)
    for step, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(own, step, strict=True):
            parameter.grad = gradient[4].double()
        optimizer.step()
    for one, other in zip(trained([4, 4], torch.float64), own, strict=True):
        torch.testing.assert_close(one[0], other.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"amsgrad": True}, {"maximize": True}])
def test_an_option_without_a_stacked_formula_is_refused(options):
    with pytest.raises(CannotPackError, match="adam with"):
        make_stacked("adam", options, [])
