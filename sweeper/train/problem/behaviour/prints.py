"""Stored fingerprints, and when two of them agree; without torch."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
from dataclasses import dataclass

from sweeper.train.native.toolchain import processor

NEARNESS = 1e-4
"""Relative difference of losses that another machine or torch explains."""

MAKER = 1
"""Version of fingerprints: raised when a change makes them differ from earlier ones."""


@dataclass(frozen=True, slots=True)
class Print:
    """A point's behaviour under one state of the code."""

    maker: int
    said: str
    """The problem's settings: accuracy style and optimiser."""
    trace: str
    """Digests of the traces of a step and an evaluation; empty if they cannot be recorded."""
    exact: str
    """Digest of all bits."""
    rough: tuple[float, ...]
    """The size of the weights, and the losses."""
    torch: str = dataclasses.field(default_factory=lambda: importlib.metadata.version("torch"))
    processor: str = dataclasses.field(default_factory=processor)

    def agrees(self, other: Print) -> bool:
        """Whether both describe the same behaviour.

        Bits are compared if torch and processor are the same, else numbers within a tolerance.
        """
        if (self.maker, self.said) != (other.maker, other.said):
            return False
        if (self.torch, self.processor) == (other.torch, other.processor):
            return (self.trace, self.exact) == (other.trace, other.exact)
        return len(self.rough) == len(other.rough) and all(map(_is_near, self.rough, other.rough))

    def text(self) -> str:
        """The stored text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> Print:
        """Read what `text` wrote.

        Raises:
            ValueError: it is no fingerprint.
        """
        try:
            fields = json.loads(text)
            rough = tuple(map(float, fields.pop("rough")))
            return cls(**fields, rough=rough)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{text!r:.80} is not a fingerprint") from error


def _is_near(one: float, other: float) -> bool:
    both_nan = math.isnan(one) and math.isnan(other)
    return both_nan or math.isclose(one, other, rel_tol=NEARNESS, abs_tol=1e-12)
