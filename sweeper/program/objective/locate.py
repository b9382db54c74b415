"""Where an objective is, how it is imported, and which parameters it takes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sweeper.code.carried import Carried, carry, unpack
from sweeper.code.importing import ModuleRef, find_ref, import_module, is_cut_short
from sweeper.code.references import find_importable, main_globals, reference, script_name
from sweeper.errors import ParamError, UsageError, suggestion
from sweeper.records import Params
from sweeper.signature import without_aliases

TRIAL = "trial"
"""The parameter that receives the `Trial`."""

SETUP, RUN = "setup", "run"
"""The methods of a class whose trials share what `setup` built."""

_GIVE = (
    "give a function, a generator function, a class with the methods setup and run, or "
    "'pkg.module:name'"
)


@dataclass(frozen=True, slots=True)
class ObjectiveRef:
    """An objective: where any process can import it from, or, if no file has it, its code."""

    module: ModuleRef
    qualified: str
    """Its name in the module: `"objective"`, or `"Model.objective"`."""
    carried: Carried | None = None
    """What is sent to workers, if they cannot import it."""

    @property
    def name(self) -> str:
        """The module's last component and the objective's name: `"train.objective"`."""
        return f"{self.module.module.rpartition('.')[2]}.{self.qualified}"


def is_objective(given: object) -> bool:
    """Whether `sweep` was given an objective, not a problem: a callable, or `"module:name"`."""
    if not isinstance(given, str):
        found = isinstance(given, ObjectiveRef) or callable(given)
        return found and not isinstance(given, ModuleType)
    module, _, name = given.rpartition(":")
    return bool(module) and all(part.isidentifier() for part in name.split("."))


def find_objective(given: object) -> ObjectiveRef:
    """Locate an objective without importing it; an `ObjectiveRef` is returned as it is.

    Raises:
        UsageError: it is no function, or uses something that no worker could be given.
    """
    if isinstance(given, ObjectiveRef):
        return given
    if isinstance(given, str):
        module, _, name = given.rpartition(":")
        return ObjectiveRef(find_ref(module), name)
    if isinstance(given, type):
        check_class(given)
    elif not inspect.isroutine(given):
        raise UsageError(f"objective={given!r} is a {type(given).__name__}: {_GIVE}")
    module = getattr(given, "__module__", None) or "__main__"
    try:
        qualified = reference(given, "objective").partition(":")[2]
    except ParamError:
        return _carry(given)
    if module == "__main__" and not Path(main_globals().get("__file__") or "").is_file():
        return _carry(given)
    found = find_ref("__main__" if module == "__main__" else sys.modules[module])
    return ObjectiveRef(found, qualified)


def _carry(given: Any) -> ObjectiveRef:
    """The reference of an objective that no worker could import."""
    module = getattr(given, "__module__", None) or "__main__"
    home = script_name() if module == "__main__" else module
    qualified = given.__qualname__.replace("<locals>.", "").replace("<lambda>", "lambda")
    return ObjectiveRef(ModuleRef("", home), qualified, carry(given))


def load_objective(ref: ObjectiveRef) -> tuple[ModuleType, Callable[..., Any]]:
    """The module, imported, and the objective in it.

    Raises:
        UsageError: the module cannot be imported, or has no such function.
    """
    if ref.carried is not None:
        objective = unpack(ref.carried)
        return _module_of(objective, ref.module.module), objective
    module = import_module(ref.module)
    found: Any = module
    for part in ref.qualified.split("."):
        if not hasattr(found, part):
            raise UsageError(f"objective={ref.name!r}: {found!r} has no {part}{_why(found, part)}")
        found = getattr(found, part)
    if isinstance(found, type):
        check_class(found)
    elif not callable(found):
        raise UsageError(f"objective={ref.name!r} is {found!r} (a {type(found).__name__}): {_GIVE}")
    return module, found


def _module_of(objective: Any, name: str) -> ModuleType:
    """A module `name` with the globals of a carried objective, which has none of its own."""
    module = ModuleType(name)
    vars(module).update(getattr(objective, "__globals__", {}))
    return module


def _why(found: Any, part: str) -> str:
    """A remark on why something may lack this name."""
    if isinstance(found, ModuleType) and is_cut_short(found):
        return (
            f" above its first call of sweep, where its import ends: define {part} above that, or "
            "call sweep below `if __name__ == '__main__':`"
        )
    return suggestion(part, [name for name in vars(found) if not name.startswith("_")])


def check_class(objective: type) -> None:
    """Check that a class has the methods of an objective.

    Raises:
        UsageError: it lacks one.
    """
    for method in (SETUP, RUN):
        if not callable(getattr(objective, method, None)):
            raise UsageError(
                f"objective={objective!r} is a class without a method {method}: {_GIVE}"
            )


def find_in(module: ModuleType, ref: ObjectiveRef, name: str) -> Any:
    """The class or function `"module:Name"`; the objective's own are found in its module."""
    home, _, qualified = name.partition(":")
    if home == ref.module.module:
        found: Any = module
        for part in qualified.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    return find_importable(name)


SEED = "seed"

_SEED = (
    f"; the seed of each trial is {TRIAL}.seed: give the objective a parameter {TRIAL} in place of "
    f"{SEED}, or each point a {SEED} of its own"
)


@dataclass(frozen=True, slots=True)
class Takes:
    """The parameters of an objective, besides `trial`."""

    names: tuple[str, ...]
    """Those that it names, in order."""
    required: tuple[str, ...]
    """Those without a default."""
    more: bool
    """Whether it takes any others by name (`**params`)."""
    trial: bool
    """Whether it takes a `Trial`, by the name `trial`."""
    shared: tuple[str, ...] = ()
    """Of a class: those that `setup` names."""
    own: tuple[str, ...] = ()
    """Of a class: those that `run` names."""

    @classmethod
    def of(cls, objective: Callable[..., Any], name: str) -> Takes:
        """The parameters of this objective; `name` is for the message.

        Raises:
            UsageError: it has parameters that cannot be given by name, or is async.
        """
        if inspect.iscoroutinefunction(objective) or inspect.isasyncgenfunction(objective):
            raise UsageError(
                f"objective={name!r} is an async function, which only an event loop can run: give "
                "a function that calls asyncio.run(…)"
            )
        found = inspect.signature(objective).parameters.values()
        unnamed = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        for one in found:
            if one.kind in unnamed:
                raise UsageError(
                    f"objective={name!r} has the parameter {one}, which cannot be given by name: "
                    "give each parameter a name"
                )
        named = [one for one in found if one.kind is not inspect.Parameter.VAR_KEYWORD]
        own = [one for one in named if one.name != TRIAL]
        return cls(
            tuple(one.name for one in own),
            tuple(one.name for one in own if one.default is one.empty),
            more=len(named) < len(found),
            trial=len(own) < len(named),
        )

    @property
    def known(self) -> tuple[str, ...] | None:
        """The parameters that points may have by name; None: any."""
        return None if self.more else self.names

    def arguments(self, params: Params) -> dict[str, Any]:
        """A point's parameters by name; aliases are replaced by their values.

        Raises:
            ParamError: one is unknown or missing.
        """
        values = without_aliases(params)
        if isinstance(values, dict):
            named = values
        elif len(values) <= len(self.names):
            named = dict(zip(self.names, values, strict=False))
        else:
            raise self._refusal(params, f"these are {len(params)} values, and")
        if TRIAL in named:
            raise ParamError(
                f"params={params!r}: {TRIAL!r} is the name by which an objective takes its Trial, "
                "so no parameter of a point can have it: rename the parameter, here and in the "
                "objective"
            )
        for name in named:
            if name not in self.names and not self.more:
                raise self._refusal(params, f"no parameter {name!r}{suggestion(name, self.names)};")
        lacking = [name for name in self.required if name not in named]
        if lacking:
            # What a class shares has no trial.
            seed = SEED in lacking and SEED not in self.shared
            raise self._refusal(params, f"{', '.join(lacking)} is missing;", _SEED if seed else "")
        return named

    def _refusal(self, params: Params, fault: str, remark: str = "") -> ParamError:
        takes = f"the objective takes {', '.join(self.names) or 'none'}"
        return ParamError(f"params={without_aliases(params)!r}: {fault} {takes}{remark}")
