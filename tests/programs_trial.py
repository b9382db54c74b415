"""Objectives that report, save and load."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np


def walk(rate, trial, upto=6, every=1):
    """A random walk that saves its steps; see `die`."""
    saved = trial.load()
    place = 0.0 if saved is None else float(saved["place"])
    for step in range(len(trial.history), trial.budget or upto):
        note(step)
        die(trial, step)
        place += rate * random.random() + np.random.random()  # noqa: NPY002
        yield {"place": place}
        if (step + 1) % every == 0:
            trial.save(place=place)


def reported_walk(rate, trial, upto=6):
    """The same as a function that reports."""
    saved = trial.load()
    place = 0.0 if saved is None else float(saved["place"])
    for step in range(len(trial.history), trial.budget or upto):
        note(step)
        die(trial, step)
        place += rate * random.random() + np.random.random()  # noqa: NPY002
        trial.report(place=place)
        trial.save(place=place)


def endless_walk(rate, trial):
    saved = trial.load()
    place = 0.0 if saved is None else float(saved["place"])
    while True:
        note(len(trial.history))
        place += random.random()
        yield {"place": place}
        trial.save(place=place)


def die(trial, step):
    """Kill the worker, or the driver in PROGRAMS_DRIVER, before each step in PROGRAMS_KILLS, once.

    A step is written `trial:step`.
    """
    mark = trial.folder / f"killed at {step}"
    if f"{trial.number}:{step}" not in os.environ.get("PROGRAMS_KILLS", "").split():
        return
    if not mark.exists():
        mark.touch()
        os.kill(int(os.environ.get("PROGRAMS_DRIVER", os.getpid())), signal.SIGKILL)
        signal.pause()  # the worker ends with its driver


def note(step):
    """Append the step to the file PROGRAMS_STEPS, if that is set."""
    if path := os.environ.get("PROGRAMS_STEPS"):
        with Path(path).open("a") as file:
            file.write(f"{step}\n")


def with_artifacts(x, trial):
    return x, {"odd": np.array([1, 3])} if x else {}
