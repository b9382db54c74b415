"""The user's cache folder, for what is computed once per machine."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The user's cache folder: `SWEEPER_CACHE`, or a folder of `XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        RuntimeError: there is no home folder.
    """
    own = os.environ.get("SWEEPER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeper"
