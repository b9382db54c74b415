"""The generators of random numbers that objectives draw from: seeded, saved and restored.

They are the global ones of Python, of numpy and, where it is imported, of torch on the CPU.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
from numpy import random as numpy_random  # numpy imports it late: here, it is before a fork


def seed_random(seed: int, *, with_torch: bool) -> None:
    """Seed them all; torch's where it is imported, and `with_torch` if it is not yet."""
    random.seed(seed)
    numpy_random.seed(seed)  # noqa: NPY002 - what objectives draw from
    if with_torch or "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)


def read_random() -> dict[str, Any]:
    """Their states, as plain data for JSON, which keeps every bit."""
    kind, keys, *rest = numpy_random.get_state()  # noqa: NPY002 - as above
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
    }
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_rng_state().numpy().tobytes().hex()
    return found


def restore_random(states: dict[str, Any]) -> None:
    """Set them to states that `read_random` gave."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    numpy_random.set_state(tuple(states["numpy"]))  # noqa: NPY002 - as above
    if "torch" in states:
        import torch

        state = np.frombuffer(bytes.fromhex(states["torch"]), dtype=np.uint8)
        torch.set_rng_state(torch.from_numpy(state.copy()))
