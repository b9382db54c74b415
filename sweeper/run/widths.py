"""How many cores the trials of each point have: one number for all, or one for each point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sweeper.errors import SettingsError, suggestion
from sweeper.records import Params
from sweeper.run.machine.topology import Topology
from sweeper.summary import show_params

Width: TypeAlias = int | str | Callable[[Any], int]
"""A number of cores, the name of a parameter that has it, or a function of the parameters."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The width of each point, where points differ in it."""

    given: str | Callable[[Any], int]
    name: str
    """The argument that it was given as, for messages."""
    topology: Topology

    def of(self, params: Params) -> int:
        """The cores of each trial of this point.

        Raises:
            SettingsError: it is no whole number, or more than this machine has; the function
                raises, or the point has no such parameter.
        """
        found = self._looked_up(params) if isinstance(self.given, str) else self._called(params)
        at = f"{self.name} of {show_params(params)}"
        whole = isinstance(found, int | np.integer) and not isinstance(found, bool)
        if not whole or found < 1:
            raise SettingsError(f"{at} is {found!r}: it must be a whole number, 1 or more")
        most = len(self.topology.cores)
        if found > most:
            raise SettingsError(
                f"{at} is {found}: it must be at most {most}, the cores that this process may use: "
                f"{self.topology.reason}"
            )
        return int(found)

    def _looked_up(self, params: Params) -> Any:
        if not isinstance(params, Mapping) or self.given not in params:
            names = list(params) if isinstance(params, Mapping) else []
            near = suggestion(str(self.given), names)
            raise SettingsError(
                f"{self.name}={self.given!r}: {show_params(params)} has no parameter of that "
                f"name{near}; give a number of cores, a parameter's name or a function of them"
            )
        return params[str(self.given)]

    def _called(self, params: Params) -> Any:
        assert callable(self.given)  # noqa: S101 - for the type checker
        try:
            return self.given(params)
        except Exception as error:
            raise SettingsError(
                f"{self.name} of {show_params(params)}: the function raised "
                f"{type(error).__name__}: {error}"
            ) from error


def read_widths(given: object, name: str, topology: Topology) -> Widths | None:
    """The widths that `sweep` was given as its argument `name`; None: one number for all points.

    Raises:
        SettingsError: it is no number, name or function.
    """
    if isinstance(given, str) or callable(given):
        return Widths(given, name, topology)
    if isinstance(given, int):
        return None
    raise SettingsError(
        f"{name}={given!r}: give a number of cores, a parameter's name or a function of the "
        "parameters, such as lambda params: 2 if params['width'] > 512 else 1"
    )
