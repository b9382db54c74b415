"""Points: their parameters, and what distinguishes their trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from sweeper.errors import ParamError
from sweeper.records.stages import trial_stage

Params: TypeAlias = tuple[Any, ...] | Mapping[str, Any]
"""The parameters of a point: a tuple is passed by position, a mapping by name."""


class Reference(str):
    """`"module:Name"` of a class or function, where it was read from a file and not imported."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """A parameter's value with a short name.

    Tables, plots and CSV print the name; the model gets the value.  A point's identity is that of
    the value: asked for by value or by alias, it is the same point, shown by the name under which
    the folder first stored it.
    """

    value: Any
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ParamError(
                f"Alias({self.value!r}, {self.name!r}): the name must be a text, not empty"
            )

    def __repr__(self) -> str:
        return f"Alias({self.value!r}, {self.name!r})"


class Point(NamedTuple):
    """One combination of parameter values."""

    signature: str
    """SHA-256 in hexadecimal: the point's identity on every machine."""
    params: Params
    """As the selector gave them, with numpy scalars converted to Python's."""
    encoded: str
    """The stored encoding of `params` (see `sweeper.signature`), names in the given order."""
    width: int = 1
    """The cores, and compute threads, of each of its jobs; part of the signature, since it changes
    the last bits of results."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A finished trial from which others begin.

    `TrialResults.as_parent` gives it for each trial that a selector is told of.
    """

    params: Params
    """Of its point."""
    trial: int
    """Its number, from 0 in the order of asking."""
    budget: int | None = None
    """Its budget, as asked for."""
    lineage: str = ""
    """The trials that it began from itself (see `descend`); empty: from nothing."""

    @property
    def stage(self) -> str:
        """The stage of the trial."""
        return trial_stage(self.budget, self.lineage)


FINAL = "final"
"""The group of the trials that judge: fresh ones of the points that earlier groups have chosen."""

LABELS = ("budget", "group", "generation", "parent", "lineage")
"""The columns of results that say of which trials of its point a row is, where any row has one."""
