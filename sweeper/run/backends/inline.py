"""Runs jobs in this process, one after the other: for debugging, with the same results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait as wait_for
from pathlib import Path

from sweeper.disk.files import current_folder
from sweeper.records import Message, Outcome, Result, Start, Target
from sweeper.run.backends import Capabilities
from sweeper.run.processes.signals import Interrupts
from sweeper.run.processes.worker import go_to, resolve

CAPABILITIES = Capabilities(own_processes=False, stops_jobs=False, most_slots=1)


class InlineBackend:
    """See `Backend`; it has one slot."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._execute = resolve(target.execute)
        self._outcomes: Iterator[Outcome] = iter(())
        self._slot = 0
        here = current_folder()
        self._folder = None if here is None else str(here)

    def start(self, starts: Sequence[Start]) -> None:
        """See `Backend`."""
        for start in starts:
            self._slot = start.slot
            job = self._execute(self._target.context, self._target.fd, start.job)
            self._outcomes = itertools.chain(self._outcomes, job)

    def wait(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:
        """Train the next replica; with `timeout` 0 there is never a message."""
        if timeout == 0 or interrupts.signal is not None:
            return []
        outcome = next(self._outcomes, None)
        go_to(self._folder)  # a replica may have changed it; the sweep's own may be a relative one
        if outcome is None:  # nothing runs: points may come from elsewhere
            wait_for([interrupts.fileno()], timeout)
            return []
        return [Result(self._slot, outcome)]

    def stop(self, slot: int) -> None:
        """Does nothing: this process cannot be ended, so this backend has no timeouts."""

    def close(self) -> None:
        """See `Backend`."""
        self._outcomes = iter(())


def make(
    slots: Sequence[tuple[int, ...]], *, pinned: bool, target: Target, logs: Path
) -> InlineBackend:
    """The backend; cores are ignored and output is not logged, since this is the driver itself."""
    del slots, pinned, logs
    return InlineBackend(target)
