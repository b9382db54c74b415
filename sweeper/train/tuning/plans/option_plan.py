"""The pure plan after the ladder's rounds: options of the optimiser, open modes, the trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from sweeper.disk.arrays import pack_arrays, unpack_arrays
from sweeper.records import CHOOSE_MODE, Outcome, Step
from sweeper.settings import HyperparameterSettings
from sweeper.train.tuning import ladder, options
from sweeper.train.tuning.option_round import OptionRound, options_key
from sweeper.train.tuning.options import ORDER
from sweeper.train.tuning.schedule import LOW
from sweeper.train.tuning.stages import ChooseModes, Chosen, step_of, tuned
from sweeper.train.tuning.trials import NO_MODE, ExecutionMode, Trial, Trials
from sweeper.train.tuning.tried import (
    Candidate,
    Judged,
    Tried,
    best_loss,
    collect,
    gain_of,
    untrained,
)

LAST = ladder.ROUNDS[-1]
"""Probes are as long as those of the ladder's third round."""


Key: TypeAlias = tuple[int, tuple[tuple[str, float], ...]]


def key_of(trial: Trial) -> Key:
    """What the execution mode of trials depends on, within a point."""
    return trial.batch_size, options_key(trial.options)


def following_step(
    told: Chosen,
    hparams: HyperparameterSettings,
    optimizer: str,
    values: Mapping[str, Sequence[float]],
    length: Callable[[float, int], int],
) -> Step:
    """The next option to tune; then modes that are left to choose, or the trials.

    `values` are those to try of each option that is tuned, the optimiser's own first; `length`
    gives the steps of a probe, from its share of a trial and its batch size.
    """
    done = told.tunings[0].options or {}
    for option in ORDER:
        if option in hparams.options and option not in done:
            return _option_step(option, values[option], told, hparams, optimizer, length)
    by_settings = {key_of(trial): trial for trial in reversed(told.tunings)}
    left = tuple(one for one in by_settings.values() if _is_open(one, told.modes, values))
    if left:
        return step_of(f"{CHOOSE_MODE}.1", len(left), ChooseModes(left, told))
    return tuned_step(told)


def _is_open(
    trial: Trial, modes: Mapping[int, ExecutionMode], values: Mapping[str, Sequence[float]]
) -> bool:
    """Whether the mode that was chosen for a batch size may not be that of these trials."""
    mode, options = modes.get(trial.batch_size, NO_MODE), trial.options or {}
    has_other = any(value != values[name][0] for name, value in options.items())
    return bool(mode.later) or (has_other and mode.is_packed)


def tuned_step(told: Chosen, found: Mapping[Key, ExecutionMode] | None = None) -> Step:
    """The trials, with the settings of their tunings and their modes, some of them `found` last."""
    modes = [
        (found or {}).get(key_of(trial)) or told.modes.get(trial.batch_size, NO_MODE)
        for trial in told.tunings
    ]
    pairs = zip(told.tunings, modes, strict=True)
    tunings = tuple(replace(trial, mode=mode) for trial, mode in pairs)
    return tuned(Trials(tunings[0], tunings, told.constant))


# -- an option ------------------------------------------------------------------------------------


def _option_step(
    option: str,
    values: Sequence[float],
    told: Chosen,
    hparams: HyperparameterSettings,
    optimizer: str,
    length: Callable[[float, int], int],
) -> Step:
    """The round of an option."""
    rates = [
        tuple(options.rate_at(optimizer, option, trial.lr_end, values[0], one) for one in values)
        for trial in told.tunings
    ]
    sizes = sorted({trial.batch_size for trial in told.tunings})
    lengths = {size: length(LAST.share, size) for size in sizes}
    made = OptionRound(
        option=option,
        values=tuple(values),
        rates=tuple(rates),
        tunings=told.tunings,
        constant=told.constant,
        modes=told.modes,
        inits=hparams.probe_inits,
        lengths=lengths,
        cycles=LAST.cycles if hparams.schedule == "triangular" else 1,
        steps=max(lengths.values()),
    )
    return step_of(option, len(made.probes()), made)


@dataclass(frozen=True, slots=True)
class Settled:
    """The results of an option's round."""

    told: Chosen
    choice: dict[str, Any]
    """What was found, and why, for people."""
    arrays: bytes


def settle(told: OptionRound, outcomes: Sequence[Outcome]) -> Settled:
    """What each tuning takes, decided by its own probes alone."""
    tried = _tried(told, outcomes)
    constant = told.constant if told.constant is not None else untrained(tried[0])
    found = [options.choose(told.option, told.values, some, constant) for some in tried]
    tunings = tuple(
        _with_value(told, tuning, one.place, tried[tuning]) for tuning, one in enumerate(found)
    )
    choice = {
        "option": told.option,
        "values": list(told.values),
        "gains": [[gain_of(one, constant) for one in some] for some in tried],
        "chosen": [told.values[one.place] for one in found],
        "because": [one.because for one in found],
    }
    arrays = ladder.arrays_of(tried)
    each = [value for _ in told.tunings for value in told.values for _ in range(told.inits)]
    arrays |= {told.option: np.array(each)}
    return Settled(Chosen(tunings, told.constant, told.modes), choice, pack_arrays(arrays))


def _tried(told: OptionRound, outcomes: Sequence[Outcome]) -> list[list[Tried]]:
    """The values of each tuning, in order, with the losses of their probes."""
    judged = (Judged.read(unpack_arrays(one.arrays)) for one in outcomes)
    candidates = [
        [Candidate(rate, trial.batch_size) for rate in rates]
        for trial, rates in zip(told.tunings, told.rates, strict=True)
    ]
    return [collect(some, told.inits, judged) for some in candidates]


def _with_value(told: OptionRound, tuning: int, place: int, tried: Sequence[Tried]) -> Trial:
    """A tuning's settings with the value at a place, and the rate that goes with it."""
    trial, rate = told.tunings[tuning], told.rates[tuning][place]
    reached = best_loss(tried)
    return replace(
        trial,
        lr_start=rate * LOW[trial.schedule or "triangular"],
        lr_end=rate,
        options={**(trial.options or {}), told.option: told.values[place]},
        expected=trial.expected if reached is None else reached,
    )
