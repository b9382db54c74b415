"""Calls a model with x, unpacked if the model takes several inputs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def call_model(model: nn.Module, x: Any) -> Any:
    """The model's output for a batch x.

    If `forward` cannot be called with one input, a list or tuple is passed as several
    arguments, and a mapping by name.
    """
    if isinstance(x, Tensor):
        return model(x)
    if isinstance(x, list | tuple) and _takes(type(model).forward, len(x)):
        return model(*x)
    if isinstance(x, Mapping) and _takes(type(model).forward, tuple(x)):
        return model(**x)
    return model(x)


@functools.lru_cache(maxsize=256)
def _takes(forward: Callable[..., Any], given: int | tuple[str, ...]) -> bool:
    """Whether `forward` takes not one input, but this many, or these names."""
    try:
        signature = inspect.signature(forward)
    except (TypeError, ValueError):
        return False
    several = _binds(signature, given)
    return several and not _binds(signature, 1)


def _binds(signature: inspect.Signature, given: int | tuple[str, ...]) -> bool:
    places = [None] * (given + 1 if isinstance(given, int) else 1)  # the first is the model
    names = {} if isinstance(given, int) else dict.fromkeys(given)
    try:
        signature.bind(*places, **names)
    except TypeError:
        return False
    return True
