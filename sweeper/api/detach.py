"""`sweep(detach=True)`: the sweep goes on in another process, without this one and its terminal."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from sweeper.api.folder import SweepFolder
from sweeper.code.importing import find_ref
from sweeper.errors import UsageError
from sweeper.program.objective.locate import find_objective, is_objective
from sweeper.run.processes import detached


def sweep_detached(arguments: Mapping[str, Any]) -> SweepFolder:
    """Have another process call `sweep` with these arguments, and wait until the sweep has begun.

    Raises:
        UsageError: an argument cannot be carried to another process.
        BaseException: what `sweep` raised there before the sweep had begun.
    """
    if not arguments["keep"]:
        raise UsageError(
            "keep=False and detach=True exclude each other: the results of a detached sweep are "
            "read from its folder"
        )
    carried = {**arguments, "module": _located(arguments["module"])}
    for name, value in carried.items():
        _check_carried(name, value)
    return SweepFolder(detached.start("sweeper.api.detach:sweep_here", (carried,)))


def sweep_here(arguments: Mapping[str, Any]) -> None:
    """Run the sweep in this process, and print its summary."""
    from sweeper.api.sweep import sweep

    print(sweep(**arguments).summary())  # noqa: T201 - into the log


def _located(module: Any) -> Any:
    """What is swept, as another process finds it; what needs no finding is carried itself."""
    if is_objective(module):
        return find_objective(module)
    if isinstance(module, ModuleType | str):
        ref = find_ref(module)
        return ref if ref.carried is not None else ref.path or ref.module
    return module


def _check_carried(name: str, value: Any) -> None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickling runs the value's own code
        raise UsageError(
            f"{name}={value!r:.80}: it cannot be carried to another process ({error}), as "
            "detach=True must: put the classes and functions that it is made of into a module, or "
            "sweep without detach"
        ) from error
