"""A module whose import says that it has begun, and never ends."""

import os
import signal

with open(os.environ["SWEEPER_TEST_FIFO"], "w") as file:  # noqa: PTH123 - a fifo
    file.write("importing")
signal.pause()
