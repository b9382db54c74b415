"""What the driver knows of a problem, and tells its workers; made and read without torch."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ParamError
from sweeper.records import NUMERICS, KFold, Metric
from sweeper.train.problem.importing import ProblemRef, import_module
from sweeper.workload import Source


def environment_of(numerics: int) -> Mapping[str, str]:
    """The variables that workers have by default, by release of the numerics.

    Without `MKL_CBWR` MKL multiplies thin matrices on some processors by functions that depend on
    the address of the operands, so that a replica's bits would depend on its place in a pack.  MKL
    reads it once, in the first product.
    """
    return {"MKL_CBWR": "AUTO"} if numerics >= 2 else {}


@dataclass(frozen=True, slots=True)
class Call:
    """How a function is called: its parameters, without their defaults, which may be anything."""

    text: str
    """As Python shows it, for people."""
    parameters: tuple[tuple[str, int, bool], ...]
    """Of each: its name, its kind (see `inspect.Parameter`), and whether it has a default."""

    @classmethod
    def of(cls, function: Any) -> Call | None:
        """Of a function that says it; None: it does not."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            return None
        parameters = signature.parameters.values()
        return cls(
            str(signature),
            tuple((p.name, int(p.kind), p.default is not p.empty) for p in parameters),
        )

    @property
    def names(self) -> list[str] | None:
        """The parameters that can be given by name; None: any can."""
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if any(kind == inspect.Parameter.VAR_KEYWORD for _, kind, _ in self.parameters):
            return None
        return [name for name, kind, _ in self.parameters if kind in by_name]

    def bind(self, params: Any) -> None:
        """See that it can be called so.

        Raises:
            TypeError: it cannot.
        """
        signature = inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect._ParameterKind(kind),  # noqa: SLF001 - what `Parameter.kind` is
                    default=None if optional else inspect.Parameter.empty,
                )
                for name, kind, optional in self.parameters
            ]
        )
        if isinstance(params, Mapping):
            signature.bind(**params)
        else:
            signature.bind(*params)


@dataclass(frozen=True, slots=True)
class ProblemSpec:
    """A problem that has been imported and checked, without what is in it."""

    ref: ProblemRef
    source_sha256: str
    """Of the module's file."""
    sources: tuple[Source, ...]
    """That file, and those that it imports."""
    own_label: str
    """That file's, among the sources."""
    stale: tuple[str, ...]
    """Of the sources, those that this process has imported as they were before: their labels."""
    has_handlers: bool
    model: Call | None
    """How `model` is called; None: it does not say."""
    libraries: str
    """The numerical libraries that torch uses, with their versions."""
    optimizer: str
    """The name of its optimiser (see `Choice.name`)."""
    own: bytes | None
    """Pickled, what the module says itself of what to try: `points` and `trials`; None: it has a
    selector, or what cannot be pickled."""
    metrics: tuple[Metric, ...] = ()
    """What trials come to beside `CLASSIC`."""

    def check_params(self, params: Any) -> None:
        """Whether `model` can be called so, as far as its signature says.

        Raises:
            ParamError: an unknown or missing parameter; the message lists the known ones.
        """
        if self.model is None:
            return
        try:
            self.model.bind(params)
        except TypeError as error:
            names = [name for name, _, _ in self.model.parameters]
            raise ParamError(
                f"params={params!r} do not fit model{self.model.text} of problem {self.ref.name}: "
                f"{error}; it takes {', '.join(names) or 'no parameters'}"
            ) from None

    def search(self) -> Mapping[str, Any]:
        """What the module says of what to try: of `points`, `trials` and `selector`, what it has.

        The module is imported where that is the only way to know.

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
    """See `Brief.search`."""
    names = ("points", "trials", "selector")
    return {name: getattr(module, name) for name in names if hasattr(module, name)}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a tensor lies in the shared map."""

    dtype: str
    """The name that torch has for it."""
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class DataRef:
    """How a worker gets the data; the map itself is a file descriptor that travels beside."""

    seed: int
    """The sweep's."""
    n_train: int
    n_val: int
    sha256: str
    layouts: tuple[Layout, ...] = ()
    """x and y of the training set, x and y of the validation set, and those of the test set where
    there is one; empty: loaded as it goes."""
    size: int = 0
    """Bytes of the map."""
    remade: bool = False
    """Whether samples may depend on what was read before them: then `dataset()` is called anew
    for each replica, since a replica must not depend on what ran before it."""
    earlier_sha256: str = ""
    """The checksum that earlier releases had of the same data, where it is another one."""
    note: str = ""
    """Which way was taken, and why."""
    n_test: int = 0
    """0: there is no test set."""
    validation: float | KFold | None = None
    """How sweeper splits one set for each trial: then `n_train` and `n_val` are a split's, and
    `layouts` are x and y of the set.  None: dataset() gives the validation set."""
    labels: Layout | None = None
    """Where the labels lie by which such a set is stratified."""
    notes: tuple[str, ...] = ()
    """What else a reader of the results should know."""


@dataclass(frozen=True, slots=True)
class TrainContext:
    """What every job of a sweep shares."""

    problem: ProblemRef
    sources: tuple[tuple[str, str], ...]
    """The files of the problem as they were when it was read: of each its path and SHA-256."""
    data: DataRef
    seed: int
    threads: int
    curve_samples: int
    save_models: bool
    model_path: str
    """Where a trial's weights go, with places for `id` and `number`."""
    numerics: int = NUMERICS
    """The release of the numerics that the folder was begun with."""
    allow_changed_code: bool = False
    """Whether trials of a point may differ in what their step was compiled with."""
