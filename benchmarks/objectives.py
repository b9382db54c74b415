"""The objectives of `programs.py`: a file of their own, since a sweep reads all that it imports."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

REPORTS = 5_000
"""Of each trial of `reports`."""


def identity(x: int) -> int:
    """Do nothing."""
    return x


def reports(x: int, meet: str, of: int, trial: Any) -> dict[str, float]:
    """Report as fast as it can, once `of` trials have met; gives when it began and ended."""
    Path(meet, str(x)).touch()
    while len(list(Path(meet).iterdir())) < of:
        pass
    began = time.time()
    for step in range(REPORTS):
        trial.report(loss=1 / (step + 1), accuracy=step / REPORTS)
    return {"began": began, "ended": time.time()}
