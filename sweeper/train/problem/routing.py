"""Which of a problem's functions takes which parameter of a point; without torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.errors import ParamError, suggestion
from sweeper.records import NUMERICS, Params

FUNCTIONS = ("model", "loss", "optimizer", "dataset")
"""The functions of a problem that parameters are passed to."""

SETTINGS = ("epochs", "batch_size", "lr", "schedule")
"""The settings of `HyperparameterSettings` that a point may fix by a parameter of that name."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function's signature, without its defaults, which may be any object."""

    text: str
    """The signature as Python shows it."""
    parameters: tuple[tuple[str, int, bool], ...]
    """Name, kind (see `inspect.Parameter`) and whether there is a default, for each parameter."""

    @classmethod
    def of(cls, function: Any) -> Call | None:
        """The signature of a function; None if it has none."""
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
    def names(self) -> list[str]:
        """The parameters that can be given by name, without those that `**` accepts."""
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [name for name, kind, _ in self.parameters if kind in by_name]

    @property
    def takes_any(self) -> bool:
        """Whether it accepts any name, by `**`."""
        return any(kind == inspect.Parameter.VAR_KEYWORD for _, kind, _ in self.parameters)

    @property
    def needs(self) -> list[str]:
        """The parameters without a default."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return [
            name
            for name, kind, optional in self.parameters
            if not optional and kind not in variadic
        ]

    def bind(self, params: Params) -> None:
        """Check that the function can be called with `params`.

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
class Routes:
    """Which of a problem's functions takes which parameter of a point.

    A parameter goes to every function that names it.  One that none names goes to the `**` of
    `model`, if there is one; else it is a setting if its name is in `SETTINGS`.  The `**` of the
    other functions takes nothing: a wrapped `loss()` or `dataset()` often has one without meaning
    it.  A point that is a tuple belongs to `model` alone, by position.
    """

    calls: Mapping[str, Call | None]
    """By function; None: it has no signature, or is no function."""
    to_model_alone: bool = False
    """Whether what `model` takes goes to no other function, as in folders of earlier numerics."""

    @classmethod
    def of(cls, module: Any, numerics: int = NUMERICS) -> Routes:
        """The routes of a problem's module."""
        found = {name: getattr(module, name, None) for name in FUNCTIONS}
        calls = {name: Call.of(one) if callable(one) else None for name, one in found.items()}
        return cls(calls, numerics < 3)

    def takers(self, name: str) -> list[str]:
        """The functions that take a parameter given by name."""
        named = [
            each for each, call in self.calls.items() if call is not None and name in call.names
        ]
        into_model = "model" in named or self._model_takes_any
        if into_model and (self.to_model_alone or not named):
            return ["model"]
        return named

    def arguments(self, function: str, params: Params) -> Params:
        """The part of a point's parameters that a function is called with."""
        if isinstance(params, Mapping):
            return {name: value for name, value in params.items() if function in self.takers(name)}
        return params if function == "model" else {}

    def settings(self, params: Params) -> dict[str, Any]:
        """The settings that a point fixes, by name."""
        if not isinstance(params, Mapping):
            return {}
        return {
            name: value
            for name, value in params.items()
            if name in SETTINGS and not self.takers(name)
        }

    @property
    def known(self) -> list[str] | None:
        """All parameters that a point may have by name; None: any."""
        if self._model_takes_any:
            return None
        calls = [call for call in self.calls.values() if call is not None]
        return list(dict.fromkeys([*(name for call in calls for name in call.names), *SETTINGS]))

    def check(self, params: Params, problem: str) -> None:
        """Check that the functions can be called with a point's parameters.

        `problem` is the problem's name.

        Raises:
            ParamError: a parameter is unknown or missing; the message lists the known ones.
        """
        for name in params if isinstance(params, Mapping) else ():
            if not self.takers(name) and name not in SETTINGS:
                near = suggestion(name, self.known or ())
                raise ParamError(
                    f"params={params!r} do not fit problem {problem}: {name!r} is unknown{near}; "
                    f"{self._choices()}"
                )
        for function, call in self.calls.items():
            # What is needed alone: the names were checked, and most points concern `model` only.
            if call is None or (function != "model" and not call.needs):
                continue
            try:
                call.bind(self.arguments(function, params))
            except TypeError as error:
                raise ParamError(
                    f"params={params!r} do not fit {function}{call.text} of problem {problem}: "
                    f"{error}; {self._choices()}"
                ) from None

    @property
    def _model_takes_any(self) -> bool:
        call = self.calls["model"]
        return call is None or call.takes_any

    def _choices(self) -> str:
        """What a point may have, as a clause."""
        model = self.calls["model"]
        taken = [] if model is None else [name for name, _, _ in model.parameters]
        found = [f"it takes {', '.join(taken) or 'no parameters'}"]
        for function, call in self.calls.items():
            if function != "model" and call is not None and call.names:
                found.append(f"{function} takes {', '.join(call.names)}")
        settings = [name for name in SETTINGS if not self.takers(name)]
        found += [f"{', '.join(settings)} are settings"] if settings else []
        return "; ".join(found)
