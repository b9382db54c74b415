"""Arrays that objectives give to be kept: checkpoints and artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


def as_arrays(given: Mapping[Any, Any], what: str) -> Arrays:
    """Numbers, texts, arrays and tensors as numpy arrays, by name; `what` is for the message.

    Raises:
        TypeError: a name is no text, or a value is none of these.
    """
    return {_checked(name, what): _as_array(name, value, what) for name, value in given.items()}


def _checked(name: Any, what: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{what}: {name!r} (a {type(name).__name__}) is no name: give a text")
    return name


def _as_array(name: str, value: Any, what: str) -> np.ndarray[Any, Any]:
    if hasattr(value, "detach"):  # a tensor, on whatever device
        value = value.detach().cpu()
    try:
        found = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refused(name, value, what) from error
    if found.dtype.hasobject:
        raise _refused(name, value, what)
    return found


def _refused(name: str, value: Any, what: str) -> TypeError:
    return TypeError(
        f"{what}: {name!r} is {value!r:.80} (a {type(value).__name__}), which is no array: give "
        "numbers, texts, arrays or tensors, each under a name of its own"
    )
