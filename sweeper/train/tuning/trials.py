"""The settings of trials, and how these are trained: as plans and workers see them, and as stored.

See `sweeper.train.tuning.stages` for what is stored, and how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeAlias

PLAIN, FLAT, COMPILED = "plain", "flat", "compiled"
"""The ways in which a point's trials are trained: one by one, in packs, or in packs by a step that
was compiled."""

Payload: TypeAlias = Mapping[str, Any]
"""Plain data: what a replica is told, as it is stored."""


def read_fields(kind: Any, payload: Payload) -> dict[str, Any]:
    """What a payload says of each field; the field's default where it says nothing."""
    return {
        one.name: payload[one.name]
        if one.default is MISSING
        else payload.get(one.name, one.default)
        for one in fields(kind)
    }


def present_fields(stage: Any) -> dict[str, Any]:
    """The fields of a stage that are not None."""
    values = {one.name: getattr(stage, one.name) for one in fields(stage)}
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Way:
    """How trials are trained; empty where nobody wanted to know."""

    kind: str | None = None
    """`PLAIN`, `FLAT` or `COMPILED`; stored as `way`."""
    because: str | None = None
    tape: str | None = None
    """The digest of the step of all of them; empty where they are plain."""
    toolchain: str | None = None
    """What their step was compiled by; empty where it was not."""
    later: str | None = None
    """`COMPILED` where trials are worth compiling, and probes of this batch size are not."""

    @property
    def is_packed(self) -> bool:
        """Whether they are trained in packs."""
        return self.kind not in (None, PLAIN)

    @classmethod
    def read(cls, payload: Payload) -> Way:
        """From what is stored: some texts, maybe among other things."""
        names = ("way", "because", "tape", "toolchain", "later")
        return cls(*(payload.get(name) for name in names))

    def payload(self) -> dict[str, str]:
        """As it is stored."""
        found = present_fields(self)
        kind = {"way": found.pop("kind")} if "kind" in found else {}
        return kind | found


NO_WAY = Way()


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
    way: Way = NO_WAY

    @classmethod
    def read(cls, payload: Payload) -> Trial:
        """From what is stored, maybe among other things.

        Raises:
            KeyError: a key is not there that every release stored.
        """
        values = read_fields(cls, payload)
        if "expected" in payload and values["expected"] is None:
            values["expected"] = math.inf
        return cls(**{**values, "way": Way.read(payload)})

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        found = present_fields(self)
        if self.expected == math.inf:
            found["expected"] = None
        way: Way = found.pop("way")
        return found | way.payload()


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


def read_ways(payload: Mapping[str, Mapping[str, str]]) -> dict[int, Way]:
    """Ways by batch size, from what is stored."""
    return {int(size): Way.read(texts) for size, texts in payload.items()}


def write_ways(ways: Mapping[int, Way]) -> dict[str, dict[str, str]]:
    """As they are stored."""
    return {str(size): way.payload() for size, way in ways.items()}
