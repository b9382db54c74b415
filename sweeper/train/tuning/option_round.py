"""The stage that tunes an option of the optimizer: what is stored of it, and its probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sweeper.records import COMPILED, PACKED
from sweeper.train.tuning.ladder import STREAMS, Probe
from sweeper.train.tuning.trials import (
    NO_MODE,
    ExecutionMode,
    Payload,
    Trial,
    read_fields,
    read_modes,
    stored_as,
    write_modes,
)


def options_key(options: Mapping[str, float] | None) -> tuple[tuple[str, float], ...]:
    """Options of an optimizer as a key; it is the same for the same options."""
    return tuple(sorted((options or {}).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRound:
    """A round of probes, of the same values of one option for all tunings of a point."""

    option: str
    values: tuple[float, ...]
    """The values to try, the optimizer's own first."""
    rates: tuple[tuple[float, ...], ...]
    """For each tuning the peak rate at each value."""
    tunings: tuple[Trial, ...]
    """The settings that each tuning has found so far, without modes."""
    constant: float | None
    """The loss of the best constant prediction."""
    modes: Mapping[int, ExecutionMode] = stored_as("ways")
    """Of trials with the optimizer's own options, by batch size."""
    inits: int
    """Number of probes per value."""
    lengths: Mapping[int, int]
    """Steps of a probe, by batch size."""
    cycles: int
    steps: int
    """Steps of the longest probe."""

    @classmethod
    def read(cls, payload: Payload) -> OptionRound:
        """From what is stored.

        Raises:
            KeyError: a key is not there that every release stored.
        """
        values = read_fields(cls, payload)
        values["values"] = tuple(payload["values"])
        values["rates"] = tuple(map(tuple, payload["rates"]))
        values["tunings"] = tuple(map(Trial.read, payload["tunings"]))
        values["modes"] = read_modes(payload["ways"])
        values["lengths"] = {int(size): steps for size, steps in payload["lengths"].items()}
        return cls(**values)

    def payload(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "option": self.option,
            "values": list(self.values),
            "rates": [list(some) for some in self.rates],
            "tunings": [trial.payload() for trial in self.tunings],
            "constant": self.constant,
            "ways": write_modes(self.modes),
            "inits": self.inits,
            "lengths": {str(size): steps for size, steps in self.lengths.items()},
            "cycles": self.cycles,
            "steps": self.steps,
        }

    def mode_of(self, probe: Probe) -> ExecutionMode:
        """How a probe is trained: packed rather than compiled, which no other value would use."""
        mode = self.modes.get(probe.batch_size, NO_MODE)
        return replace(mode, kind=PACKED) if mode.kind == COMPILED else mode

    def probes(self) -> list[Probe]:
        """Its probes, in order of number: tuning by tuning, value by value."""
        return [
            self._probe(number, *place)
            for number, place in enumerate(
                (tuning, value, init)
                for tuning in range(len(self.tunings))
                for value in range(len(self.values))
                for init in range(self.inits)
            )
        ]

    def _probe(self, number: int, tuning: int, value: int, init: int) -> Probe:
        trial = self.tunings[tuning]
        return Probe(
            number=number,
            stream=tuning * STREAMS + init,
            high=self.rates[tuning][value],
            batch_size=trial.batch_size,
            steps=self.lengths[trial.batch_size],
            cycles=self.cycles,
            schedule=trial.schedule or "triangular",
            warmup=trial.warmup or 0.0,
            options={**(trial.options or {}), self.option: self.values[value]},
        )
