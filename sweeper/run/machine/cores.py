"""Divides the cores into slots, one per job that may run at once, neighbours together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sweeper.errors import SettingsError
from sweeper.run.machine.topology import Topology


def slots(topology: Topology, width: int) -> tuple[tuple[int, ...], ...]:
    """The cores of each slot: as many disjoint slots of `width` cores as fit.

    A slot lies within one package if that costs no slot.

    Raises:
        SettingsError: `width` is below 1 or above the number of usable cores.
    """
    available = len(topology.cores)
    if not 1 <= width <= available:
        raise SettingsError(
            f"cores_per_trial={width!r}: it must be a whole number from 1 to {available}, the "
            f"cores that this process may use: {topology.reason}"
        )
    packages = topology.packages or (0,) * available
    within: list[tuple[int, ...]] = []
    left_over: list[int] = []
    for _, group in groupby(range(available), key=packages.__getitem__):
        members = list(group)
        whole = len(members) - len(members) % width
        within += _cut(members[:whole], width)
        left_over += members[whole:]
    # Cores left over in their packages are combined across packages.
    sets = sorted(within + _cut(left_over, width))
    return tuple(tuple(topology.cores[place] for place in members) for members in sets)


def choose(free: Sequence[int], count: int, packages: Sequence[int] = ()) -> tuple[int, ...]:
    """Which `count` of the `free` slots a job takes: the lowest of one package, if it has as many.

    Of several such packages it is the one with the fewest free slots, so that others stay whole.

    Args:
        free: the free slots, sorted; at least `count`.
        count: how many the job takes.
        packages: the package of each slot; empty: all are of one.
    """
    if count == 1 or not packages:
        return tuple(free[:count])
    within: dict[int, list[int]] = {}
    for slot in free:
        within.setdefault(packages[slot], []).append(slot)
    whole = [slots for slots in within.values() if len(slots) >= count]
    return tuple(min(whole, key=len, default=list(free))[:count])


def packages_of(topology: Topology, slots: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The package of each slot's first core; empty: not known."""
    of_core = dict(zip(topology.cores, topology.packages, strict=False))
    return tuple(of_core[cores[0]] for cores in slots) if of_core else ()


def _cut(places: list[int], width: int) -> list[tuple[int, ...]]:
    whole = len(places) // width
    return [tuple(places[number * width : (number + 1) * width]) for number in range(whole)]
