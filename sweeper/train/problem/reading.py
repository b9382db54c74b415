"""Reads a problem for the driver, in a helper process: the driver does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sweeper.code.importing import ModuleRef
from sweeper.train.data.own import open_own
from sweeper.train.data.sharing import open_data, read_data
from sweeper.train.problem.fingerprint import fingerprint
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.problem import NO_PARAMS
from sweeper.train.problem.spec import DataRef, ProblemSpec
from sweeper.train.problem.threads import own_threads
from sweeper.train.streams import fork_rng


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


def take_fingerprints(
    fd: int,
    ref: ModuleRef,
    data_ref: DataRef,
    threads: int,
    points: Sequence[tuple[str, str]],
) -> list[str | None]:
    """The fingerprints of points, given by signature and encoded parameters.

    None stands for one that raises.  The global generators are restored.
    """
    problem = load_problem(ref)
    taken: list[str | None] = []
    with fork_rng():
        data = open_data(problem, data_ref, fd)
        for signature, encoded in points:
            if data_ref.remade:
                data = open_data(problem, data_ref, fd)
            own = problem.data_params(encoded)
            try:
                used = data if own == NO_PARAMS else open_own(problem, own, data_ref, None)
                found = fingerprint(problem, used, data_ref.seed, threads, signature, encoded)
            except Exception:  # noqa: BLE001 - whatever a model raises, it is another one now
                taken.append(None)
            else:
                taken.append(found.text())
    return taken


def read_shared(fd: int, ref: ModuleRef, seed: int, threads: int) -> DataRef:
    """Read the data with a worker's number of threads, into the file `fd` if it can be held.

    Raises:
        ProblemError: the data cannot be made or read.
    """
    with own_threads(threads):
        return read_data(load_problem(ref), seed, fd)
