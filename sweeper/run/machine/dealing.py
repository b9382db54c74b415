"""Deals out devices to jobs.  Pure: no clock, no process, no file."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class DevicePool:
    """The devices of a sweep, and how many jobs use each.

    Args:
        devices: their identifiers, in the order in which they are dealt out.
        per_device: how many jobs may share a device.
        per_job: how many devices each job gets.
    """

    def __init__(self, devices: Sequence[str], per_device: int = 1, per_job: int = 1) -> None:
        self._left = dict.fromkeys(devices, per_device)
        """How many more jobs may use each."""
        self._per_device = per_device
        self._per_job = per_job
        self._had: dict[int, tuple[str, ...]] = {}
        """What each slot had last: its worker need not be replaced where it gets that again."""
        self.ready: Collection[str] = frozenset(devices)
        """Those that may be dealt out now, if they are not used up."""

    @property
    def may_take(self) -> bool:
        """Whether there are enough devices for one more job."""
        return len(self._free()) >= self._per_job

    @property
    def may_take_once_ready(self) -> bool:
        """Whether there would be enough, if all were ready."""
        return sum(left > 0 for left in self._left.values()) >= self._per_job

    @property
    def is_used(self) -> bool:
        """Whether any job has a device."""
        return any(left < self._per_device for left in self._left.values())

    def take(self, slot: int) -> tuple[str, ...]:
        """Devices for a job in `slot`: those that it had last, else those that fewest jobs use.

        Call it only where `may_take`.
        """
        free = self._free()
        chosen = self._had.get(slot, ())
        if not chosen or not set(chosen) <= set(free):
            # Sorting keeps the order of those that are used alike.
            chosen = tuple(sorted(free, key=lambda one: -self._left[one])[: self._per_job])
        for one in chosen:
            self._left[one] -= 1
        self._had[slot] = chosen
        return chosen

    def give_back(self, devices: Sequence[str]) -> None:
        """Note that a job does not use its devices any more."""
        for one in devices:
            self._left[one] += 1

    def _free(self) -> list[str]:
        return [one for one, left in self._left.items() if left > 0 and one in self.ready]
