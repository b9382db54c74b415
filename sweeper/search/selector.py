"""The protocol of selectors: what they are asked, and what they are told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sweeper.records import Params
from sweeper.results import METRICS

TrialValues: TypeAlias = npt.NDArray[np.float64]
"""One number a trial, in order of trial number: shape `(trials,)`."""


@dataclass(frozen=True, slots=True, eq=False)
class TrialResults:
    """What further trials of a point came to; each is told of once, in order of its number."""

    params: Params
    numbers: npt.NDArray[np.int64]
    """Of the trials that were measured, shape (trials,)."""
    metrics: Mapping[str, TrialValues]
    """Every metric by name, in the order of `numbers`: the four of every problem, and those that
    the problem declares.  A trial that diverged is a measurement, with a loss of NaN."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """By number the trials that failed, and why; `on_failed` is told of them, too."""


class SweepListener:
    """Is told how a sweep goes.

    Every method does nothing: override those that are of interest.  `params` is always the point's
    parameters as they were asked for, with numpy scalars made Python's.
    """

    def on_begin(self, tunings: int) -> None:
        """Told once, before anything is asked.

        Args:
            tunings: How many times each point is tuned: trial n of a point is trained with its
                tuning n % tunings.
        """

    def on_hparams_found(
        self, params: Params, lr_min: float, lr_max: float, batch_size: int
    ) -> None:
        """The point has been tuned: what its trials train with.

        Told once a point, before any of its trials.

        Args:
            params: The point.
            lr_min: The lower end of the learning-rate range, above 0; of the first tuning, where
                there are several.
            lr_max: The upper end, not below `lr_min`.
            batch_size: In samples.
        """

    def on_results(self, result: TrialResults) -> None:
        """Trials of the point have ended; by default `on_trials_completed` is told of them."""
        if len(result.numbers):
            self.on_trials_completed(result.params, *(result.metrics[name] for name in METRICS))

    def on_trials_completed(
        self,
        params: Params,
        perfs_train: TrialValues,
        losses_train: TrialValues,
        perfs_val: TrialValues,
        losses_val: TrialValues,
    ) -> None:
        """Trials of the point have finished.

        The arrays have the shape `(trials,)` and hold only what was not told before: each trial is
        delivered once, in order of its number.  A trial that diverged is a measurement and is among
        them (its loss is NaN); one that failed is not (see `on_failed`).

        Args:
            params: The point.
            perfs_train: Performance on the whole training set; larger is better.
            losses_train: Loss on the whole training set.
            perfs_val: Performance on the whole validation set.
            losses_val: Loss on the whole validation set.
        """

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """Something of the point failed for good, after the retries that could have helped.

        A point whose tuning failed has no trials, now or later.  A trial that failed leaves the
        point's other trials as they are.

        Args:
            params: The point.
            stage: The stage of tuning, or `"trial"`.
            error: What happened.
        """


class ParamSelector(SweepListener, ABC):
    """Decides which points to try, and how many trials of each.

    It is asked `get_next_trials` as long as `has_more_trials`, and told of results through the
    methods of `SweepListener`.  All calls come from the process and thread that called `sweep`.
    A selector that raises, or that answers something else than is written here, stops the sweep:
    what had finished is on disk, and the same command goes on from there.

    There are two kinds:

    *Not adaptive* (the default): what it answers does not depend on results.  It is asked for
    everything up front, before it is told of anything, so it must come to an end.  It is told of
    results as they come, in no particular order of points.

    *Adaptive* (`adaptive = True`): what it answers depends on what it was told.  It is told ask by
    ask, in the order in which it asked: everything about an ask at once, when the whole ask is
    complete (all its trials finished or failed, or its tuning, where that is all that was asked
    for), even if later asks were complete earlier.  At most `look_ahead` asks are open at a time.
    So its whole history is the same on one core and on many.  When a sweep is resumed, a fresh
    selector is asked and told again, from the log, exactly what the earlier one was: so it must
    take its decisions from what it is told and from its own fixed seed, and from nothing else (no
    clock, no global random state).
    """

    name: str = ""
    """The name under which its log is kept; empty: its module and class.

    Set it in the class itself (a subclass does not inherit it) and keep it: a folder's log is found
    by it, wherever the class moves.  Two selectors of one name go on with each other's log.
    """

    adaptive: bool = False
    """Whether answers depend on results."""

    most_untold: int = 100_000
    """How many asks a selector that is not adaptive may make before it is told of anything.

    One that never ends would be asked for ever; one that needs more, and ends, may say so.
    """

    look_ahead: int = 8
    """How many asks of an adaptive selector may be open: made, and not yet told the results of.

    A larger number keeps more cores busy, a smaller one lets each decision know more.  It belongs
    to the selector and is never taken from the machine, since results would then depend on it.
    """

    @abstractmethod
    def get_next_trials(self) -> tuple[Params, int] | None:
        """What to train next: `(params, trials)`, or None.

        `params` is a tuple, passed to the model by position, or a mapping, passed by name.
        `trials` is how many *further* trials of that point to train: the same params may be
        returned again to add to those asked for before.  With `trials == 0` the point is only
        tuned: its hyperparameters are found (`on_hparams_found`) and nothing is trained.

        None means: nothing for now, I wait for results.  It is asked again once it has been told
        something.  A selector that waits while nothing is left to be told of stalls the sweep
        (`StalledError`), unless `waiting_outside`.
        """

    @abstractmethod
    def has_more_trials(self) -> bool:
        """Whether `get_next_trials` may yet return something.

        Asking must change nothing.  An adaptive selector that has answered False may answer True
        again after it was told more; once everything it asked for is complete and it still
        answers False, the sweep is over.
        """

    def waiting_outside(self) -> bool:
        """Whether points may come from elsewhere than results: a person, a file, a service.

        While True, a selector that has more trials and none to give is asked again from time to
        time and never counts as stalled.
        """
        return False
