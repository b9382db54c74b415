"""What every test file shares."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run: a failure seen once is seen again.  No deadline: a busy machine
# is no fault of the code.
settings.register_profile("sweeper", derandomize=True, deadline=None, database=None)
settings.load_profile("sweeper")
