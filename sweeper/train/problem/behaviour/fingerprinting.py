"""Takes the fingerprints of stored points, for the driver, in a helper process."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.code.importing import ModuleRef
from sweeper.train.data.own import open_own
from sweeper.train.data.sharing import open_data
from sweeper.train.problem.behaviour.fingerprint import fingerprint
from sweeper.train.problem.loading import load_problem
from sweeper.train.problem.problem import NO_PARAMS
from sweeper.train.problem.spec import DataRef
from sweeper.train.replica.streams import fork_rng


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
