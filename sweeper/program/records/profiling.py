"""Profiles trials: which functions their time goes into."""

from __future__ import annotations

import contextlib
import cProfile
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeper.disk.files import make_folder, write_swapped
from sweeper.records import PROFILE, PROFILE_COLUMNS


@contextlib.contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Profile what runs inside, in this thread, and write it into `folder`, also if it raises.

    `profile.csv` has a row for each function, `profile.pstats` is for `pstats` and other tools.

    Raises:
        FolderError: the path to the folder contains a symbolic link.
        DiskError: it cannot be written.
    """
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        make_folder(folder)
        write_swapped(folder / PROFILE, _table(profile).encode())
        profile.dump_stats(folder / "profile.pstats")


def _table(profile: cProfile.Profile) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PROFILE_COLUMNS)
    for entry in profile.getstats():
        seconds = (f"{entry.inlinetime:.6f}", f"{entry.totaltime:.6f}")
        writer.writerow((_name(entry.code), entry.callcount, *seconds))
    return text.getvalue()


def _name(code: Any) -> str:
    """Of a function; built-in ones come as texts."""
    if isinstance(code, str):
        return code
    return f"{code.co_filename}:{code.co_firstlineno}({code.co_name})"
