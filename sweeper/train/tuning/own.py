"""What a point has of its own by its parameters, beside its model; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.records import Outcome, Step
from sweeper.train.tuning.trials import present_fields

CONSTANT = "constant"
"""The metric of a probe, or of `describe`, that is the loss of the best constant prediction."""

_KEY = "own"
"""Key of a step's payload, beside those of its stage."""


@dataclass(frozen=True, slots=True)
class Own:
    """What `describe` found of a point; None: as for every point."""

    optimizer: str | None = None
    """The name of its optimiser."""
    constant: float | None = None
    """The loss of the best constant prediction, if no probe measures it."""

    @classmethod
    def found(cls, outcome: Outcome) -> Own:
        """From the outcome of `describe`."""
        return cls(outcome.info.get("optimizer"), outcome.metrics.get(CONSTANT))

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Own:
        """From the payload of a step or a job."""
        return cls(**payload.get(_KEY, {}))

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        return present_fields(self)

    def carried_by(self, step: Step) -> Step:
        """The step with this in its payload: every later step needs it."""
        stored = self.payload()
        if not stored or step.error is not None:
            return step
        return replace(step, payload={**step.payload, _KEY: stored})
