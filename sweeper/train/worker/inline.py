"""Jobs in the driver's own process: it is made like a worker for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

import torch

from sweeper.train.mode.machine import not_a_worker
from sweeper.train.replica.streams import fork_rng
from sweeper.train.worker.opened import close


@contextlib.contextmanager
def as_worker(environment: Mapping[str, str]) -> Iterator[None]:
    """Make this process a worker inside; generators and threads are restored on exit.

    Missing environment variables are set and stay set, since a library may have read them.
    """
    threads = torch.get_num_threads()
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    with fork_rng(), not_a_worker():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            close()
