"""A program whose slow trial ends only once a spare trial of another point has begun."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def objective(kind: str, meeting: str, trial):
    (trial.folder / "begun").touch()
    here = Path(meeting)
    if kind == "slow" and trial.number == 0:
        here.read_text()  # a named pipe: waits until somebody writes
    if kind == "spread" and trial.number == 3:
        (here.parent / "stopped").write_text(str(os.getpid()))
        here.write_text("met")
        signal.pause()
    return {"acc": 0.5 if kind == "slow" else float(trial.number)}
