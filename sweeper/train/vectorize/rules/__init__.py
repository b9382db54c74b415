"""Rules: what torch's operations are for stacked replicas, one file a subject.

A rule may be here only where its bits for one replica depend neither on how many replicas there
are (two or more) nor on which place it has among them: `tests/test_batched.py` holds every rule to
that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sweeper.train.vectorize.random import DRAWS
from sweeper.train.vectorize.rules import (
    attention,
    convolutions,
    elementwise,
    functions,
    images,
    indexing,
    losses,
    norms,
    softmax,
    sums,
)
from sweeper.train.vectorize.rules import matmul as products
from sweeper.train.vectorize.rules import pooling as pools
from sweeper.train.vectorize.rules import views as looks

RULES: Mapping[str, Callable[..., Any]] = {
    **looks.RULES,
    **products.RULES,
    **elementwise.RULES,
    **functions.RULES,
    **sums.RULES,
    **norms.RULES,
    **softmax.RULES,
    **attention.RULES,
    **convolutions.RULES,
    **pools.RULES,
    **images.RULES,
    **indexing.RULES,
    **losses.RULES,
    **DRAWS,
}
"""By operation: what it is for stacked replicas."""
