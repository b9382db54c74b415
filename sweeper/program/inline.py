"""Trials in the driver's own process."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator

import numpy as np

from sweeper.program.job import close
from sweeper.program.prepare import THREADS, restore_threads


@contextlib.contextmanager
def own_generators() -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch, and all threads, on exit."""
    torch = sys.modules.get("torch")
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - as a program's
    tensors = torch and (torch.get_rng_state(), torch.get_num_threads())
    variables = {name: os.environ.get(name) for name in THREADS}
    try:
        yield
    finally:
        restore_threads()
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
        if torch and tensors:
            torch.set_rng_state(tensors[0])
            torch.set_num_threads(tensors[1])
        close()
