"""Classes with `setup` and `run`: trials that agree on the parameters of `setup` share its work.

Such trials are branches with one root: an object of the class after its `setup`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any

from sweeper.errors import UsageError
from sweeper.program.objective.locate import RUN, SETUP, TRIAL, ObjectiveRef, Takes
from sweeper.records import Params
from sweeper.signature import encode


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
