"""The roots of branches, in a worker: it keeps the last one.

Each trial runs on a copy of its own, so no trial sees what another has changed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from sweeper.program.objective.branches import shared_key
from sweeper.program.objective.locate import RUN, SETUP, ObjectiveRef
from sweeper.program.spec import ProgramContext
from sweeper.program.trial.prepare import prepare
from sweeper.signature import seed_sequence


def branch(
    objective: type,
    ref: ObjectiveRef,
    context: ProgramContext,
    arguments: Mapping[str, Any],
    cores: int,
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The method `run` of an object of the trial's own, set up, and the arguments that it gets."""
    takes = context.takes
    # With other threads it may differ in its last bits.
    key = (objective, context.seed, cores, shared_key(takes, ref, arguments))
    if key not in _ROOTS:
        _ROOTS.clear()  # before the next is built: both may be large
        shared = {name: arguments[name] for name in takes.shared if name in arguments}
        _ROOTS[key] = _set_up(objective, context, key, shared)
    try:
        own = copy.deepcopy(_ROOTS[key])
    except Exception as error:  # noqa: BLE001 - copying runs the user's code
        # It serves this trial, and the next builds its own: slow, and the same results.
        own = _ROOTS.pop(key)
        warnings.warn(
            f"what {SETUP} built cannot be copied ({type(error).__name__}: {error}), so {SETUP} "
            f"is called anew for each trial: make such a thing in {RUN}",
            RuntimeWarning,
            stacklevel=2,
        )
    others = {
        name: value
        for name, value in arguments.items()
        if name in takes.own or name not in takes.shared
    }
    return getattr(own, RUN), others


_Key: TypeAlias = tuple[type, int, int, str]

_ROOTS: dict[_Key, Any] = {}
"""The last root, or none."""


def forget_roots() -> None:
    """Free the last root."""
    _ROOTS.clear()


def _set_up(objective: type, context: ProgramContext, key: _Key, shared: Mapping[str, Any]) -> Any:
    """A root: a function of the sweep's seed, the shared parameters and the cores alone."""
    _, sweep_seed, cores, shared_sha256 = key
    seed = int(seed_sequence(sweep_seed, shared_sha256).generate_state(1, np.uint32)[0]) >> 1
    prepare(seed, cores, uses_torch=context.uses_torch)
    root = objective()
    root.setup(**shared)
    return root
