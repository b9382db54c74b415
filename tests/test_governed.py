"""What a model or a loss draws from generators that no seed governs is refused by name."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from blobs import LADDER, UNTUNED
from sweeper.errors import ProblemError
from sweeper.search import FixedSweep
from sweeper.train.eager.probes import run_check
from sweeper.train.problem.behaviour.governed import check_governed
from sweeper.train.tuning.stages import Check
from sweeping import run
from test_probes import PARAMS, data_of, problem_of, streams_of

pytestmark = pytest.mark.usefixtures("one_thread")

NOISE = {
    "torch": lambda shape, own: torch.randn(shape, generator=own),
    "numpy": lambda shape, own: torch.tensor(own.normal(size=shape), dtype=torch.float32),
    "random": lambda shape, own: torch.full(shape, own.gauss(0, 1)),
}
OWN = {
    "torch": lambda: torch.Generator().manual_seed(1),
    "numpy": lambda: np.random.default_rng(1),
    "random": lambda: random.Random(1),
}
GLOBAL = {"torch": None, "numpy": np.random, "random": random}


class Noisy(nn.Module):
    """One that adds noise in training."""

    def __init__(self, kind, generator):
        super().__init__()
        self.layer, self.kind, self.generator = nn.Linear(3, 2), kind, [generator]

    def forward(self, x):
        noise = 0.01 * NOISE[self.kind](x.shape, self.generator[0]) if self.training else 0
        return self.layer(x + noise)


def drawn(kind, generator):
    """A model whose first weights come from this generator."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    with torch.no_grad():
        model[0].weight.copy_(NOISE[kind]((2, 3), generator))
    return model


def check(make):
    check_governed(problem_of(make), data_of(), streams_of(0, "check"), PARAMS)


@pytest.mark.parametrize("kind", NOISE)
def test_a_generator_that_is_made_once_is_refused(kind):
    own = OWN[kind]()
    with pytest.raises(ProblemError, match=r"no seed governs: made twice .* values of 0\.weight"):
        check(lambda: drawn(kind, own))
    with pytest.raises(ProblemError, match="no seed governs: with the same weights"):
        check(lambda: Noisy(kind, own))


@pytest.mark.parametrize("kind", NOISE)
def test_global_generators_and_those_made_anew_are_fine(kind):
    for make in (OWN[kind], lambda: GLOBAL[kind]):
        check(lambda make=make: drawn(kind, make()))
        check(lambda make=make: Noisy(kind, make()))


def test_trying_it_leaves_the_generators_where_they_were():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check(lambda: drawn("torch", None))
    assert torch.rand(1) == expected


def test_the_check_of_the_first_point_tries_it():
    own = OWN["numpy"]()
    with pytest.raises(ProblemError, match="no seed governs"):
        run_check(
            problem_of(lambda: drawn("numpy", own)),
            data_of(),
            streams_of(0, "check"),
            PARAMS,
            Check(batch_size=16, steps=1),
        )


PROBLEM = """
import numpy as np
import torch
from blobs import accuracy_style, dataset, loss, model as blobs_model

generator = np.random.default_rng(1)


def model(own=False):
    made = blobs_model()
    if own:
        made[0].weight.data += torch.tensor(generator.normal(size=(4, 2)), dtype=torch.float32)
    return made
"""


@pytest.mark.parametrize("hparams", [UNTUNED, LADDER], ids=["untuned", "ladder"])
def test_a_later_point_that_draws_from_one_fails_alone(hparams, tmp_path):
    path = tmp_path / "drawing.py"
    path.write_text(PROBLEM)
    selector = FixedSweep.with_fixed_trials([{"own": False}, {"own": True}], 2)
    found = run(tmp_path / "sweep", selector, path, cores=1, hparams=hparams, backend="inline")
    (failure,) = found.failures
    assert failure.params == {"own": True}
    assert "no seed governs" in failure.message
    assert [len(numbers) for numbers in found.trial_numbers] == [2, 0]
