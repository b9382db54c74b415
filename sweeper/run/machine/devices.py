"""Finds GPUs, and reads what `sweep` was told of them.

`probe` is the only place that looks for devices.  It asks `nvidia-smi`, since the driver must not
import torch; `SWEEPER_DEVICES` may name a file to read in its place.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import BackendError, SettingsError
from sweeper.run.machine.dealing import DevicePool

FILE = "SWEEPER_DEVICES"
"""The environment variable that names a file in the format of `COMMAND`'s output."""

COMMAND = (
    "nvidia-smi",
    "--query-gpu=index,uuid,memory.free,memory.total",
    "--format=csv,noheader,nounits",
)
"""Prints a line a GPU: its index, its identifier, and its free and total memory in MiB."""

PROBE_SECONDS = 30.0
"""After these, `nvidia-smi` is taken to hang."""

LOOK_AGAIN = 1.0
"""Seconds between looks at the free memory of devices, while a trial waits for one."""

MIB = 1 << 20

UNITS = {
    "B": 1,
    "kB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": MIB,
    "GB": 10**9,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that this process may use."""

    name: str
    """`"cuda:0"`, as torch names it in this process."""
    id: str
    """Its identifier, for `CUDA_VISIBLE_DEVICES`."""
    free: int
    """Bytes of memory."""
    total: int
    """Bytes of memory."""


# -- finding --------------------------------------------------------------------------------------


def probe() -> list[Device]:
    """The GPUs that this process may use: those that `CUDA_VISIBLE_DEVICES` leaves, in its order.

    Raises:
        SettingsError: there is none; the message says how they were looked for.
    """
    text, looked = _look()
    try:
        rows = [_row(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise SettingsError(f"no GPU was found: {looked} says {error}") from None
    if not rows:
        raise SettingsError(f"no GPU was found: {looked} lists none")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = rows if visible is None else _visible(rows, visible)
    if not found:
        raise SettingsError(
            f"no GPU may be used: {looked} lists {len(rows)}, and CUDA_VISIBLE_DEVICES={visible!r} "
            "names none of them"
        )
    return [
        Device(f"cuda:{place}", uuid, free * MIB, total * MIB)
        for place, (_, uuid, free, total) in enumerate(found)
    ]


_Row = tuple[str, str, int, int]


def _look() -> tuple[str, str]:
    """What lists the GPUs, and how that was found, in words."""
    file = os.environ.get(FILE)
    try:
        if file is not None:
            return Path(file).read_text(encoding="utf-8"), f"the file {file} ({FILE})"
        done = subprocess.run(  # noqa: S603 - a constant
            COMMAND, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
        )
    except FileNotFoundError:
        missing = f"there is no nvidia-smi in PATH, and {FILE} names no file in its place"
        if file is not None:
            missing = f"{FILE}={file!r} does not exist"
        raise SettingsError(f"no GPU was found: {missing}") from None
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"no GPU was found: nvidia-smi did not end within {PROBE_SECONDS:g} s"
        ) from None
    except subprocess.CalledProcessError as error:
        said = (error.stdout + error.stderr).strip().replace("\n", " ")
        raise SettingsError(
            f"no GPU was found: nvidia-smi ended with code {error.returncode}: {said:.300}"
        ) from None
    return done.stdout, "nvidia-smi"


def _row(line: str) -> _Row:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
        raise ValueError(f"{line!r}, which is not: index, identifier, free MiB, total MiB")
    return parts[0], parts[1], int(parts[2]), int(parts[3])


def _visible(rows: Sequence[_Row], visible: str) -> list[_Row]:
    """The GPUs that the variable names: as in CUDA, those before the first that does not exist."""
    found: list[_Row] = []
    for entry in (part.strip() for part in visible.split(",")):
        named = [row for row in rows if entry == row[0] or (entry and row[1].startswith(entry))]
        if not named or named[0] in found:
            break
        found.append(named[0])
    return found


def environment_of(devices: Sequence[str]) -> dict[str, str]:
    """The environment variables that make only these devices visible; empty: nothing changes."""
    if not devices:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices)}


# -- what a sweep is told -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a sweep, and how they are dealt out."""

    used: tuple[Device, ...]
    per_device: int = 1
    """How many trials may share one."""
    per_trial: int = 1
    min_free: int = 0
    """Bytes that a device must have free when a trial gets it."""
    wait: float = 0.0
    """Seconds without any such device after which it is an error."""

    @property
    def note(self) -> str:
        """What is used, in words."""
        names = ", ".join(one.name for one in self.used)
        shared = f", {self.per_device} trials on each" if self.per_device > 1 else ""
        each = f", {self.per_trial} for each trial" if self.per_trial > 1 else ""
        return f"devices {names}{shared}{each}"

    def pool(self) -> DevicePool:
        """A pool of all of them."""
        return DevicePool([one.id for one in self.used], self.per_device, self.per_trial)


def read_devices(
    devices: object,
    per_device: int = 1,
    devices_per_trial: int = 1,
    min_free_memory: int | str | None = None,
    device_wait: float = 60.0,
) -> Devices | None:
    """The devices that `sweep` was told to use; None: none.

    Raises:
        SettingsError: there is no such device, or an argument breaks its rule.
    """
    if devices is None:
        _refuse_without_devices(
            per_device=(per_device, 1),
            devices_per_trial=(devices_per_trial, 1),
            min_free_memory=(min_free_memory, None),
            device_wait=(device_wait, 60.0),
        )
        return None
    used = _choose(devices)
    _check_count("per_device", per_device, None, "")
    _check_count("devices_per_trial", devices_per_trial, len(used), "the devices of the sweep")
    numeric = isinstance(device_wait, int | float) and not isinstance(device_wait, bool)
    if not numeric or not 0 <= device_wait < float("inf"):
        raise SettingsError(
            f"device_wait={device_wait!r}: it must be a finite number of seconds, 0 or more"
        )
    least = 0 if min_free_memory is None else read_bytes(min_free_memory, "min_free_memory")
    for one in used:
        if one.total < least:
            raise SettingsError(
                f"min_free_memory={min_free_memory!r}: {one.name} has {show_bytes(one.total)}"
            )
    return Devices(used, per_device, devices_per_trial, least, float(device_wait))


def _refuse_without_devices(**given: tuple[object, object]) -> None:
    for name, (value, usual) in given.items():
        if value != usual:
            raise SettingsError(f"{name}={value!r} means nothing without devices=")


def _check_count(name: str, value: Any, most: int | None, why: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        rule = "1 or more" if most is None else f"from 1 to {most}, {why}"
        raise SettingsError(f"{name}={value!r}: it must be a whole number, {rule}")


def _choose(devices: object) -> tuple[Device, ...]:
    """The devices given by their number, or by names or places."""
    if isinstance(devices, bool) or not isinstance(devices, int | list | tuple):
        raise SettingsError(
            f"devices={devices!r}: give a number of GPUs, or a list such as ['cuda:0', 'cuda:1']"
        )
    try:
        found = probe()
    except SettingsError as error:
        raise SettingsError(f"devices={devices!r}: {error}") from None
    names = ", ".join(one.name for one in found)
    if isinstance(devices, int):
        if not 1 <= devices <= len(found):
            raise SettingsError(
                f"devices={devices}: it must be a number from 1 to {len(found)}, the GPUs that "
                f"this process may use: {names}"
            )
        return tuple(found[:devices])
    by_name: dict[Any, Device] = {one.name: one for one in found} | dict(enumerate(found))
    for one in devices:
        if isinstance(one, bool) or not isinstance(one, int | str) or one not in by_name:
            raise SettingsError(f"devices={devices!r}: there is no {one!r}: choose from {names}")
    used = tuple(by_name[one] for one in devices)
    if not used or len(set(used)) < len(used):
        raise SettingsError(
            f"devices={devices!r}: name each device once, at least one; per_device= lets several "
            "trials share one"
        )
    return used


def read_bytes(given: object, name: str) -> int:
    """An amount of memory: a number of bytes, or a text such as `"4 GiB"`.

    Raises:
        SettingsError: it is neither.
    """
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", str(given))
    if not isinstance(given, str) or match is None or match[2] not in UNITS:
        raise SettingsError(
            f"{name}={given!r}: give a number of bytes, or a text such as '4 GiB' with one of "
            f"{', '.join(UNITS)}"
        )
    return int(float(match[1]) * UNITS[match[2]])


def show_bytes(amount: int) -> str:
    """An amount of memory, for people."""
    return f"{amount / UNITS['GiB']:.3g} GiB" if amount >= UNITS["GiB"] else f"{amount // MIB} MiB"


# -- waiting for free memory ----------------------------------------------------------------------


class DeviceWatch:
    """Lets a pool deal out only devices with enough free memory.

    Their memory is looked at when a trial could start.  What this sweep's own trials use counts,
    too, so as long as one of them has a device, another waits without limit.
    """

    def __init__(self, devices: Devices, pool: DevicePool) -> None:
        self._devices = devices
        self._pool = pool
        self._since: float | None = None
        """Since when, in ticks, no trial has had a device and none could start."""
        self._looked = -float("inf")
        self.waiting = False
        """Whether a trial waits for free memory."""

    def look(self, ticks: float, queued: int) -> None:
        """Look at the memory of the devices, where something is queued and one would be dealt out.

        Raises:
            BackendError: for `device_wait` seconds none has had enough; the message names them.
        """
        wanted = queued > 0 and self._pool.may_take_once_ready
        if not self._devices.min_free or not wanted:
            self.waiting, self._since = False, None
            return
        if self.waiting and ticks < self._looked + LOOK_AGAIN:
            return
        self._looked = ticks
        free = {one.id: one.free for one in probe()}
        least = self._devices.min_free
        self._pool.ready = {one for one, amount in free.items() if amount >= least}
        self.waiting = not self._pool.may_take
        if not self.waiting or self._pool.is_used:
            self._since = None
            return
        self._since = ticks if self._since is None else self._since
        if ticks - self._since >= self._devices.wait:
            raise BackendError(self._lacking(free))

    def _lacking(self, free: dict[str, int]) -> str:
        shown = ", ".join(
            f"{one.name} has {show_bytes(free[one.id])} free"
            if one.id in free
            else f"{one.name} is gone"
            for one in self._devices.used
        )
        return (
            f"no device had min_free_memory={show_bytes(self._devices.min_free)} for "
            f"device_wait={self._devices.wait:g} s: {shown}; what is finished is kept: run it "
            "again when there is room"
        )
