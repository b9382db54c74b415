"""What to try: selectors and search spaces.

A new selector is a file here, a line below, and a row in the contract test.
"""

from __future__ import annotations

from sweeper.search.selector import ParamSelector, SweepListener
from sweeper.search.selectors.fixed import FixedSweep
from sweeper.search.selectors.grid import Grid
from sweeper.search.selectors.race import Race

__all__ = ["FixedSweep", "Grid", "ParamSelector", "Race", "SweepListener"]
