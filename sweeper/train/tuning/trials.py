"""Settings and execution modes of trials, with their stored form.

`sweeper.train.tuning.stages` describes what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, TypeAlias

from sweeper.records import EAGER, Outcome, Step

Payload: TypeAlias = Mapping[str, Any]
"""Plain data: a replica's settings as they are stored."""


def stored_as(name: str, **options: Any) -> Any:
    """A field that is stored under another name, that of earlier releases."""
    return field(metadata={"stored": name}, **options)


def key_of(one: Field[Any]) -> str:
    """The key under which a field is stored."""
    return str(one.metadata.get("stored", one.name))


def read_fields(kind: Any, payload: Payload) -> dict[str, Any]:
    """The value of each field in a payload, or the field's default."""
    return {
        one.name: payload[key_of(one)]
        if one.default is MISSING
        else payload.get(key_of(one), one.default)
        for one in fields(kind)
    }


def present_fields(stage: Any) -> dict[str, Any]:
    """The fields of a stage that are not None, by their stored keys."""
    values = {key_of(one): getattr(stage, one.name) for one in fields(stage)}
    return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """How trials are trained, and why; all None if no mode was chosen."""

    kind: str | None = stored_as("way", default=None)
    """`EAGER`, `PACKED` or `COMPILED`."""
    because: str | None = None
    trace: str | None = stored_as("tape", default=None)
    """The digest of the trace that they share; empty if they are trained eagerly."""
    toolchain: str | None = None
    """The toolchain of their compiled step; empty if it is not compiled."""
    later: str | None = None
    """`COMPILED` if trials of this batch size are worth compiling, but not its probes."""

    @property
    def is_packed(self) -> bool:
        """Whether they are trained in packs."""
        return self.kind not in (None, EAGER)

    @classmethod
    def read(cls, payload: Payload) -> ExecutionMode:
        """Read it from a payload, which may have other keys, too."""
        return cls(**read_fields(cls, payload))

    def payload(self) -> dict[str, str]:
        """As it is stored."""
        return present_fields(self)


NO_MODE = ExecutionMode()


@dataclass(frozen=True, slots=True)
class Trial:
    """The settings of a trial."""

    lr_start: float
    """The lowest learning rate after any warm-up."""
    lr_end: float
    """The highest."""
    batch_size: int
    cycle_epochs: int
    """Epochs of one cycle of the learning rate."""
    cycles: int
    steps: int
    """Steps of all cycles."""
    schedule: str | None = None
    """None, as range tests leave it, means triangular."""
    warmup: float | None = None
    """The share of steps in which the rate first rises to the schedule's.  None: no warm-up."""
    for_probes: bool | None = None
    """Whether only probes are known to have this batch size; stored while modes are chosen."""
    expected: float | None = None
    """The held-out loss that the probes of these settings reached; infinite, stored as null, if
    all had diverged.  None: tuned by range tests, which do not give it."""
    options: Mapping[str, float] | None = None
    """The options of the optimizer that were tuned.  None: none were."""
    mode: ExecutionMode = NO_MODE
    own_cycles: int | None = None
    """With a budget: the cycles of a trial without one.  Never stored."""

    @property
    def cycle_steps(self) -> int:
        """Steps of one cycle."""
        return self.steps // self.cycles

    @property
    def own_steps(self) -> int:
        """Steps of a trial without a budget."""
        return self.steps if self.own_cycles is None else self.cycle_steps * self.own_cycles

    @property
    def goes_on(self) -> bool:
        """Whether a trial with a larger budget begins with the same steps as this one.

        It does if its rates repeat from cycle to cycle; other schedules span the whole trial.
        """
        repeats = self.schedule in (None, "triangular", "constant") and not self.warmup
        return self.own_cycles is not None and repeats

    def with_budget(self, cycles: int) -> Trial:
        """These settings for a trial of so many cycles."""
        own = self.own_cycles or self.cycles
        return replace(self, cycles=cycles, steps=self.cycle_steps * cycles, own_cycles=own)

    @classmethod
    def read(cls, payload: Payload) -> Trial:
        """Read it from a payload, which may have other keys, too.

        Raises:
            KeyError: a key is missing that every release stored.
        """
        values = read_fields(cls, payload)
        if "expected" in payload and values["expected"] is None:
            values["expected"] = math.inf
        return cls(**{**values, "mode": ExecutionMode.read(payload)})

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        found = present_fields(self)
        if self.expected == math.inf:
            found["expected"] = None
        mode: ExecutionMode = found.pop("mode")
        return found | mode.payload()


@dataclass(frozen=True, slots=True)
class Trials:
    """The settings of a point's trials."""

    first: Trial
    """Settings of the first tuning; in a job, of the tunings whose trials it trains."""
    tunings: tuple[Trial, ...] = ()
    """Settings of each tuning of the ladder."""
    constant: float | None = None
    """The loss of the best constant prediction.  None: tuned by range tests."""

    def of(self, number: int) -> Trial:
        """The settings of trial `number`: those of its tuning."""
        return self.tunings[number % len(self.tunings)] if self.tunings else self.first

    def with_budget(self, cycles: int) -> Trials:
        """These settings for trials of so many cycles."""
        tunings = tuple(one.with_budget(cycles) for one in self.tunings)
        return replace(self, first=self.first.with_budget(cycles), tunings=tunings)

    @classmethod
    def read(cls, payload: Payload) -> Trials:
        """From what is stored.

        Raises:
            KeyError: a key is not there that every release stored.
        """
        tunings = tuple(map(Trial.read, payload.get("tunings", ())))
        return cls(Trial.read(payload), tunings, payload.get("constant"))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        found = self.first.payload()
        if self.tunings:
            found["tunings"] = [trial.payload() for trial in self.tunings]
        return found if self.constant is None else {**found, "constant": self.constant}


def steps_of(step: Step, budget: int | None = None) -> float:
    """Training steps of a replica of the step; NaN if nothing is trained."""
    steps = float(step.payload.get("steps", math.nan))
    return steps if budget is None else steps * budget / step.payload["cycles"]


def in_packs(step: Step) -> bool:
    """Whether some replicas of the step are trained in packs."""
    payload = step.payload
    told = [payload, *payload.get("tunings", ()), *payload.get("ways", {}).values()]
    return any(ExecutionMode.read(one).is_packed for one in told)


def chosen_mode(outcome: Outcome) -> ExecutionMode:
    """The mode that a replica has chosen; if choosing failed, the mode is eager."""
    if outcome.failure is not None:
        return ExecutionMode(EAGER, f"choosing failed: {outcome.failure.message}")
    return ExecutionMode.read(outcome.info)


def toolchains_of(payload: Payload) -> set[str]:
    """The toolchains of the compiled steps that a stored step has chosen."""
    told = payload.get("tunings", [payload])
    return {ExecutionMode.read(one).toolchain or "" for one in told} - {""}


def read_modes(payload: Mapping[str, Mapping[str, str]]) -> dict[int, ExecutionMode]:
    """Read stored execution modes by batch size."""
    return {int(size): ExecutionMode.read(texts) for size, texts in payload.items()}


def write_modes(modes: Mapping[int, ExecutionMode]) -> dict[str, dict[str, str]]:
    """The stored form of execution modes."""
    return {str(size): mode.payload() for size, mode in modes.items()}
