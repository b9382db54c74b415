"""Objectives that use processor time and memory."""

from __future__ import annotations

import subprocess
import sys
import time

MIB = 2**20


def allocates(mib):
    """Memory of its own, touched, and freed again."""
    block = bytearray(mib * MIB)
    return len(block)


def works(seconds):
    """Processor time of its own and of a child that has ended."""
    burn = (
        "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass".format
    )
    subprocess.run([sys.executable, "-c", burn(seconds)], check=True)
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def fails(mib):
    raise ValueError(mib)
