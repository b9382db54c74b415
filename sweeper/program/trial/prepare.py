"""What is set before the user's code is called: the seeds of global generators, and threads."""

from __future__ import annotations

import os
import sys
from typing import Any

from sweeper.program.trial.random_state import seed_random

try:
    import threadpoolctl
except ImportError:
    threadpoolctl = None

THREADS = tuple(
    f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR")
)
"""Environment variables from which numeric libraries read their threads when they are loaded."""


def prepare(seed: int, cores: int, *, uses_torch: bool) -> None:
    """Seed the global generators, and give numeric libraries the trial's cores.

    torch is imported if the program uses it, so that it is seeded before the program imports it.
    """
    seed_random(seed, with_torch=uses_torch)
    set_threads(cores)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(cores)


_limits: dict[int, Any] = {}
"""By threads: what set those of the loaded libraries, or None without threadpoolctl; one entry."""


def set_threads(cores: int) -> None:
    """Give numeric libraries so many threads: those that are loaded, and those that will be.

    The loaded ones are set only if threadpoolctl is installed, and once, since finding them takes
    milliseconds.
    """
    if cores in _limits:
        return
    restore_threads()
    os.environ.update(dict.fromkeys(THREADS, str(cores)))
    _limits[cores] = threadpoolctl and threadpoolctl.threadpool_limits(cores)


def restore_threads() -> None:
    """Give the loaded libraries the threads that they had before `set_threads`."""
    while _limits:
        limits = _limits.popitem()[1]
        if limits is not None:
            limits.restore_original_limits()
