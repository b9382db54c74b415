"""Finds the physical cores that this process may use; the only place that does.

`usable_cores` reads the system, `find_cores` and `find_unpinned_cores` decide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from sweeper.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Topology:
    """The cores that this process may use, and why."""

    cores: tuple[int, ...]
    """One logical CPU for each physical core (the lowest allowed), by package, then core number."""
    pinned: bool
    """Whether workers can be bound to `cores`; if not, only their number matters."""
    reason: str
    """What was found and what limits it, as a sentence for people."""
    packages: tuple[int, ...] = ()
    """The package of each core, in the same order; empty: not known, treated as one package."""


# -- deciding -------------------------------------------------------------------------------------


def find_cores(
    allowed: Collection[int],
    siblings: Mapping[int, Collection[int]],
    packages: Mapping[int, int],
    quota: float | None = None,
    total_cores: int | None = None,
) -> Topology:
    """The usable cores, given what the system reports.

    Args:
        allowed: the affinity mask, as logical CPUs; at least one.
        siblings: for a logical CPU, all logical CPUs of its physical core; a missing one counts as
            a core of its own.
        packages: the physical package of a logical CPU; 0 where missing.
        quota: the cgroup's CPU time, in CPUs; None: not limited.
        total_cores: maximum number of physical cores to use; None: not limited.

    Raises:
        SettingsError: `total_cores` is not a whole number, 1 or more.
    """
    mask = set(allowed)
    lowest = {min(mask.intersection(siblings.get(cpu, ())) | {cpu}) for cpu in mask}
    # A core keeps its place among its neighbours even if the mask leaves only a later sibling.
    cores = sorted(
        lowest, key=lambda core: (packages.get(core, 0), min(siblings.get(core, (core,))))
    )
    package_of = [packages.get(core, 0) for core in cores]
    found = (
        f"the affinity mask allows {_count(len(mask), 'logical CPU')} on "
        f"{_count(len(cores), 'physical core')} in {_count(len(set(package_of)), 'package')}"
    )
    if not mask.issubset(siblings):
        found += " (where nothing tells hyper-thread siblings, each logical CPU counts as a core)"
    used, bounds = _bound(len(cores), quota, total_cores)
    return Topology(
        cores=tuple(cores[:used]),
        pinned=True,
        reason=f"{found}; {bounds}",
        packages=tuple(package_of[:used]),
    )


def find_unpinned_cores(physical: int, total_cores: int | None = None) -> Topology:
    """The usable cores on a system without affinity masks.

    Raises:
        SettingsError: `total_cores` is not a whole number, 1 or more.
    """
    used, bounds = _bound(physical, None, total_cores)
    return Topology(
        cores=tuple(range(used)),
        pinned=False,
        reason=f"this system has {_count(physical, 'physical core')} but no affinity masks, "
        f"so workers run unpinned; {bounds}",
    )


def _bound(available: int, quota: float | None, total_cores: int | None) -> tuple[int, str]:
    """How many of the available cores to use, and what limits that, in words."""
    limits: dict[str, int] = {}
    if quota is not None:
        # Rounded down: with one worker more than the quota allows, all workers would be throttled.
        # With a quota below one CPU, one core is used.
        limits[f"the cgroup quota of {quota:g} CPUs"] = max(1, math.floor(quota))
    if total_cores is not None:
        if not isinstance(total_cores, int) or isinstance(total_cores, bool) or total_cores < 1:
            raise SettingsError(
                f"total_cores={total_cores!r}: it must be a whole number, 1 or more, or None "
                "(every core that this process may use)"
            )
        limits[f"total_cores={total_cores}"] = total_cores
    used = min([available, *limits.values()])
    binding = [name for name, limit in limits.items() if limit == used < available]
    loose = [name for name in limits if name not in binding]
    words = f"bounded by {' and '.join(binding)}" if binding else "all there are"
    if loose:
        words += f"; {' and '.join(loose)} would allow more"
    return used, f"{_count(used, 'core')} used, {words}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# -- reading --------------------------------------------------------------------------------------


def usable_cores(total_cores: int | None = None, *, root: Path = Path("/")) -> Topology:
    """The cores that this process may use, at most `total_cores`.

    `root` is where `/proc` and `/sys` are read; the affinity mask is always this process's own.

    Raises:
        SettingsError: `total_cores` is not a whole number, 1 or more.
    """
    if not hasattr(os, "sched_getaffinity"):
        physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
        return find_unpinned_cores(physical, total_cores)
    allowed = os.sched_getaffinity(0)
    siblings: dict[int, frozenset[int]] = {}
    packages: dict[int, int] = {}
    for cpu in allowed:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        # Kernels before 5.3 use the second name.
        threads = _read(folder / "core_cpus_list") or _read(folder / "thread_siblings_list")
        package = _read(folder / "physical_package_id")
        if threads:
            siblings[cpu] = _parse_cpus(threads)
        if package:
            packages[cpu] = int(package)
    return find_cores(allowed, siblings, packages, _read_quota(root), total_cores)


def _read(path: Path) -> str:
    """The file's text without white space around it; empty where it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _parse_cpus(text: str) -> frozenset[int]:
    """The numbers of a kernel list such as `0-3,8`."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _read_quota(root: Path) -> float | None:
    """The smallest quota, in CPUs, of the control groups of this process."""
    mounts = root / "sys/fs/cgroup"
    quotas: list[float | None] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            # If version 1 is in use too, version 2 is mounted one level down.
            for mount in (mounts, mounts / "unified"):
                quotas += _quotas_upwards(mount, path, _quota_of_v2)
        elif "cpu" in controllers.split(","):
            for mount in (mounts / controllers, mounts / "cpu"):
                quotas += _quotas_upwards(mount, path, _quota_of_v1)
    return min((quota for quota in quotas if quota is not None), default=None)


def _quotas_upwards(
    mount: Path, path: str, quota_of: Callable[[Path], float | None]
) -> list[float | None]:
    """The quotas of a control group and of all its parents, which also apply."""
    names = PurePosixPath(path).parts[1:]
    if ".." in names:
        # The group is outside this container's view; only the container's root is known.
        names = ()
    return [quota_of(mount.joinpath(*names[:depth])) for depth in range(len(names) + 1)]


def _quota_of_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_of_v1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """The quota in CPUs; None for `max` or -1 (not limited), or if a file is missing."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)
