"""What tests need of the made-up problem of `sweeper.testing.toy`: failures of it, and selectors
that write down what they hear.
"""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np

from sweeper.records import TRIAL, TunedSettings, is_trial
from sweeper.search import Ask, ParamSelector
from sweeper.store.results.asked import asked_trials
from sweeper.store.results.load import read_results
from sweeper.testing.toy import draw, metrics_of

# -- the problem ----------------------------------------------------------------------------------


def found_of(params):
    """What `ToyPlan` comes to, in one expression."""
    means = [draw(params, "lr_range", number, "perf") for number in range(3)]
    if sum(means) / 3 > 0.5:
        means = [draw(params, "lr_range.1", number, "perf") for number in range(2)]
    low = sum(means) / len(means)
    best = max(range(2), key=lambda number: draw(params, "batch_range", number, "perf"))
    return TunedSettings(low, 10 * low, 16 + best)


def untunable(params, stage, number):
    return params[0] == 3 and stage == "batch_range" and number == 1


def some_fail(params, stage, number):
    """One point cannot be tuned, and every seventh trial raises."""
    if stage == TRIAL:
        return draw(params, stage, number, "fails") < 0.15
    return untunable(params, stage, number)


def some_are_doomed(params, stage, number):
    if stage == TRIAL:
        return params[0] == 1 and number == 2
    return params[0] == 4 and stage == "lr_range" and number == 0


def row_of(params, number):
    return tuple(repr(value) for value in metrics_of(params, number).values())


def results_in(store):
    """All that a folder came to, comparable with `==`."""
    found = read_results(store)
    rows = [
        (*point[:4], *(column.tobytes() for column in point[4:]), tuple(numbers))
        for point, numbers in zip(found, found.trial_numbers, strict=True)
    ]
    return repr(rows), repr(found.failures)


def asked_results_in(store):
    """As `results_in`, without spare trials."""
    found, ends = read_results(store), [one.end for one in asked_trials(store)]
    rows, last = [], {}
    for point, every, end in zip(found, found.trial_numbers, ends, strict=True):
        own = every < end
        columns = [column[own].tobytes() for column in point[4:]]
        rows.append((*point[:4], *columns, tuple(every[own])))
        last[point.params] = end
    failures = [
        one
        for one in found.failures
        if one.number is None or one.number < last.get(one.params, math.inf)
    ]
    return repr(rows), repr(tuple(failures))


# -- selectors ------------------------------------------------------------------------------------


class Recording(ParamSelector):
    """Writes down every ask and tell; a subclass decides what to ask."""

    def __init__(self):
        self.history = []

    def get_next_trials(self):
        answer = self.decide()
        self.history.append(("asked", answer))
        return answer

    def on_hparams_found(self, params, lr_min, lr_max, batch_size):
        self.history.append(("hparams", params, TunedSettings(lr_min, lr_max, batch_size)))

    def on_trials_completed(self, params, *columns):
        assert all(column.shape == columns[0].shape != (0,) for column in columns)
        assert all(column.dtype == np.float64 for column in columns)
        values = tuple(
            tuple(map(repr, row)) for row in zip(*(c.tolist() for c in columns), strict=True)
        )
        self.history.append(("trials", params, values))

    def on_failed(self, params, stage, error):
        self.history.append(("failed", params, stage, error))

    def told(self, params):
        """The metrics of the point's trials, in the order in which they were told."""
        rows = [entry[2] for entry in self.history if entry[:2] == ("trials", params)]
        return [row for batch in rows for row in batch]

    @property
    def asks(self):
        return [entry[1] for entry in self.history if entry[0] == "asked"]

    @property
    def tells(self):
        return [entry for entry in self.history if entry[0] != "asked"]


class Listed(Recording):
    """Not adaptive: what it is given, in order."""

    def __init__(self, asks):
        super().__init__()
        self.left = list(asks)

    def decide(self):
        return self.left.pop(0) if self.left else None

    def has_more_trials(self):
        return bool(self.left)


class Script(Listed):
    """Adaptive, but asks for what it is given, in order."""

    adaptive = True
    look_ahead = 2


class Gambler(Recording):
    """Adaptive: every answer is drawn from a generator that its whole history seeds."""

    adaptive = True
    look_ahead = 3

    def __init__(self, asks=14, budgets=(None,)):
        super().__init__()
        self.left, self.budgets = asks, budgets
        self.open = Counter()
        self.dead = set()
        self.paused = False

    def _rng(self, what):
        return random.Random(repr((what, self.history)))

    def decide(self):
        rng = self._rng("ask")
        if self.open.total() and rng.random() < 0.4:
            return None
        self.left -= 1
        params, trials = (rng.randrange(5), "x"), rng.choice((0, 1, 1, 2, 5))
        if params not in self.dead:
            self.open[params] += trials
        if len(self.budgets) > 1:
            return Ask(params, trials, rng.choice(self.budgets))
        return params, trials

    def has_more_trials(self):
        if self.open.total() and self._rng("more").random() < 0.2:
            self.paused = True
            return False
        return self.left > 0

    def on_trials_completed(self, params, *columns):
        super().on_trials_completed(params, *columns)
        self.open[params] -= len(columns[0])

    def on_failed(self, params, stage, error):
        super().on_failed(params, stage, error)
        if is_trial(stage):
            self.open[params] -= 1
        else:
            self.open[params] = 0
            self.dead.add(params)
