"""Whether a step is worth compiling: a rule over the model and the length of a trial alone.

Modes differ by rounding, so no timing, number of cores or number of trials may decide.  The
constants were measured, see `benchmarks/packing.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeper.train.vectorize.trace import Trace

COMPILING = 10.0
"""Core-seconds to compile a step: three to import torch and its compiler, three in that, four in
the C++ compiler."""

TRIALS = 30
"""Trials per point that are assumed."""

LEAST_SPEEDUP = 2.0
"""Compiling must save so many times its cost: half of those trials pay for it, and later sweeps
have it free."""

SAVED_PACKED, SAVED_NUMBER = 0.5e-6, 0.9e-9
"""Seconds that compiling saves per step of a replica that would else be packed.  Per operation
(2-128-4 and 64-32-10, 30 each: 80 and 61 µs in packs of eight, 37 and 28 in packs of 32, 34 and 16
compiled), and per number computed, which goes to memory and back (a transformer block without and
with dropout, 1.05 and 1.49 million: 2180 and 2790 µs in packs, 1260 and 1320 compiled)."""

SAVED_EAGER, SAVED_UPDATE = 9e-6, 1.2e-9
"""The same for a replica that would else be trained eagerly: per operation, and per trained number
(784-128-10: 599 µs eager, 215 to 290 compiled)."""

Worth = Callable[[Trace, int, bool, int], bool]
"""From the trace, the count of trained numbers, whether the point would else be trained eagerly,
and the steps of a trial."""


def is_worth_compiling(trace: Trace, numbers: int, eager: bool, steps: int) -> bool:
    """Whether compiling saves clearly more than it costs.

    Convolutions gain nothing: their time is spent in libraries in every mode.
    """
    if any(operation.name.startswith("aten.convolution") for operation in trace.operations):
        return False
    operations = len(trace.operations)
    if eager:
        each = SAVED_EAGER * operations + SAVED_UPDATE * numbers
    else:
        each = SAVED_PACKED * operations + SAVED_NUMBER * trace.numbers
    return each * steps * TRIALS > LEAST_SPEEDUP * COMPILING
