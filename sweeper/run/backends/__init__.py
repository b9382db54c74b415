"""Where jobs run: one small file per backend, one contract for all.

A new backend is a file here with `CAPABILITIES` and `make`, a line in `BACKENDS`, and a row in the
contract test.  It declares what a sweep needs to know of it: no other code uses its name.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sweeper.errors import SettingsError, suggestion
from sweeper.records import Message, Start, Target
from sweeper.run.processes.signals import Interrupts


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do."""

    own_processes: bool
    """Whether jobs run in other processes than the driver's."""
    stops_jobs: bool
    """Whether it can stop a job that takes too long."""
    most_slots: int | None = None
    """Maximum number of jobs at once; None: one per set of cores."""
    shares_memory: bool = True
    """Whether jobs can use the driver's memory files and file descriptors."""
    needs_unix: bool = False
    """Whether it runs only on Unix systems."""

    @property
    def runs_here(self) -> bool:
        """Whether it runs on this system."""
        return os.name == "posix" or not self.needs_unix


class Backend(Protocol):
    """Runs jobs, one per slot at a time."""

    def start(self, starts: Sequence[Start]) -> None:
        """Hand jobs to their slots' workers, which execute them in this order."""

    def wait(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:
        """The new messages; waits for one up to `timeout` seconds (None: without limit).

        Returns early, with the messages so far, once `interrupts` has noted a signal.
        """

    def stop(self, slot: int) -> None:
        """End the slot's worker, whose job exceeds its time; `wait` reports its death."""

    def close(self) -> None:
        """End every worker; when this returns, none is left."""


BACKENDS: Mapping[str, str] = {
    "local": "sweeper.run.backends.local",
    "inline": "sweeper.run.backends.inline",
}
"""The module of each backend, imported on use: a cluster's dependencies burden no other sweep."""

DEFAULT = next(iter(BACKENDS))


def find_backend(name: str) -> Capabilities:
    """The capabilities of the backend `name`.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    if name not in BACKENDS:
        raise SettingsError(
            f"backend={name!r}{suggestion(str(name), BACKENDS)}: choose {names_of()}"
        )
    found: Capabilities = importlib.import_module(BACKENDS[name]).CAPABILITIES
    if not found.runs_here:
        raise SettingsError(
            f"backend={name!r} needs a Unix system: choose {names_of(runs_here=True)} on this one"
        )
    return found


def names_of(**wanted: bool) -> str:
    """The names of the backends that declare what is `wanted`, as an error lists them."""
    found = []
    for name, module in BACKENDS.items():
        declared = importlib.import_module(module).CAPABILITIES
        if all(getattr(declared, field) == value for field, value in wanted.items()):
            found.append(repr(name))
    return " or ".join(found)


def make_backend(
    name: str, slots: Sequence[tuple[int, ...]], *, pinned: bool, target: Target, logs: Path
) -> Backend:
    """The backend `name`, with a worker for each set of cores in `slots`.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    find_backend(name)
    module = importlib.import_module(BACKENDS[name])
    backend: Backend = module.make(slots, pinned=pinned, target=target, logs=logs)
    return backend


def slots_used(name: str, slots: int) -> int:
    """How many of the slots the backend `name` uses.

    Raises:
        SettingsError: no backend has this name, or it does not run on this system.
    """
    most = find_backend(name).most_slots
    return slots if most is None else min(slots, most)
