"""The protocol of selectors: what they are asked and told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sweeper.records import METRICS, Params, Parent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TrialValues: TypeAlias = "npt.NDArray[np.float64]"
"""One number per trial, in order of trial number: shape `(trials,)`."""


class Ask(NamedTuple):
    """What a selector asks for: further trials of a point."""

    params: Params
    """A tuple is passed to the model by position, a mapping by name."""
    trials: int
    """How many further trials; 0: the point is only tuned."""
    budget: int | None = None
    """How far they go, in learning-rate cycles of a problem or iterations of a program; None: as
    the settings say, or as far as the program goes.  Trials of
    each budget are numbered from 0, and trial n with a larger budget continues trial n with a
    smaller one if the schedule allows it."""
    parent: Parent | None = None
    """A finished trial that they begin from, with its weights and the state of its optimiser: see
    `TrialResults.as_parent` and `ParamSelector.uses_parents`.  Trials of each parent are numbered
    from 0, too."""
    group: str = ""
    """A label that results, tables and exports keep, such as `"search"` or `"final"`."""


Answer: TypeAlias = Ask | tuple[Params, int]
"""What `get_next_trials` may answer besides None: `(params, trials)` is short for an `Ask`."""


def as_ask(answer: Answer) -> Ask:
    """An answer as an `Ask`."""
    return answer if isinstance(answer, Ask) else Ask(*answer)


@dataclass(frozen=True, slots=True, eq=False)
class TrialResults:
    """Results of further trials of a point; each trial is told once, in order of its number."""

    params: Params
    numbers: npt.NDArray[np.int64]
    """Numbers of the measured trials, shape (trials,)."""
    metrics: Mapping[str, TrialValues]
    """Every metric by name, in the order of `numbers`: the classic four, and those that the problem
    declares; of a program those that these trials have measured, NaN where one lacks it.  A trial
    that diverged is a measurement, with a loss of NaN."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Failed trials by number, with the reason; `on_failed` is told of them, too."""
    budget: int | None = None
    """The budget of these trials, as asked for."""
    group: str = ""
    """The group of these trials, as asked for."""
    lineage: str = ""
    """What they began from; empty: from nothing."""

    def as_parent(self, number: int) -> Parent:
        """The trial with this number, for others to begin from it."""
        return Parent(self.params, int(number), self.budget, self.lineage)


class SweepListener:
    """Is told how a sweep goes.

    Every method does nothing by default: override those you need.  `params` are always the point's
    parameters as asked for, with numpy scalars converted to Python's.
    """

    def on_opened(self, folder: Path) -> None:
        """Told once, before `on_begin`: for one that reads or writes files of its own there.

        Args:
            folder: The sweep's folder, as an absolute path; its database is open.
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
        """The point has been tuned: the settings of its trials.  Not told of a program.

        Told once per point, before any of its trials.

        Args:
            params: The point.
            lr_min: The lower end of the learning-rate range, above 0; of the first tuning, if
                there are several.
            lr_max: The upper end, not below `lr_min`.
            batch_size: In samples.
        """

    def on_results(self, result: TrialResults) -> None:
        """Trials of the point have ended; the default calls `on_trials_completed` for a problem."""
        if len(result.numbers) and all(name in result.metrics for name in METRICS):
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

        The arrays have shape `(trials,)` and hold only new trials: each is delivered once, in order
        of its number.  They include trials that diverged (with a loss of NaN), but not those that
        failed (see `on_failed`).

        Args:
            params: The point.
            perfs_train: Performance on the whole training set; larger is better.
            losses_train: Loss on the whole training set.
            perfs_val: Performance on the whole validation set.
            losses_val: Loss on the whole validation set.
        """

    def on_failed(self, params: Params, stage: str, error: str) -> None:
        """A trial or the tuning of the point has failed for good, after all retries.

        A point whose tuning failed gets no trials.  A failed trial does not affect the point's
        other trials.

        Args:
            params: The point.
            stage: The stage of tuning, or `"trial"`.
            error: What happened.
        """


class ParamSelector(SweepListener, ABC):
    """Decides which points to try, and how many trials of each.

    While `has_more_trials`, `get_next_trials` is called; results are told through the methods of
    `SweepListener`.  All calls come from the process and thread that called `sweep`.  A selector
    that raises, or that breaks the protocol, stops the sweep: finished work is on disk, and the
    same command resumes it.

    There are two kinds:

    *Not adaptive* (the default): its answers do not depend on results.  It is asked for everything
    up front, before it is told anything, so it must come to an end.  It is told results as they
    arrive, in no particular order of points.

    *Adaptive* (`adaptive = True`): its answers depend on what it was told.  It is told ask by ask,
    in the order of asking: everything about an ask at once, when the whole ask is complete (all its
    trials have finished or failed, or its tuning, if only that was asked for), even if later asks
    were complete earlier.  At most `look_ahead` asks are open at a time.  So its history is the
    same on one core and on many.  When a sweep is resumed, the log is replayed to a new selector:
    so its decisions must depend only on what it is told and on its own fixed seed (no clock, no
    global random state).
    """

    name: str = ""
    """The name under which its log is stored; empty: its module and class.

    Set it in the class itself (a subclass does not inherit it) and never change it: a folder's log
    is found by it, even if the class moves.  Two selectors of the same name continue each other's
    log.
    """

    adaptive: bool = False
    """Whether answers depend on results."""

    most_untold: int = 100_000
    """How many asks a selector that is not adaptive may make before it is told anything.

    The limit catches a selector that never ends; raise it for one that needs more and does end.
    """

    skips_refused: bool = False
    """Whether a point whose parameters do not fit is recorded as a failure and skipped.

    By default it stops the sweep, since it is an error of the selector.  For points that people add
    while nobody watches.
    """

    look_ahead: int = 8
    """How many asks of an adaptive selector may be open: made, but without results told.

    A larger number keeps more cores busy; with a smaller one each decision knows more results.  It
    never depends on the machine, since results would then depend on it.
    """

    uses_parents: bool = False
    """Whether it asks for trials that begin from others (`Ask.parent`): only if it is adaptive.

    The checkpoints of all trials are then kept.  A parent must be a trial that it was told of and
    that has not failed."""

    compare_by: tuple[str, ...] = ()
    """Names of parameters that results are compared by: points that agree on them count as one
    point, which was tuned several times.  Empty: every point is compared.  If it asks with groups,
    only trials of the group `"final"` are compared."""

    @abstractmethod
    def get_next_trials(self) -> Answer | None:
        """The next trials to train: `(params, trials)`, an `Ask`, or None.

        `params` is a tuple, passed to the model by position, or a mapping, passed by name.
        `trials` is how many *further* trials of that point to train: returning the same params
        again adds to those asked for before.  With `trials == 0` the point is only tuned
        (`on_hparams_found`), and nothing is trained.

        None means that it waits for results.  It is asked again once it has been told something.
        A selector that waits while no results are left to tell stalls the sweep (`StalledError`),
        unless `waiting_outside`.
        """

    @abstractmethod
    def has_more_trials(self) -> bool:
        """Whether `get_next_trials` may yet return something.

        It must not change the selector's state.  An adaptive selector may answer True again after
        it was told more; once everything it asked for is complete and it still answers False, the
        sweep is over.
        """

    def repeat_ask(self, logged: Ask | None) -> Answer | None:
        """Answer again as the log says, when a sweep is resumed; the default asks anew.

        Only for an adaptive selector whose answers do not follow from what it was told, because a
        person adds points, or because a decision must not be taken twice.  It is called instead of
        `get_next_trials`, once for each ask of the log.

        Args:
            logged: What it asked for in the earlier run; None: it waited.
        """
        del logged
        return self.get_next_trials()

    def waiting_outside(self) -> bool:
        """Whether points may come from elsewhere: a person, a file, a service.

        While True, a selector that has more trials but answers None is asked again from time to
        time and never counts as stalled; that it waits is not logged, since nobody can tell when a
        point comes.
        """
        return False
