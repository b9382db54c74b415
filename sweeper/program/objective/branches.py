"""Classes with `setup` and `run`: trials that agree on the parameters of `setup` share its work.

Such trials are branches with one root: an object of the class after its `setup`.  A worker keeps
the last root.  Each trial runs on a copy of its own, so no trial sees what another has changed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np

from sweeper.errors import UsageError
from sweeper.program.objective.locate import RUN, SETUP, TRIAL, ObjectiveRef, Takes
from sweeper.program.spec import ProgramContext
from sweeper.program.trial.prepare import prepare
from sweeper.records import Params
from sweeper.signature import encode, seed_sequence


def takes_of(objective: Callable[..., Any], name: str) -> Takes:
    """The parameters of an objective; of a class those of its `setup` and its `run`.

    Raises:
        UsageError: parameters that cannot be given by name, or a `setup` that does not say by name
            which parameters trials share.
    """
    if not isinstance(objective, type):
        return Takes.of(objective, name)
    setup, run = _takes_of_method(objective, SETUP, name), _takes_of_method(objective, RUN, name)
    if setup.more or setup.trial:
        what = f"the parameter {TRIAL!r}" if setup.trial else "parameters without names (**)"
        raise UsageError(
            f"objective={name!r}: {SETUP} has {what}: name those that its trials share, and give "
            f"the others to {RUN}"
        )
    return replace(
        run,
        names=tuple(dict.fromkeys((*setup.names, *run.names))),
        required=tuple(dict.fromkeys((*setup.required, *run.required))),
        shared=setup.names,
        own=run.names,
    )


def _takes_of_method(objective: type, method: str, name: str) -> Takes:
    found = inspect.getattr_static(objective, method)
    if not isinstance(found, FunctionType):
        raise UsageError(
            f"objective={name!r}: {method} is a {type(found).__name__}: write it as a method, "
            f"def {method}(self, …)"
        )
    return Takes.of(functools.partial(found, None), f"{name}.{method}")


def shared_key(takes: Takes, ref: ObjectiveRef, arguments: Mapping[str, Any]) -> str:
    """A SHA-256 of the arguments that `setup` gets: trials with the same key share its work."""
    shared = encode({name: arguments[name] for name in takes.shared if name in arguments})
    # As in a point's signature: the same however the program was given.
    own = shared.replace(f'["c","{ref.module.module}:', f'["c","{ref.name}:')
    return hashlib.sha256(f"{encode(ref.name)}\n{own}".encode()).hexdigest()


def root_of(takes: Takes, ref: ObjectiveRef, params: Params) -> str:
    """The root of a point's trials, by which they are kept together."""
    return shared_key(takes, ref, takes.arguments(params))[:16]


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
