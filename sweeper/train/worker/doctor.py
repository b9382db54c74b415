"""Executed by `doctor` in each worker: computes for a moment and reports on which CPUs it ran."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import psutil
import torch

from sweeper.disk.arrays import pack_arrays
from sweeper.records import Job, Outcome

BURST = 0.5
"""Seconds of work: enough for the system to move a process that is not pinned."""


def execute(threads: int, fd: int | None, job: Job) -> Iterator[Outcome]:
    """Set `threads` as training does, work, and report.

    The outcome's metrics are `threads`, `interop_threads` and `pid`; its arrays are `mask`, the
    CPUs that the worker may use, and `ran_on`, those on which it was seen.
    """
    del fd  # nothing is trained, so there is no data to share
    torch.set_num_threads(threads)
    for number in job.numbers:
        started = time.time()
        ran_on = _work()
        mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        metrics = {
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "pid": os.getpid(),
        }
        arrays = pack_arrays({"mask": _sorted(mask), "ran_on": _sorted(ran_on)})
        ended = time.time()
        yield Outcome(job.point, job.stage, number, started, ended, metrics, arrays)


def _work() -> set[int]:
    """Multiply matrices for a while; return the CPUs that were used, if the system tells."""
    process = psutil.Process()
    matrix = torch.rand(256, 256)
    seen = set()
    end = time.perf_counter() + BURST
    while time.perf_counter() < end:
        matrix = torch.softmax(matrix @ matrix, dim=1)
        if hasattr(process, "cpu_num"):
            seen.add(process.cpu_num())
    return seen


def _sorted(numbers: set[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(sorted(numbers), dtype=np.int64)
