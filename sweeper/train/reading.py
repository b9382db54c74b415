"""What is read of a problem for the driver, which does without torch: a process beside it does."""

from __future__ import annotations

import sys

from sweeper.train.context import Brief, DataRef
from sweeper.train.data import read_data
from sweeper.train.loading import ProblemRef
from sweeper.train.problem import load_problem


def read_brief(fd: int, ref: ProblemRef) -> Brief:
    """The problem imported and checked.

    Raises:
        ProblemError: it cannot be imported, or lacks something.
    """
    del fd
    before = set(sys.modules)
    problem = load_problem(ref)
    return problem.brief(imported=[name for name in list(sys.modules) if name not in before])


def read_shared(fd: int, ref: ProblemRef, seed: int) -> DataRef:
    """Its data, written into the file `fd` where it can be held.

    Raises:
        ProblemError: the data cannot be made or read.
    """
    return read_data(load_problem(ref), seed, fd)
