"""Objectives that print in every way."""

# ruff: noqa: T201 - that is what they are for

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None)
BUFFER = ctypes.create_string_buffer(4096)


def prints(x):
    """By Python, by a C library that keeps it back, by a child, and by number."""
    print("from python", x)
    print("to errors", x, file=sys.stderr)
    # Whatever Python has set: with a buffer.
    LIBC.setvbuf(ctypes.c_void_p.in_dll(LIBC, "stdout"), BUFFER, 0, len(BUFFER))
    LIBC.puts(b"from C %d" % x)
    subprocess.run(["sh", "-c", f"echo from a child {x}; echo its errors {x} >&2"], check=True)
    os.write(1, b"by number %d\n" % x)
    return x


def raises(x):
    for line in range(100):
        print("line", line)
    print("the reason", file=sys.stderr)
    raise ValueError("no good")


def dies(x, mark):
    print("before the end", x, file=sys.stderr)
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), 9)
    return x


def meddles(x):
    """Closes, moves and replaces what it prints to; the next trial must not notice."""
    print("begins", x)
    if x == 1:
        os.close(1)
        os.close(2)
    if x == 2:
        sys.stdout = None
    if x == 3:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if x == 4:
        sys.__stdout__.close()
    return x


def silent(x):
    return x


def prints_much(x):
    for _ in range(3):
        os.write(1, b"much " * 1000)
    print("end")
    return x
