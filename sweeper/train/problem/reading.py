"""Reads a problem for the driver, in a helper process: the driver does not import torch."""

from __future__ import annotations

import sys

from sweeper.code.importing import ModuleRef
from sweeper.train.data.sharing import read_data
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.spec import DataRef, ProblemSpec
from sweeper.train.problem.threads import own_threads


def read_spec(fd: int, ref: ModuleRef) -> ProblemSpec:
    """Import and check the problem.

    Raises:
        ProblemError: it cannot be imported, or lacks something.
    """
    del fd
    before = set(sys.modules)
    with own_threads(1):
        problem = load_problem(ref)
        return problem.spec(imported=[name for name in list(sys.modules) if name not in before])


def read_shared(fd: int, ref: ModuleRef, seed: int, threads: int) -> DataRef:
    """Read the data with a worker's number of threads, into the file `fd` if it can be held.

    Raises:
        ProblemError: the data cannot be made or read.
    """
    with own_threads(threads):
        return read_data(load_problem(ref), seed, fd)
