"""Which training samples a probe is judged by: it does not train on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from sweeper.train.data.samples import Data
    from sweeper.train.streams import Streams

FOLDS = 5
"""One of so many samples is held out."""

STRATIFIED = 10_000
"""The most samples that are held out by label.  Of more, a random fifth is nearly in proportion,
and where data is loaded as it goes, all of it would have to be read."""


def split(
    samples: int,
    labels: NDArray[Any] | None,
    generator: np.random.Generator,
    held: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and indices held out, each sorted; a fifth is held out, or `held`.

    Of `samples` training samples with `labels`, shape (samples,): class indices or numbers; None
    where there is no one number a sample.  Samples are sorted by label, and one of each five
    neighbours is held out: so classes, and small and large targets, are held out in proportion.
    How many are held out depends on `samples` and `held` alone.
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
    """The training samples that a probe trains on, and those that it is judged by."""
    samples = len(data.train)
    labels = data.train.read_labels() if samples <= STRATIFIED else None
    return split(samples, single_labels(labels), streams.generator("evaluation"))


def single_labels(labels: Tensor | None) -> NDArray[Any] | None:
    """The label of each sample, shape (samples,); None where there is no one number a sample."""
    if labels is None or labels.numel() != len(labels):
        return None
    found: NDArray[Any] = labels.reshape(-1).numpy()
    return found
