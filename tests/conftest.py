"""What every test file shares."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# The same examples in every run: a failure seen once is seen again.  No deadline: a busy machine
# is no fault of the code.
settings.register_profile("sweeper", derandomize=True, deadline=None, database=None)
settings.load_profile("sweeper")

# As in a worker, and before the first product: MKL reads it once.
os.environ.setdefault("MKL_CBWR", "AUTO")

# Where the tests run in the background, what they start would ignore these too, and rightly so.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def one_thread():
    """As in a worker: how many threads add up is part of the last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
