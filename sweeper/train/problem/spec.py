"""What the driver knows of a problem and sends to workers; without torch."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeper.code.importing import ModuleRef, import_module
from sweeper.records import NUMERICS, KFold, Metric
from sweeper.train.problem.routing import Routes
from sweeper.workload import Source


def environment_of(numerics: int) -> Mapping[str, str]:
    """Default environment variables of workers, by numerics release.

    Without `MKL_CBWR`, on some processors MKL's functions for thin matrices depend on the address
    of the operands, so a replica's bits would depend on its place in a pack.  MKL reads it once, at
    the first matrix product.
    """
    return {"MKL_CBWR": "AUTO"} if numerics >= 2 else {}


@dataclass(frozen=True, slots=True)
class ProblemSpec:
    """A description of a problem that was imported and checked, as plain data."""

    ref: ModuleRef
    source_sha256: str
    """SHA-256 of the module's file."""
    sources: tuple[Source, ...]
    """The module's file, and those that it imports."""
    own_label: str
    """The label of the module's file among the sources."""
    stale: tuple[str, ...]
    """Labels of sources that changed since this process imported them."""
    has_handlers: bool
    routes: Routes
    """Which of its functions takes which parameter of a point."""
    libraries: str
    """The numerical libraries that torch uses, with their versions."""
    optimizer: str
    """The name of the optimiser of points that give it no parameters (see `Choice.name`)."""
    own: bytes | None
    """The module's `points` and `trials`, pickled; None: it has a selector, or they cannot be
    pickled."""
    metrics: tuple[Metric, ...] = ()
    """Metrics of trials beside `CLASSIC`."""
    options: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The values to try of each option that the optimiser has, if it is tuned; its own is first."""

    def check_params(self, params: Any) -> None:
        """Check that a point may have these parameters, as far as signatures tell.

        Raises:
            ParamError: a parameter is unknown or missing; the message lists the known ones.
        """
        self.routes.check(params, self.ref.name)

    def search(self) -> Mapping[str, Any]:
        """Those of `points`, `trials` and `selector` that the module defines.

        The module is imported if they were not pickled.

        Raises:
            ProblemError: it cannot be imported here.
        """
        if self.own is not None:
            try:
                found: Mapping[str, Any] = pickle.loads(self.own)  # noqa: S301 - through our own pipe
            except Exception:  # noqa: BLE001, S110 - a class that is found by the module alone, say
                pass
            else:
                return found
        return said_of_search(import_module(self.ref))


def said_of_search(module: object) -> dict[str, Any]:
    """See `ProblemSpec.search`."""
    names = ("points", "trials", "selector")
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of a tensor in the shared map."""

    dtype: str
    """torch's name of the dtype."""
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class DataRef:
    """How a worker opens the data; the shared map's file descriptor is sent separately."""

    seed: int
    """The sweep's."""
    n_train: int
    n_val: int
    sha256: str
    layouts: tuple[Layout, ...] = ()
    """x and y of the training set, of the validation set, and of the test set if there is one;
    empty: data is loaded as it goes."""
    size: int = 0
    """Bytes of the map."""
    remade: bool = False
    """Whether samples may depend on what was read before: then `dataset()` is called anew for each
    replica, since a replica must not depend on what ran before it."""
    earlier_sha256: str = ""
    """The checksum of the same data in earlier releases, if it differs."""
    note: str = ""
    """Whether data is held or loaded as it goes, and why."""
    n_test: int = 0
    """0: there is no test set."""
    validation: float | KFold | None = None
    """How sweeper splits one set for each trial: then `n_train` and `n_val` are a split's sizes,
    and `layouts` are x and y of the set.  None: dataset() returns the validation set."""
    labels: Layout | None = None
    """The place of the labels by which the set is stratified."""
    notes: tuple[str, ...] = ()
    """Further notes for readers of the results."""


@dataclass(frozen=True, slots=True)
class TrainContext:
    """What all jobs of a sweep share."""

    problem: ModuleRef
    sources: tuple[tuple[str, str], ...]
    """Path and SHA-256 of the problem's files when it was read."""
    data: DataRef
    seed: int
    threads: int
    curve_samples: int
    save_models: bool
    model_path: str
    """The path of a trial's weights, with placeholders for `id` and `number`."""
    checkpoints: str = ""
    """The folder of checkpoints; empty: none are kept."""
    checkpoint_every: float = 60.0
    """Seconds between the checkpoints of a trial, at least."""
    numerics: int = NUMERICS
    """The numerics release that the folder was begun with."""
    allow_changed_code: bool = False
    """Whether trials of a point may be compiled with different toolchains."""
    keep_ends: bool = False
    """Whether the end of each trial is saved, since others may begin from it."""
