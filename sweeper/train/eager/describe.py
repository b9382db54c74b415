"""What a plan must know of a point beforehand: its own loss, optimizer and data."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sweeper.train.data.own import read_own
from sweeper.train.data.samples import Data
from sweeper.train.eager.probes import run_check
from sweeper.train.problem.optimizer.optimizers import read_optimizer
from sweeper.train.problem.optimizer.options import tuned_values
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.problem.spec import DataRef
from sweeper.train.replica.streams import Streams
from sweeper.train.tuning.stages import Check, Describe


def describe(
    problem: Problem,
    data: Data,
    shared: DataRef,
    streams: Streams,
    params: str,
    told: Describe,
) -> Mapping[str, str]:
    """Check that the parts of a point work together, and return its texts for `Own.found`.

    `data` is the point's, `shared` that of points that have none of their own.

    Raises:
        ProblemError: they do not; the message names the call, its result and what is expected.
    """
    run_check(problem, data, streams, params, Check(told.batch_size, steps=1))
    optimizer = problem.optimizer(params)
    found = {"optimizer": read_optimizer(optimizer).name}
    if told.options:
        found["options"] = json.dumps(tuned_values(optimizer, told.options))
    own = problem.data_params(params)
    return found if own == NO_PARAMS else {**found, "data": read_own(problem, own, shared).text()}
