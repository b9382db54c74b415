"""Divides the cores into slots, one per job that may run at once, neighbours together."""

from __future__ import annotations

from itertools import groupby

from sweeper.errors import SettingsError
from sweeper.run.topology import Topology


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


def _cut(places: list[int], width: int) -> list[tuple[int, ...]]:
    whole = len(places) // width
    return [tuple(places[number * width : (number + 1) * width]) for number in range(whole)]
