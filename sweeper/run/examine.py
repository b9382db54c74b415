"""Examines all workers at once, as in a sweep, for the `doctor` command."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from sweeper.errors import BackendError, SweepInterrupted
from sweeper.records import Died, Job, Outcome, Start, Target
from sweeper.run.backends.local import LocalBackend
from sweeper.run.processes.signals import Interrupts

PATIENCE = 120.0
"""Seconds within which some worker must answer."""


def examine(
    execute: str, width: int, slots: Sequence[tuple[int, ...]], *, pinned: bool
) -> dict[int, Outcome]:
    """Have a worker in every slot execute a job at the same time; returns the outcomes by slot.

    Args:
        execute: `"module:function"`, called with `width` as its context.
        width: The cores, and compute threads, of each worker.
        slots: The cores of each worker.
        pinned: Whether workers are bound to their cores.

    Raises:
        BackendError: workers could not be started, or one died, failed or did not answer.
        SweepInterrupted: Ctrl-C or another signal to stop.
    """
    target = Target(execute, width, None, (execute.partition(":")[0],))
    found: dict[int, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="sweeper-") as logs, Interrupts() as interrupts:
        backend = LocalBackend(slots, pinned=pinned, target=target, logs=Path(logs))
        try:
            for slot in range(len(slots)):
                backend.start([Start(Job(slot, "", "trial", "doctor", (slot,)), slot)])
            while len(found) < len(slots):
                messages = backend.wait(PATIENCE, interrupts)
                if interrupts.signal is not None:
                    raise SweepInterrupted("interrupted")
                if not messages:
                    raise BackendError(f"no worker has answered for {PATIENCE:.0f} s")
                for message in messages:
                    if isinstance(message, Died):
                        raise BackendError(f"worker {message.slot}: {message.cause.message}")
                    found[message.slot] = message.outcome
        finally:
            backend.close()
    return dict(sorted(found.items()))
