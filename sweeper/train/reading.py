"""What is read of a problem for the driver, which does without torch: a process beside it does."""

from __future__ import annotations

from sweeper.train.context import Brief, DataRef
from sweeper.train.data import read_data
from sweeper.train.loading import ProblemRef
from sweeper.train.problem import load_problem, own_threads


def read_brief(fd: int, ref: ProblemRef) -> Brief:
    """The problem imported and checked.

    Raises:
        ProblemError: it cannot be imported, or lacks something.
    """
    del fd
    with own_threads(1):
        return load_problem(ref).brief()


def read_shared(fd: int, ref: ProblemRef, seed: int, threads: int) -> DataRef:
    """Its data, made with as many threads as in a worker; in the file `fd` where it can be held.

    Raises:
        ProblemError: the data cannot be made or read.
    """
    with own_threads(threads):
        return read_data(load_problem(ref), seed, fd)
