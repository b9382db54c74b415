"""Objectives that report, save and load."""

from __future__ import annotations

import os
import random
import signal

import numpy as np


def walk(rate, trial, upto=6, every=1):
    """A random walk that saves its steps; see `die`."""
    saved = trial.load()
    place = 0.0 if saved is None else float(saved["place"])
    for step in range(len(trial.history), trial.budget or upto):
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
        die(trial, step)
        place += rate * random.random() + np.random.random()  # noqa: NPY002
        trial.report(place=place)
        trial.save(place=place)


def endless_walk(rate, trial):
    saved = trial.load()
    place = 0.0 if saved is None else float(saved["place"])
    while True:
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
