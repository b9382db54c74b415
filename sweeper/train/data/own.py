"""The data of points that have parameters for `dataset()`: read in each worker, not shared."""

from __future__ import annotations

from typing import Any

import psutil
from torch import Tensor

from sweeper.train.data.reading import (
    CHECKSUM_BYTES,
    HELD_SHARE,
    bytes_in,
    check_made_anew,
    checksum_of,
    held_sets,
    loaded,
    make_sets,
    read_all,
    read_labels,
    read_rule,
    read_sets,
)
from sweeper.train.data.samples import Data, SampleSet
from sweeper.train.data.sharing import data_of
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.spec import DataRef
from sweeper.train.replica.streams import fork_rng
from sweeper.train.tuning.own import OwnData


def read_own(problem: Problem, params: str, shared: DataRef) -> OwnData:
    """Read the data of points with these encoded params twice, and describe it.

    `shared` is the data of points that say nothing of it.

    Raises:
        ProblemError: it cannot be read, differs when made again, or cannot be compared with the
            data that is shared.
    """
    # Each worker holds a copy of its own.
    budget = HELD_SHARE * psutil.virtual_memory().available / (psutil.cpu_count() or 1)
    read = read_sets(problem, params, shared.seed, budget)
    check_made_anew(problem, params, shared.seed)
    n_train, n_val, *n_test = read.sizes
    found = (n_val, sum(n_test), read.rule is None)
    expected = (shared.n_val, shared.n_test, shared.validation is None)
    if found != expected:
        raise problem.fault(
            f"what {problem.called('dataset', params)} returns",
            _sizes(len(read.sets), n_val, sum(n_test)),
            "as many sets, and samples to validate and test on, as dataset() gives, since points "
            f"are compared on them: {_sizes(_count(shared), shared.n_val, shared.n_test)}",
        )
    return OwnData(n_train, read.checksum.sha256, bool(read.held), read.remade)


def _count(shared: DataRef) -> int:
    return 1 if shared.validation is not None else 2 + bool(shared.n_test)


def _sizes(sets: int, n_val: int, n_test: int) -> str:
    tested = f" and {n_test} to test on" if n_test else ""
    return f"{sets} {'set' if sets == 1 else 'sets'} with {n_val} samples to validate on{tested}"


def open_own(problem: Problem, params: str, shared: DataRef, known: OwnData | None) -> Data:
    """The data of points with these encoded params.

    `known` describes it; None: it has not been described yet, so it is not checked.

    Raises:
        ProblemError: it is not what it was when the point was described.
    """
    seed = shared.seed
    sets = make_sets(problem, params, seed)
    rule = read_rule(problem, params, sets)
    if known is None:
        return data_of(loaded(sets), rule, None, seed)
    samples, held = loaded(sets), list[Tensor]()
    if not known.remade:
        samples, held = _read_again(problem, params, sets, known, seed)
    with fork_rng():
        # Others, since reading these might change what they give.
        fresh = make_sets(problem, params, seed)
        known_labels = rule is not None and bytes_in(fresh) <= CHECKSUM_BYTES
        labels = read_labels(problem, params, held, seed) if known_labels else None
    return data_of(samples, rule, labels, seed)


def _read_again(
    problem: Problem, params: str, sets: tuple[Any, ...], known: OwnData, seed: int
) -> tuple[list[SampleSet], list[Tensor]]:
    """The sets, held if `known` says so, and x and y of each that is held.

    Raises:
        ProblemError: they are not what is known.
    """
    with fork_rng():
        held = read_all(sets, seed, 1) if known.held else []
        samples = held_sets(held) if held else loaded(sets)
        found = checksum_of(samples, whole=bytes_in(sets) <= CHECKSUM_BYTES)
    if found.sha256 != known.sha256:
        raise problem.fault(
            f"what {problem.called('dataset', params)} returns",
            "other data than when the point was begun",
            "the same data from each call with the same parameters",
        )
    return samples, held
