"""A fingerprint as it is kept, and when two are of the same behaviour; without torch."""

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
"""What makes fingerprints: raised where they come out otherwise than those of before."""


@dataclass(frozen=True, slots=True)
class Print:
    """How a point behaves under some code."""

    maker: int
    said: str
    """What the problem says of it: accuracy style and optimiser."""
    trace: str
    """Digests of what a step and an evaluation compute; empty for what cannot be recorded."""
    exact: str
    """Digest of all bits."""
    rough: tuple[float, ...]
    """The size of the weights, and losses."""
    torch: str = dataclasses.field(default_factory=lambda: importlib.metadata.version("torch"))
    processor: str = dataclasses.field(default_factory=processor)

    def agrees(self, other: Print) -> bool:
        """Whether both are of the same behaviour.

        Bits are compared where torch and processor are the same, else numbers, roughly.
        """
        if (self.maker, self.said) != (other.maker, other.said):
            return False
        if (self.torch, self.processor) == (other.torch, other.processor):
            return (self.trace, self.exact) == (other.trace, other.exact)
        return len(self.rough) == len(other.rough) and all(map(_is_near, self.rough, other.rough))

    def text(self) -> str:
        """As a folder keeps it."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def read(cls, text: str) -> Print:
        """What `text` wrote.

        Raises:
            ValueError: it is something else.
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
