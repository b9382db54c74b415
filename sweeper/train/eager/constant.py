"""The loss of a constant output: what a model that ignores its input could reach."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.train.data.samples import Data
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.metrics import evaluating
from sweeper.train.problem.measure.reductions import rebuild
from sweeper.train.problem.problem import Problem
from sweeper.train.replica.streams import Streams
from sweeper.train.vectorize.trace import tensors_of

SAMPLES = 2048
"""The constant is fitted to at most this many training samples."""

_ROUNDS, _ITERATIONS = 4, 25


def constant_loss(problem: Problem, data: Data, streams: Streams, encoded: str) -> float:
    """The least loss of one output for all training samples.

    For class labels it is the entropy of their frequencies, for squared errors the variance of
    the targets.  It is infinite if it cannot be found, as for outputs that are not tensors with
    a row per sample.
    """
    try:
        return _fit(problem, data, streams, encoded)
    except Exception:  # noqa: BLE001 - whatever a loss raises for outputs that no model gave
        return math.inf


def _fit(problem: Problem, data: Data, streams: Streams, encoded: str) -> float:
    streams.seed_globals("init")
    _, model = problem.make_model(encoded)
    loss = problem.make_loss(encoded)
    count = min(len(data.train), SAMPLES)
    places = np.linspace(0, len(data.train) - 1, count).round().astype(np.int64)
    x, y = next(iter(data.train.batches([places])))
    with evaluating(model, loss):
        with torch.no_grad():
            output = call_model(model, x)
        parts = tensors_of(output)
        if not all(part.is_floating_point() and len(part) == count for part in parts):
            return math.inf
        rows = [part.mean(dim=0, keepdim=True).clone().requires_grad_() for part in parts]
        optimizer = torch.optim.LBFGS(rows, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

        def value() -> Tensor:
            optimizer.zero_grad()
            spread = (row.expand(count, *row.shape[1:]) for row in rows)
            found: Tensor = loss(rebuild(output, spread), y)
            found.backward()  # type: ignore[no-untyped-call]
            return found.detach()

        step: Any = optimizer.step
        reached = [float(step(value).detach()) for _ in range(_ROUNDS)]
    finite = [one for one in reached if math.isfinite(one)]
    return min(finite, default=math.inf)
