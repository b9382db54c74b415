"""The settings of a tuned point's trials, as folders store them: the store's reader of their keys.

`sweeper.train.tuning.trials` writes them; another kind of workload may store none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.records import TunedSettings
from sweeper.settings import OPTIONS


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """What is stored of a point's trials; of a point that is not tuned, nothing."""

    cycles: int | None = None
    cycle_epochs: int | None = None
    mode: str | None = None
    """The execution mode: `EAGER`, `PACKED` or `COMPILED`; None: none was chosen."""
    because: str = ""
    """Why this mode."""
    tunings: tuple[TunedSettings, ...] = ()
    """The settings that each tuning found; empty: there was one, or a range test."""
    expected: tuple[float, ...] = ()
    """The losses that the probes of the tunings reached, where they are known and finite."""
    constant: float | None = None
    """The training loss of the best constant prediction, where it is known."""
    untuned: bool = False
    """Whether learning rate and batch size were given."""

    @property
    def epochs(self) -> int:
        """Epochs of a trial without a budget.

        Raises:
            LookupError: they are not stored, as no sweep leaves them out of a tuned step.
        """
        if self.cycles is None or self.cycle_epochs is None:
            raise LookupError("a tuned step without cycles or cycle_epochs")
        return self.cycles * self.cycle_epochs

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> TrialSettings:
        """Read the payload of a tuned step; an empty one if the point is not tuned."""
        tunings = payload.get("tunings", ())
        expected = [one.get("expected") for one in tunings]
        return cls(
            cycles=payload.get("cycles"),
            cycle_epochs=payload.get("cycle_epochs"),
            mode=payload.get("way"),
            because=payload.get("because", ""),
            tunings=tuple(map(_found, tunings)),
            expected=tuple(loss for loss in expected if loss is not None),
            constant=payload.get("constant"),
            untuned="constant" in payload.get("own", {}),
        )


def _found(tuning: Mapping[str, Any]) -> TunedSettings:
    """What a tuning found, from its trials' settings."""
    tuned = tuning.get("options", {})
    options = {name: tuned[name] for name in OPTIONS if name in tuned}
    return TunedSettings(tuning["lr_start"], tuning["lr_end"], tuning["batch_size"], **options)
