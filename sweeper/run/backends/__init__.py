"""Where jobs run: one small file a backend, one contract for all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sweeper.errors import SettingsError
from sweeper.records import Message, Start, Target
from sweeper.run.signals import Interrupts


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


def make_backend(
    name: str, slots: Sequence[tuple[int, ...]], *, pinned: bool, target: Target, logs: Path
) -> Backend:
    """The backend called `name`, with a worker for each set of cores in `slots`.

    Raises:
        SettingsError: no backend has this name.
    """
    # Each is imported where it is used: one of a cluster should not burden the others.
    if name == "local":
        from sweeper.run.backends.local import LocalBackend

        return LocalBackend(slots, pinned=pinned, target=target, logs=logs)
    if name == "inline":
        from sweeper.run.backends.inline import InlineBackend

        return InlineBackend(target)
    raise unknown_backend(name)


def slots_used(name: str, slots: int) -> int:
    """How many of the slots the backend called `name` uses.

    Raises:
        SettingsError: no backend has this name.
    """
    if name not in ("local", "inline"):
        raise unknown_backend(name)
    if name == "local" and sys.platform == "win32":
        raise SettingsError("backend='local' needs a Unix system: choose 'inline' on this one")
    return 1 if name == "inline" else slots


def unknown_backend(name: object) -> SettingsError:
    """The error that lists the choices."""
    return SettingsError(f"backend={name!r}: choose 'local' or 'inline'")
