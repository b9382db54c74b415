"""The stages of tuning: the settings of a replica of each.

A replica's settings are stored as its payload, plain data that the store and `run/` pass on without
reading it.  It is read and written here alone; plans and workers use the classes.  Keys and values
are those of stored folders: `read(stage, payload).payload() == payload` for every payload that was
ever stored.  `Own` may add a key of
its own.  A field that is None has no key unless its description says otherwise, so that a field
that earlier releases did not store is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, TypeAlias

from sweeper.records import (
    CHECK,
    CHOOSE_MODE,
    DESCRIBE,
    TRIAL,
    Running,
    Step,
    Tuned,
    TunedSettings,
)
from sweeper.settings import OPTIONS
from sweeper.train.tuning.ladder import STREAMS, Probe
from sweeper.train.tuning.names import (
    BATCH_CHOICE,
    BATCH_RANGE,
    LADDER,
    LR_RANGE,
    LR_RESCAN,
    split_stage,
)
from sweeper.train.tuning.option_round import OptionRound
from sweeper.train.tuning.trials import (
    NO_MODE,
    ExecutionMode,
    Payload,
    Trial,
    Trials,
    key_of,
    present_fields,
    read_fields,
    read_modes,
    stored_as,
    write_modes,
)
from sweeper.train.tuning.tried import Candidate


class _Fields:
    """A stage whose payload has one key per field."""

    __slots__ = ()

    @classmethod
    def read(cls, payload: Payload) -> Self:
        """From what is stored.

        Raises:
            KeyError: a key is not there that every release stored.
        """
        return cls(**read_fields(cls, payload))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        return present_fields(self)


@dataclass(frozen=True, slots=True)
class Check(_Fields):
    """The check that model, data and loss work together on one batch."""

    batch_size: int
    steps: int


@dataclass(frozen=True, slots=True)
class Describe(_Fields):
    """What a plan must know of a point that has parameters beside those of its model.

    Its loss, optimizer and data are checked with the model, on one batch.
    """

    batch_size: int
    """Of that batch."""
    untuned: bool
    """Whether there are no probes: then `describe` measures what the first one would."""
    options: Sequence[str] | None = None
    """The options of the optimizer that are tuned.  None: none are."""


# -- execution modes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChooseMode:
    """The choice of the execution mode of a point's trials, after range tests."""

    trial: Trial

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What each replica is about."""
        return (self.trial,)

    @classmethod
    def read(cls, payload: Payload) -> ChooseMode:
        """From what is stored."""
        return cls(Trial.read(payload["trial"]))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        return {"trial": self.trial.payload()}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The results of the ladder's rounds."""

    tunings: tuple[Trial, ...]
    """The settings of each tuning, without modes."""
    constant: float | None
    """The loss of the best constant prediction."""
    modes: Mapping[int, ExecutionMode]
    """By batch size."""

    @classmethod
    def read(cls, payload: Payload) -> Chosen:
        """From what is stored."""
        tunings = tuple(map(Trial.read, payload["tunings"]))
        return cls(tunings, payload["constant"], read_modes(payload["ways"]))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        tunings = [trial.payload() for trial in self.tunings]
        return {"tunings": tunings, "constant": self.constant, "ways": write_modes(self.modes)}


@dataclass(frozen=True, slots=True)
class ChooseModes:
    """The choice of execution modes per batch size, before or after the ladder."""

    trials: tuple[Trial, ...]
    """What each replica is about."""
    told: Chosen | None = None
    """After the ladder: its results."""

    @classmethod
    def read(cls, payload: Payload) -> ChooseModes:
        """From what is stored."""
        told = payload.get("told")
        trials = tuple(map(Trial.read, payload["trials"]))
        return cls(trials, None if told is None else Chosen.read(told))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        found: dict[str, Any] = {"trials": [trial.payload() for trial in self.trials]}
        return found if self.told is None else {**found, "told": self.told.payload()}


# -- the ladder -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRound:
    """A round of probes for all tunings of a point."""

    round: int
    modes: Mapping[int, ExecutionMode] = stored_as("ways")
    """By batch size."""
    constant: float | None
    """The loss of the best constant prediction; None, stored as null, in the first round."""
    lowered: int | None = None
    """How often all rates were lowered."""
    chosen: tuple[Candidate | None, ...] | None = None
    """In a round that not all tunings need: each one's earlier choice; empty, stored as null, in
    others."""
    expected: tuple[float | None, ...] | None = None
    """In the same rounds: the loss that the probes of each tuning had reached, or None; empty,
    stored as null, in others."""
    candidates: tuple[tuple[Candidate, ...], ...]
    """What each tuning tries."""
    inits: int
    """Number of probes per candidate."""
    lengths: Mapping[int, int]
    """Steps of a probe, by batch size."""
    cycles: int
    schedule: str | None = None
    warmup: float | None = None
    steps: int
    """Steps of the longest probe."""

    @classmethod
    def read(cls, payload: Payload) -> LadderRound:
        """From what is stored.

        Raises:
            KeyError: a key is not there that every release stored.
        """
        values = read_fields(cls, payload)
        values["modes"] = read_modes(payload["ways"])
        values["lengths"] = {int(size): steps for size, steps in payload["lengths"].items()}
        values["candidates"] = tuple(
            tuple(Candidate(*one) for one in some) for some in payload["candidates"]
        )
        if "chosen" in payload:
            chosen = payload["chosen"] or ()
            values["chosen"] = tuple(None if one is None else Candidate(*one) for one in chosen)
        if "expected" in payload:
            values["expected"] = tuple(payload["expected"] or ())
        return cls(**values)

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        stored = {
            "ways": write_modes(self.modes),
            "lengths": {str(size): steps for size, steps in self.lengths.items()},
            "candidates": [[_pair(one) for one in some] for some in self.candidates],
            "chosen": [one and _pair(one) for one in self.chosen or ()] or None,
            "expected": list(self.expected or ()) or None,
        }
        present = {"constant", *present_fields(self)}
        kept = {key_of(one): one.name for one in fields(self) if key_of(one) in present}
        return {key: stored.get(key, getattr(self, name)) for key, name in kept.items()}

    def mode_of(self, probe: Probe) -> ExecutionMode:
        """How a probe is trained."""
        return self.modes.get(probe.batch_size, NO_MODE)

    def probes(self) -> list[Probe]:
        """Its probes, in order of number."""
        shape = self.cycles, self.schedule or "triangular", self.warmup or 0.0
        probes: list[Probe] = []
        for tuning, some in enumerate(self.candidates):
            for rate, size in map(_pair, some):
                for init in range(self.inits):
                    stream, steps = tuning * STREAMS + init, self.lengths[size]
                    probes.append(Probe(len(probes), stream, rate, size, steps, *shape))
        return probes


def _pair(one: Candidate) -> list[Any]:
    return [one.rate, one.batch_size]


# -- range tests ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LrRange(_Fields):
    """A range run of the learning rate: `lr_range`, and `lr_rescan`."""

    spacing: str
    """Spacing of the rates: `"linear"` or `"log"`."""
    lowered: int
    """How often the end was lowered."""
    extended: bool
    """Whether the span was extended."""
    lr_start: float
    lr_end: float
    batch_size: int
    steps: int
    warmup_lr: float
    warmup_batch: int
    warmup_steps: int


@dataclass(frozen=True, slots=True)
class BatchRange(_Fields):
    """A range run of the batch size."""

    lr_min: float
    lr_max: float
    lr_batch: int
    """The batch size at which the rates were found."""
    batch_start: int
    batch_end: int
    samples: int
    """Number of samples to train on, in growing batches."""
    steps: int
    warmup_lr: float
    warmup_batch: int
    warmup_steps: int


@dataclass(frozen=True, slots=True)
class BatchChoice(_Fields):
    """One cycle at each of some batch sizes."""

    lr_min: float
    lr_max: float
    lr_batch: int
    """The batch size at which the rates were found."""
    sizes: Sequence[int]
    inits: int
    """Replicas per batch size."""
    cycle_epochs: int
    range_diverged: bool
    """Whether a run of the batch range diverged."""
    steps: int


# -- steps ----------------------------------------------------------------------------------------

Stage: TypeAlias = (
    Check
    | Describe
    | ChooseMode
    | ChooseModes
    | LadderRound
    | OptionRound
    | LrRange
    | BatchRange
    | BatchChoice
    | Trials
)
"""The settings of a replica."""

_KINDS: Mapping[str, type[Stage]] = {
    CHECK: Check,
    DESCRIBE: Describe,
    LR_RANGE: LrRange,
    BATCH_RANGE: BatchRange,
    BATCH_CHOICE: BatchChoice,
    LR_RESCAN: LrRange,
    LADDER: LadderRound,
    **dict.fromkeys(OPTIONS, OptionRound),
    TRIAL: Trials,
}


def read(stage: str, payload: Payload) -> Stage:
    """Read the payload of a stage, given by its name with its attempt.

    Raises:
        KeyError: there is no such stage, or a key is missing that every release stored.
    """
    base, _ = split_stage(stage)
    if base == CHOOSE_MODE:
        return ChooseMode.read(payload) if "trial" in payload else ChooseModes.read(payload)
    return _KINDS[base].read(payload)


def step_of(stage: str, replicas: int, told: Stage) -> Step:
    """A step of `replicas` replicas, given the stage's name with its attempt."""
    return Step.of(Running(stage, replicas, told.payload()))


def tuned(told: Trials) -> Step:
    """The step that ends tuning."""
    first = told.first
    found = TunedSettings(first.lr_start, first.lr_end, first.batch_size, **first.options or {})
    return Step.of(Tuned(found, told.payload()))
