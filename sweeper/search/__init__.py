"""What to try: selectors and search spaces.

A new selector is a file here, a line below, and a row in the contract test.
"""

from __future__ import annotations

from sweeper.search.fixed import FixedSweep
from sweeper.search.grid import Grid
from sweeper.search.race import Race
from sweeper.search.selector import ParamSelector, SweepListener

__all__ = ["FixedSweep", "Grid", "ParamSelector", "Race", "SweepListener"]
