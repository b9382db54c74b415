"""Checks that all that is random in a model and a loss is governed by the seed.

A generator that is made once, at the top of a module, goes on from one trial to the next.  What a
trial draws from it depends on the trials before it in the same process, so on the number of cores.
"""

from __future__ import annotations

import copy
import math

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sweeper.train.data.checksum import Checksum
from sweeper.train.data.samples import Batch, Data, in_order
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams, fork_rng

_SAMPLES = 32
"""Of the batch that is tried."""

_CLOSE = 1e-5
"""Relative difference of two losses that rounding explains."""

_GOVERNED = (
    "the global generators of torch, NumPy and random, which are seeded for each trial, or "
    "generators that model() and loss() make anew at each call"
)


def check_governed(problem: Problem, data: Data, streams: Streams, encoded: str) -> None:
    """Check that a point's model and loss are the same when made and used twice under one seed.

    The generators' states are as before afterwards.

    Raises:
        ProblemError: they are not; the message names the first tensor that differs.
    """
    with fork_rng():
        batch = next(iter(data.train.batches(in_order(len(data.train), _SAMPLES))))
        (weights, loss), (others, again) = (
            _try(problem, streams, encoded, copy.deepcopy(batch)) for _ in range(2)
        )
    called = problem.called("model", encoded)
    other = next((name for name, value in weights.items() if value != others.get(name)), None)
    if other is not None:
        found = f"made twice under one seed it begins with other values of {other}"
        raise problem.fault(f"what {called} returns", f"{_RANDOM}: {found}", _GOVERNED)
    if not _is_same(loss, again):
        found = f"with the same weights, samples and seed its loss is {loss:.6g} and {again:.6g}"
        raise problem.fault(f"{called} on a batch", f"{_RANDOM}: {found}", _GOVERNED)


_RANDOM = "random in a way that no seed governs"


def _try(
    problem: Problem, streams: Streams, encoded: str, batch: Batch
) -> tuple[dict[str, str], float]:
    """The checksums of a new model's and loss's tensors, and the loss on a batch."""
    x, y = batch
    streams.seed_globals("init")
    _, model = problem.make_model(encoded)
    loss = problem.make_loss(encoded)
    weights = _sums(model) | {f"the loss's {name}": sum_ for name, sum_ in _sums(loss).items()}
    streams.seed_globals("inside")
    model.train()
    return weights, float(loss(call_model(model, x), y).detach())


def _sums(module: object) -> dict[str, str]:
    if not isinstance(module, nn.Module):
        return {}
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: _sum(tensor) for name, tensor in named if not is_lazy(tensor)}


def _sum(tensor: Tensor) -> str:
    checksum = Checksum()
    checksum.add(tensor)
    return checksum.sha256


def _is_same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_CLOSE) or (math.isnan(one) and math.isnan(other))
