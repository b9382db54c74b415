"""Whether a step is worth compiling: a rule over the model and the length of a trial alone.

It takes no timing, no number of cores and no number of trials, since the ways differ in their last
bits.  What it counts with was measured, see `benchmarks/packing.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeper.train.vectorize.trace import Trace

COMPILING = 10.0
"""Seconds of a core that compiling a step takes: three to import torch and its compiler, three in
it, four in the C++ compiler."""

TRIALS = 30
"""Of a point, as a sweep has them."""

LEAST_SPEEDUP = 2.0
"""So many times what it takes, compiling must save: half of those trials pay for it, and every
sweep after has it for nothing."""

SAVED_FLAT, SAVED_NUMBER = 0.5e-6, 0.9e-9
"""Seconds saved in a step of a replica that would be trained in a flat pack: for each operation
(2-128-4 and 64-32-10, 30 each: 80 and 61 µs in packs of eight, 37 and 28 in packs of 32, 34 and 16
compiled), and for each number computed, which goes to memory and back (a transformer's block, plain
and with dropout, 1.05 and 1.49 million: 2180 and 2790 µs in packs, 1260 and 1320 compiled)."""

SAVED_PLAIN, SAVED_UPDATE = 9e-6, 1.2e-9
"""The same where it would be trained plain: for each operation, and for each number that is trained
(784-128-10: 599 µs plain, 215 to 290 compiled)."""

Worth = Callable[[Trace, int, bool, int], bool]
"""From the tape, how many numbers are trained, whether it would be trained plain else, and the
steps of a trial."""


def is_worth_compiling(trace: Trace, numbers: int, plain: bool, steps: int) -> bool:
    """Whether compiling saves clearly more than it takes.

    Convolutions gain nothing: what they take is in libraries, whoever calls them.
    """
    if any(operation.name.startswith("aten.convolution") for operation in trace.operations):
        return False
    operations = len(trace.operations)
    if plain:
        each = SAVED_PLAIN * operations + SAVED_UPDATE * numbers
    else:
        each = SAVED_FLAT * operations + SAVED_NUMBER * trace.numbers
    return each * steps * TRIALS > LEAST_SPEEDUP * COMPILING
