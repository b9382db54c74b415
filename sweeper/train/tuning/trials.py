"""The settings of trials, and how these are trained: as plans and workers see them, and as stored.

See `sweeper.train.tuning.stages` for what is stored, and how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeAlias

EAGER, PACKED, COMPILED = "plain", "flat", "compiled"
"""How a point's trials are trained: one by one by torch itself, in packs, or in packs by a step
that was compiled.  The values are stored, and are what earlier releases called them."""

Payload: TypeAlias = Mapping[str, Any]
"""Plain data: what a replica is told, as it is stored."""


def stored_as(name: str, **options: Any) -> Any:
    """A field whose stored key has another name, which earlier releases gave it."""
    return field(metadata={"stored": name}, **options)


def key_of(one: Field[Any]) -> str:
    """The key under which a field is stored."""
    return str(one.metadata.get("stored", one.name))


def read_fields(kind: Any, payload: Payload) -> dict[str, Any]:
    """What a payload says of each field; the field's default where it says nothing."""
    return {
        one.name: payload[key_of(one)]
        if one.default is MISSING
        else payload.get(key_of(one), one.default)
        for one in fields(kind)
    }


def present_fields(stage: Any) -> dict[str, Any]:
    """The fields of a stage that are not None, by the key under which they are stored."""
    values = {key_of(one): getattr(stage, one.name) for one in fields(stage)}
    return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """How trials are trained; empty where nobody wanted to know."""

    kind: str | None = stored_as("way", default=None)
    """`EAGER`, `PACKED` or `COMPILED`."""
    because: str | None = None
    trace: str | None = stored_as("tape", default=None)
    """The digest of the step of all of them; empty where they are trained eagerly."""
    toolchain: str | None = None
    """What their step was compiled by; empty where it was not."""
    later: str | None = None
    """`COMPILED` where trials are worth compiling, and probes of this batch size are not."""

    @property
    def is_packed(self) -> bool:
        """Whether they are trained in packs."""
        return self.kind not in (None, EAGER)

    @classmethod
    def read(cls, payload: Payload) -> ExecutionMode:
        """From what is stored: some texts, maybe among other things."""
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
    """Of all cycles."""
    schedule: str | None = None
    """None, which range tests leave it: triangular."""
    warmup: float | None = None
    """The share of steps in which the rate rises to what the schedule says.  None: there is none.
    """
    for_probes: bool | None = None
    """Whether only probes are known to have this batch size; stored while ways are found out."""
    expected: float | None = None
    """The held-out loss that the probes of these settings reached; infinite, stored as null, where
    all had diverged.  None: range tests do not say."""
    mode: ExecutionMode = NO_MODE

    @classmethod
    def read(cls, payload: Payload) -> Trial:
        """From what is stored, maybe among other things.

        Raises:
            KeyError: a key is not there that every release stored.
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
    """Those of the first tuning; in a job, those of the tunings whose trials it trains."""
    tunings: tuple[Trial, ...] = ()
    """Those of each tuning of the ladder."""
    constant: float | None = None
    """The loss of the best constant prediction.  None: range tests do not say."""

    def of(self, number: int) -> Trial:
        """The settings of a trial: those of its tuning."""
        return self.tunings[number % len(self.tunings)] if self.tunings else self.first

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


def read_modes(payload: Mapping[str, Mapping[str, str]]) -> dict[int, ExecutionMode]:
    """Ways by batch size, from what is stored."""
    return {int(size): ExecutionMode.read(texts) for size, texts in payload.items()}


def write_modes(modes: Mapping[int, ExecutionMode]) -> dict[str, dict[str, str]]:
    """As they are stored."""
    return {str(size): mode.payload() for size, mode in modes.items()}
