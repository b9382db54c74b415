"""Batching rules: torch's operations for stacked replicas, one file per subject.

A replica's bits must depend neither on the number of replicas (two or more) nor on its place among
them: `tests/test_batched.py` checks every rule for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sweeper.train.vectorize.random import RANDOM_RULES
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
    **RANDOM_RULES,
}
"""By operation: its implementation for stacked replicas."""
