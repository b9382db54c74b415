"""What every test file shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples in every run: a failure seen once is seen again.  No deadline: a busy machine
# is no fault of the code.
settings.register_profile("sweeper", derandomize=True, deadline=None, database=None)
settings.load_profile("sweeper")


@pytest.fixture
def one_thread():
    """As in a worker: how many threads add up is part of the last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
