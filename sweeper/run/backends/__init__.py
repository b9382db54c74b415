"""Where jobs run: one small file a backend, one contract for all.

A new backend is a file here, with its `CAPABILITIES` and `make`, a line in `BACKENDS`, and a row in
the contract test.  What a sweep needs to know of it, it declares: nobody else knows names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sweeper.errors import SettingsError
from sweeper.records import Message, Start, Target
from sweeper.run.signals import Interrupts


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do."""

    own_processes: bool
    """Whether jobs run in other processes than the driver's."""
    stops_jobs: bool
    """Whether it can end a job that takes too long."""
    most_slots: int | None = None
    """How many jobs it runs at once at most; None: one in each set of cores."""
    shares_memory: bool = True
    """Whether jobs see the driver's memory files and descriptors."""
    needs_unix: bool = False
    """Whether it runs on Unix systems alone."""

    @property
    def runs_here(self) -> bool:
        """Whether it runs on this system."""
        return os.name == "posix" or not self.needs_unix


class Backend(Protocol):
    """Runs jobs, one a slot at a time."""

    def start(self, starts: Sequence[Start]) -> None:
        """Hand jobs to their slots' workers, which execute them in this order."""

    def wait(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:
        """What has happened since; waits for something up to `timeout` seconds (None: for ever).

        Returns early, with what there is, once `interrupts` has noted a signal.
        """

    def stop(self, slot: int) -> None:
        """End the slot's worker, whose job is over its time; `wait` reports its death."""

    def close(self) -> None:
        """End every worker; when this returns, none is left."""


BACKENDS: Mapping[str, str] = {
    "local": "sweeper.run.backends.local",
    "inline": "sweeper.run.backends.inline",
}
"""The module of each backend, imported where it is used: one of a cluster burdens nobody else."""

DEFAULT = next(iter(BACKENDS))


def find_backend(name: str) -> Capabilities:
    """What the backend called `name` can do.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    if name not in BACKENDS:
        raise SettingsError(f"backend={name!r}: choose {names_of()}")
    found: Capabilities = importlib.import_module(BACKENDS[name]).CAPABILITIES
    if not found.runs_here:
        raise SettingsError(
            f"backend={name!r} needs a Unix system: choose {names_of(runs_here=True)} on this one"
        )
    return found


def names_of(**wanted: bool) -> str:
    """The names of backends, as an error lists them; of those alone that declare what is wanted."""
    found = []
    for name, module in BACKENDS.items():
        declared = importlib.import_module(module).CAPABILITIES
        if all(getattr(declared, field) == value for field, value in wanted.items()):
            found.append(repr(name))
    return " or ".join(found)


def make_backend(
    name: str, slots: Sequence[tuple[int, ...]], *, pinned: bool, target: Target, logs: Path
) -> Backend:
    """The backend called `name`, with a worker for each set of cores in `slots`.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    find_backend(name)
    module = importlib.import_module(BACKENDS[name])
    backend: Backend = module.make(slots, pinned=pinned, target=target, logs=logs)
    return backend


def slots_used(name: str, slots: int) -> int:
    """How many of the slots the backend called `name` uses.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    most = find_backend(name).most_slots
    return slots if most is None else min(slots, most)
