"""What a point has of its own by its parameters, beside its model; without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sweeper.records import Outcome, Step
from sweeper.train.tuning.trials import present_fields

CONSTANT = "constant"
"""The metric of a probe, or of `describe`, that is the loss of the best constant prediction."""

_KEY = "own"
"""Key of a step's payload, beside those of its stage."""


@dataclass(frozen=True, slots=True)
class OwnData:
    """The data of a point with parameters for `dataset()`."""

    n_train: int
    """Samples to train on."""
    sha256: str
    held: bool
    """Whether a worker holds it in memory; else it is loaded as it goes."""
    remade: bool
    """Whether it is random on access: then it is made anew for each replica."""

    def text(self) -> str:
        """As an outcome of `describe` has it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Own:
    """What `describe` found of a point; None: as for every point."""

    optimizer: str | None = None
    """The name of its optimiser."""
    constant: float | None = None
    """The loss of the best constant prediction, if no probe measures it."""
    data: OwnData | None = None
    """Its data."""
    options: Mapping[str, Sequence[float]] | None = None
    """The values to try of each option of its optimiser that is tuned; its own is first."""

    @classmethod
    def found(cls, outcome: Outcome) -> Own:
        """From the outcome of `describe`."""
        info = outcome.info
        data = OwnData(**json.loads(info["data"])) if "data" in info else None
        options = json.loads(info["options"]) if "options" in info else None
        return cls(info.get("optimizer"), outcome.metrics.get(CONSTANT), data, options)

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Own:
        """From the payload of a step or a job."""
        stored = payload.get(_KEY, {})
        data = OwnData(**stored["data"]) if "data" in stored else None
        return cls(stored.get("optimizer"), stored.get(CONSTANT), data, stored.get("options"))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        found = present_fields(self)
        return found if self.data is None else {**found, "data": asdict(self.data)}

    def carried_by(self, step: Step) -> Step:
        """The step with this in its payload: every later step needs it."""
        stored = self.payload()
        if not stored or step.error is not None:
            return step
        return replace(step, payload={**step.payload, _KEY: stored})
