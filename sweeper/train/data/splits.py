"""Splits one set into training and validation samples, anew for each trial.

A trial's split depends on the sweep's seed and the trial's number alone, so that points are
compared on the same splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.records import KFold
from sweeper.train.replica.streams import split_seed
from sweeper.train.tuning.held_out import split

Rule = float | KFold
"""The share of samples for validation, or folds that are the validation set in turn."""

DEFAULT = 0.2

_Parts = tuple[NDArray[np.int64], NDArray[np.int64]]


def read_rule(given: object) -> Rule:
    """Read a problem's `validation`.

    Raises:
        ValueError: it is neither a share nor folds.
    """
    if isinstance(given, KFold):
        return given
    if isinstance(given, float | np.floating) and 0 < given < 1:
        return float(given)
    raise ValueError(
        "the share of the samples for validation, above 0 and below 1, such as 0.2, or "
        "sweeper.KFold(5)"
    )


def least_samples(rule: Rule) -> int:
    """The least samples of a set that can be split so."""
    return rule.folds if isinstance(rule, KFold) else 2


def sizes(rule: Rule, samples: int) -> tuple[int, int]:
    """Numbers of training and validation samples of a split; for folds, of the larger ones.

    All trials train on the same number.
    """
    if isinstance(rule, KFold):
        held = -(-samples // rule.folds)
    else:
        held = min(max(1, round(rule * samples)), samples - 1)
    return samples - held, held


def describe(rule: Rule, samples: int) -> str:
    """The rule as text for users."""
    if isinstance(rule, KFold):
        return (
            f"validation: each of {rule.folds} folds of {samples:,} samples in turn, divided anew "
            f"after every {rule.folds} trials, the same for all points"
        )
    return (
        f"validation: {100 * rule:.4g} % of {samples:,} samples, split anew for each trial number, "
        "the same for all points"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The splits of a sweep's trials."""

    rule: Rule
    samples: int
    labels: NDArray[Any] | None
    """Labels for stratified splits, shape (samples,); None: splits are not stratified."""
    seed: int
    """The sweep's seed."""

    def of_trial(self, number: int) -> _Parts:
        """Indices of the training and of the validation samples, each sorted."""
        if isinstance(self.rule, KFold):
            return self._of_fold(self.rule.folds, number)
        generator = np.random.default_rng(split_seed(self.seed, number))
        _, held = sizes(self.rule, self.samples)
        return split(self.samples, self.labels, generator, held)

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        """For each size of parts that occurs, the numbers of two trials with it."""
        if not isinstance(self.rule, KFold):
            return [(0, 1)]
        folds = self.rule.folds
        places = [0] if self.samples % folds == 0 else [0, folds - 1]
        return [(place, folds + place) for place in places]

    def _of_fold(self, folds: int, number: int) -> _Parts:
        """Samples are sorted by label, and each fold gets one of every `folds` neighbours."""
        division, fold = divmod(number, folds)
        generator = np.random.default_rng(split_seed(self.seed, division))
        order = generator.permutation(self.samples)
        if self.labels is not None:
            order = order[np.argsort(self.labels[order], kind="stable")]
        groups, rest = divmod(self.samples, folds)
        drawn = generator.permuted(np.tile(np.arange(folds), (groups, 1)), axis=1).ravel()
        # The first folds get the remainder, so that sizes depend on the number alone.
        fold_of = np.empty(self.samples, dtype=np.int64)
        fold_of[order] = np.concatenate([drawn, generator.permutation(rest)])
        kept, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        n_train, _ = sizes(KFold(folds), self.samples)
        left_out = generator.integers(len(kept), size=folds)[fold]
        return (kept if len(kept) == n_train else np.delete(kept, left_out)), held
