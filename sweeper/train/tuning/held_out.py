"""The held-out training samples that a probe is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from sweeper.train.data.samples import Data
    from sweeper.train.replica.streams import Streams

FOLDS = 5
"""One in so many samples is held out."""

STRATIFIED = 10_000
"""Largest set whose held-out samples are stratified by label.  In larger sets a random fifth is
nearly in proportion, and data that is loaded as it goes would have to be read whole."""


def split(
    samples: int,
    labels: NDArray[Any] | None,
    generator: np.random.Generator,
    held: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and held-out indices, each sorted; a fifth is held out, or `held`.

    `labels`, shape (samples,), are class indices or numbers; None if there is not one number per
    sample.  Samples are sorted by label, and one of every five neighbours is held out, so that
    classes, and small and large targets, are held out in proportion.  The number of held-out
    samples depends on `samples` and `held` alone.
    """
    if samples < 2:
        return np.arange(samples), np.arange(samples)
    order = generator.permutation(samples)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    if held is None:
        held = max(1, samples // FOLDS)
    # Groups of neighbours of nearly equal size, one sample of each.
    edges = np.linspace(0, samples, held + 1).astype(np.int64)
    chosen = edges[:-1] + (generator.random(held) * np.diff(edges)).astype(np.int64)
    is_held = np.zeros(samples, dtype=bool)
    is_held[order[chosen]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def held_out(data: Data, streams: Streams) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The training samples that a probe trains on, and those that judge it."""
    samples = len(data.train)
    labels = data.train.read_labels() if samples <= STRATIFIED else None
    return split(samples, single_labels(labels), streams.generator("evaluation"))


def single_labels(labels: Tensor | None) -> NDArray[Any] | None:
    """The label of each sample, shape (samples,); None if there is not one number per sample."""
    if labels is None or labels.numel() != len(labels):
        return None
    found: NDArray[Any] = labels.reshape(-1).numpy()
    return found
