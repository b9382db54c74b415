"""The number of compute threads, kept from the user's code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def own_threads(threads: int | None = None) -> Iterator[None]:
    """Restore the number of compute threads on exit; inside it is `threads`, if given.

    The number of threads affects the last bits, so a module must not set it: the setting would
    persist after the first import in a process.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
