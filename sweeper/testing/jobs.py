"""The jobs that workers of a backend under test execute: made-up replicas and all kinds of ends."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from sweeper.records import Job, Outcome
from sweeper.testing.toy import replica_of

EXECUTE = "sweeper.testing.jobs:execute"
PRELOAD = ("sweeper.testing.jobs",)


def execute(context: Any, _fd: int | None, job: Job) -> Iterator[Outcome]:
    """A job's outcomes: those of the made-up problem for a point, else facts about the worker.

    `job.payload` is that of a point of the made-up problem, or says how the job `ends` and at
    which `number`.
    """
    for number in job.numbers:
        began = time.time()
        if "params" in job.payload:
            yield replica_of(job, number, began, time.time())
            continue
        if number == job.payload.get("number"):
            end(job.payload["ends"])
        metrics = {"pid": float(os.getpid()), "context": float(context or 0)}
        yield Outcome(job.point, job.stage, number, began, time.time(), metrics)


def end(how: str) -> None:
    """End this process, or never return."""
    match how:
        case "exit":
            os._exit(7)
        case "raise":
            raise RuntimeError("outside of any training")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "hang":
            os.read(os.pipe()[0], 1)
