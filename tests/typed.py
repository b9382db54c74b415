"""What type checkers know of the public functions: held by `make types`, never run."""

from __future__ import annotations

from typing import assert_type

import sweeper
from sweeper import SweepFolder, SweepResult


def what_sweep_returns() -> None:
    """A detached sweep gives a handle, any other its results."""
    points = sweeper.Domain(x=[1])
    assert_type(sweeper.sweep("toy", points), SweepResult)
    assert_type(sweeper.sweep("toy", points, trials=3, detach=False), SweepResult)
    assert_type(sweeper.sweep("toy", points, trials=3, detach=True), SweepFolder)
    sweeper.sweep("toy", points, trails=3)  # type: ignore[call-overload]
