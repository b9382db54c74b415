"""A trial's results, and the steps and samples of its curves, for every execution mode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sweeper.train.data.samples import Data, Indices, SampleSet, in_order
from sweeper.train.problem.measure.declared import MEASURED, Declared
from sweeper.train.problem.measure.inputs import call_model
from sweeper.train.problem.measure.metrics import evaluating
from sweeper.train.problem.measure.reductions import join
from sweeper.train.replica.checkpoints import Saved
from sweeper.train.replica.streams import Streams, fork_rng
from sweeper.train.tuning.trials import Trial

CURVE_SAMPLES = 1024
"""A point of a curve is measured on at most this many samples."""

LEAST_CURVE_SAMPLES = 64

CURVE_SHARE = 0.1
"""Largest share of a training's time for its curves."""

CURVES = ("loss_train", "perf_train", "loss_val", "perf_val")


@dataclass(frozen=True, slots=True)
class Trained:
    """The results of a trial."""

    metrics: Mapping[str, float]
    arrays: Mapping[str, Any]
    model: nn.Module
    """The model to save."""
    loss: nn.Module | None = None
    """The loss, if it has parameters of its own, which are saved too."""


Steps = np.ndarray[Any, np.dtype[np.int64]]


def curve_steps(trial: Trial, samples: int) -> Steps:
    """The steps after which a trial's curves are measured, including the last one.

    They are evenly spaced: `samples` in a trial without a budget.  A trial with a budget that
    others go on from has as many in each cycle, rounded up, as one without.
    """
    if not trial.goes_on:
        return _evenly_spaced(trial.steps, samples)
    own = trial.own_cycles or trial.cycles
    of_one = _evenly_spaced(trial.cycle_steps, -(-samples // own))
    firsts = np.arange(trial.cycles, dtype=np.int64) * trial.cycle_steps
    return (firsts[:, None] + of_one).ravel()


def _evenly_spaced(steps: int, samples: int) -> Steps:
    if samples == 0:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.ceil(np.linspace(0, steps, samples + 1)[1:]).astype(np.int64))


def begin_curves(steps: Steps, saved: Saved | None) -> dict[str, Any]:
    """Curves with a point after each of these steps: those of a checkpoint, and NaN from there."""
    curves: dict[str, Any] = {"step": steps}
    for name in CURVES:
        curves[name] = np.full(len(steps), np.nan)
        if saved is not None:
            known = saved.curves[name]
            curves[name][: len(known)] = known
    return curves


def choose_samples(
    data: Data, streams: Streams, trial: Trial, curve_samples: int
) -> dict[str, Indices]:
    """The samples of each set that a trial's curves are measured on.

    Their number follows from `CURVE_SHARE`, if evaluating a sample costs as much as training on it:
    by arithmetic it is a third, but nearly all if steps are compiled, since evaluations are not.
    It does not depend on the budget.  `curve_samples` is the number of points without a budget,
    above 0.
    """
    trained = trial.own_steps * trial.batch_size
    points = len(_evenly_spaced(trial.own_steps, curve_samples))
    affordable = int(CURVE_SHARE * trained / (2 * points))
    most = max(LEAST_CURVE_SAMPLES, min(CURVE_SAMPLES, affordable))
    generator = streams.generator("evaluation")
    return {
        name: np.sort(generator.choice(len(part), min(len(part), most), replace=False))
        for name, part in (("train", data.train), ("val", data.val))
    }


def measure_declared(
    declared: tuple[Declared, ...], model: nn.Module, loss: Any, data: Data, *, diverged: bool
) -> dict[str, float]:
    """Every declared metric on both sets, by name; NaN for a diverged trial.

    Measuring does not affect training.

    Raises:
        ValueError: a metric is no number, or the outputs of a set cannot be concatenated.
    """
    if not declared:
        return {}
    found: dict[str, float] = {}
    for name in MEASURED:
        pair = (None, None) if diverged else _outputs(model, loss, data.sets[name])
        for metric in declared:
            value = math.nan if diverged else metric.value(*pair)
            found[f"{metric.name}_{name}"] = value
    return found


def _outputs(model: nn.Module, loss: Any, samples: SampleSet) -> tuple[Any, Any]:
    """The model's outputs and the targets of a whole set."""
    outputs, targets = [], []
    with fork_rng(), evaluating(model, loss), torch.no_grad():
        for x, y in samples.batches(in_order(len(samples))):
            outputs.append(call_model(model, x))
            targets.append(y)
    return join(outputs), join(targets)
