"""Output for people: progress while a sweep runs, tables of results."""

import random

# rich draws a number from Python's global generator when it is imported, which would change what a
# script that sweeps draws afterwards.
_state = random.getstate()
import rich.style  # noqa: E402, F401 - as above

random.setstate(_state)
