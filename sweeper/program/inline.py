"""Trials in the driver's own process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from sweeper.program.job import IN_DRIVER, close
from sweeper.program.trial.prepare import THREADS, restore_threads
from sweeper.program.trial.random_state import read_random, restore_random


@contextlib.contextmanager
def own_generators() -> Iterator[None]:
    """Restore the global generators of Python, numpy and torch, and all threads, on exit.

    Inside it, KeyboardInterrupt is Ctrl-C.
    """
    torch = sys.modules.get("torch")
    states, threads = read_random(), torch and torch.get_num_threads()
    variables = {name: os.environ.get(name) for name in THREADS}
    outside = IN_DRIVER.set(True)
    try:
        yield
    finally:
        IN_DRIVER.reset(outside)
        restore_threads()
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        restore_random(states)
        if torch and threads:
            torch.set_num_threads(threads)
        close()
