"""The selectors that are shipped, one a file."""

from __future__ import annotations

EARLIER_NAMES = {
    "fixed": ("sweeper.search.fixed:FixedSweep",),
    "grid": ("sweeper.search.grid:Grid",),
    "race": ("sweeper.search.race:Race",),
}
"""By the name of a selector: the names under which earlier releases kept its log.

Only what was in a release belongs here, and stays for good: folders of then are read for good.
"""
