"""A trace's digest, which folders keep."""

import torch

from sweeper.train.vectorize.trace import Operation, Trace, Value

STORED = "0d45eca3d83179df9e70602773f4a16df2551ae757faaf1d84663e3aac06ac1d"
"""Of the trace below, from a release in which classes and fields had the names that it writes."""


def test_a_digest_is_what_earlier_releases_stored():
    options = (("alpha", 1), ("dtype", torch.float32), ("size", (3,)))
    arguments = (Value(0), (Value(1), 2, -0.5), "text", None, True)
    operations = (
        Operation("aten.addmm.default", arguments, options, (4, -1), True),
        Operation("aten.native_dropout.default", (Value(3), 0, Value(4)), (), (5,), False),
    )
    assert Trace(4, 1, operations, (5,), 60, 7).digest == STORED
    assert Trace(4, 1, operations, (5,), 60, 8).digest != STORED
