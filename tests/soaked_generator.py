"""A generator that saves its state, yields at each iteration, and says where it goes on."""

from __future__ import annotations

import random

import numpy as np

SEGMENT = 4
"""Iterations between two saves."""


def walk(rate, values, trial):
    """Some milliseconds an iteration, whose numbers depend on all that came before."""
    saved = trial.load()
    place = np.zeros(3) if saved is None else saved["place"]
    trial.log(f"{'goes on' if trial.resumed else 'begins'} after {len(trial.history)}")
    while True:
        print(f"iteration {len(trial.history)}")  # noqa: T201 - as objectives do
        drawn = np.sort(np.random.normal(size=values))  # noqa: NPY002 - seeded by sweeper
        place = (1 - rate) * place + drawn[[values // 4, values // 2, -1]] + random.gauss(0.0, 0.1)
        yield {"spread": place[2] - place[0], "place": place[1]}
        if len(trial.history) % SEGMENT == 0 or trial.should_stop:
            trial.save(place=place)
