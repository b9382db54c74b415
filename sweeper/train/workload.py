"""A problem as a workload, without torch.

The driver imports neither the problem nor torch: a helper process reads the problem, or this one if
there is no helper (see `Place`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.code.importing import ModuleRef

if TYPE_CHECKING:
    from sweeper.train.open_problem import OpenProblem
    from sweeper.train.problem.spec import DataRef, ProblemSpec

PRELOAD = ("sweeper.train.problem.reading",)
"""Modules that the fork server imports first: the helper process needs them."""

TRAINING = ("sweeper.train.job",)
"""Modules that it imports for workers while the helper process reads the problem."""

TUNING = ("torch._dynamo",)
"""Making torch's first optimiser imports it, which takes as long as torch itself."""


class Place(Protocol):
    """Where the problem is imported and its data read; functions get the shared file first."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Call `"module:function"` there; exceptions are raised here."""

    def load(self, modules: Sequence[str]) -> None:
        """Import these modules ahead for workers; may do nothing."""

    def close(self) -> None:
        """End; no further calls follow."""


class ProblemWorkload:
    """See `Workload`."""

    def __init__(self, ref: ModuleRef, place: Place, fd: int) -> None:
        """The problem at `ref`; `fd` is the file that holds the data for all workers."""
        self._ref, self._place, self._fd = ref, place, fd

    @functools.cached_property
    def spec(self) -> ProblemSpec:
        """The problem's spec; waits until it is imported and checked.

        Raises:
            ProblemError: it cannot be imported, or lacks something.
            BackendError: the helper process cannot be started, or dies.
        """
        spec: ProblemSpec = self._place.call("sweeper.train.problem.reading:read_spec", self._ref)
        return spec

    @property
    def name(self) -> str:
        """See `Workload`."""
        return self.spec.ref.name

    @property
    def module(self) -> str:
        """See `Workload`."""
        return self.spec.ref.module

    def expect_tuning(self) -> None:
        """See `Workload`."""
        self._place.load(TUNING)

    def open(self, seed: int, threads: int) -> OpenProblem:
        """See `Workload`."""
        # Imported while the fork server imports torch.
        from sweeper.train.open_problem import OpenProblem

        ref, function = self.spec.ref, "sweeper.train.problem.reading:read_shared"
        data: DataRef = self._place.call(function, ref, seed, threads)
        return OpenProblem(self.spec, data, self._place, self._fd if data.size else None, threads)
