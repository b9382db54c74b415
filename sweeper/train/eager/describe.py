"""What a plan must know of a point beforehand: its own loss, optimizer and data."""

from __future__ import annotations

from collections.abc import Mapping

from sweeper.train.data.samples import Data
from sweeper.train.eager.probes import run_check
from sweeper.train.problem.optimizers import read_optimizer
from sweeper.train.problem.problem import Problem
from sweeper.train.streams import Streams
from sweeper.train.tuning.stages import Check, Describe


def describe(
    problem: Problem, data: Data, streams: Streams, params: str, told: Describe
) -> Mapping[str, str]:
    """Check that the parts of a point work together, and return its texts for `Own.found`.

    Raises:
        ProblemError: they do not; the message names the call, its result and what is expected.
    """
    run_check(problem, data, streams, params, Check(told.batch_size, steps=1))
    return {"optimizer": read_optimizer(problem.optimizer(params)).name}
