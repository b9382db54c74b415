"""An objective that waits for its test: at a pipe, until somebody writes into it."""

from __future__ import annotations

import os


def waits(x, gate):
    """Reads the file `gate`: a pipe blocks it until a test opens the other end."""
    with open(gate, "rb", buffering=0) as file:  # noqa: PTH123 - no library in between
        file.read(1)
    return {"loss": float(x)}


def open_gate(gate):
    """Let all that waits, and all that comes, go on."""
    gate.rename(gate.with_suffix(".pipe"))
    gate.write_bytes(b"!")
    # Whoever waits at the pipe is woken by its other end.
    os.close(os.open(gate.with_suffix(".pipe"), os.O_RDWR | os.O_NONBLOCK))
