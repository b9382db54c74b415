"""A problem's samples: held as tensors that all workers share, or loaded as it goes.

Where both are possible, they give bit-identical batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from sweeper.train.data.splits import Splits
from sweeper.train.problem.measure.metrics import EVALUATION_BATCH
from sweeper.train.replica.streams import fork_rng

Indices = NDArray[np.int64]
Batch = tuple[Any, Any]


class SampleSet(Protocol):
    """Samples by index."""

    @property
    def labels(self) -> Tensor | None:
        """All of y, if it is held."""

    def read_labels(self) -> Tensor | None:
        """All of y, read if it is not held; None if it is not made of tensors."""

    def __len__(self) -> int: ...

    def batches(self, indices: Iterable[Indices]) -> Iterator[Batch]:
        """The batches (x, y) of these index arrays, one after the other."""


@dataclass(frozen=True, slots=True)
class HeldSet:
    """Samples held as tensors; the first dimension counts them."""

    x: Tensor
    y: Tensor

    @property
    def labels(self) -> Tensor:
        """See `SampleSet`."""
        return self.y

    def read_labels(self) -> Tensor:
        """See `SampleSet`."""
        return self.y

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, indices: Iterable[Indices]) -> Iterator[Batch]:
        """See `SampleSet`."""
        for chosen in indices:
            place = torch.from_numpy(chosen)
            yield self.x[place], self.y[place]


@dataclass(frozen=True, slots=True)
class LoadedSet:
    """Samples read from the dataset each time."""

    dataset: Any
    name: str = "a set"
    known: list[Tensor | None] = field(default_factory=list, compare=False, repr=False)
    """The result of `read_labels`, once it was read."""

    @property
    def labels(self) -> None:
        """See `SampleSet`."""

    def read_labels(self) -> Tensor | None:
        """See `SampleSet`."""
        if not self.known:
            with fork_rng():
                parts = [y for _, y in self.batches(in_order(len(self)))]
            whole = all(isinstance(part, Tensor) for part in parts)
            self.known.append(torch.cat(parts) if whole else None)
        return self.known[0]

    def __len__(self) -> int:
        return len(self.dataset)

    def batches(self, indices: Iterable[Indices]) -> Iterator[Batch]:
        """See `SampleSet`."""
        places = [chosen.tolist() for chosen in indices]
        # A generator of its own: the loader must not draw from the model's stream.
        loader = DataLoader(
            self.dataset,
            batch_sampler=places,
            num_workers=0,
            generator=torch.Generator(),
        )
        read = 0
        try:
            for batch in loader:
                read += 1
                yield batch
        except Exception as error:
            self._note(error, places[read])
            raise

    def _note(self, error: Exception, places: list[int]) -> None:
        """Add a note with the sample that could not be read, if one of these fails again."""
        for place in places:
            try:
                self.dataset[place]
            except Exception:  # noqa: BLE001 - the first error is raised
                error.add_note(f"{_READING}{self.name}[{place}]")
                return


@dataclass(frozen=True, slots=True, eq=False)
class PartSet:
    """Some samples of a set."""

    samples: SampleSet
    places: Indices

    @property
    def labels(self) -> Tensor | None:
        """See `SampleSet`."""
        labels = self.samples.labels
        return None if labels is None else labels[torch.from_numpy(self.places)]

    def read_labels(self) -> Tensor | None:
        """See `SampleSet`."""
        labels = self.samples.read_labels()
        return None if labels is None else labels[torch.from_numpy(self.places)]

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, indices: Iterable[Indices]) -> Iterator[Batch]:
        """See `SampleSet`."""
        return self.samples.batches([self.places[chosen] for chosen in indices])


def placed(part: SampleSet, chosen: Indices) -> Indices:
    """The indices of a set's samples in the whole set that it may be a part of."""
    return part.places[chosen] if isinstance(part, PartSet) else chosen


@dataclass(frozen=True, slots=True)
class Data:
    """The sets of a problem."""

    train: SampleSet
    val: SampleSet
    test: SampleSet | None = None
    """Trials are measured on it at their end; nothing is chosen by it."""
    splits: Splits | None = None
    """How each trial splits the samples: then `train` and `val` are both the whole set."""

    def of_trial(self, number: int) -> Data:
        """The sets of the trial with this number."""
        if self.splits is None:
            return self
        kept, held = self.splits.of_trial(number)
        return Data(PartSet(self.train, kept), PartSet(self.train, held), self.test)

    @property
    def sets(self) -> dict[str, SampleSet]:
        """By name: the sets that a trial is measured on at its end."""
        two = {"train": self.train, "val": self.val}
        return two if self.test is None else {**two, "test": self.test}


def in_order(samples: int, batch: int = EVALUATION_BATCH) -> Iterator[Indices]:
    """Index arrays over all samples once, in order."""
    for start in range(0, samples, batch):
        yield np.arange(start, min(start + batch, samples))


def shuffled(samples: int, batch_size: int, generator: np.random.Generator) -> Indices:
    """One epoch's batches, shape (batches, batch).

    The last partial one is dropped, unless it is the only one.
    """
    count, size = max(1, samples // batch_size), min(samples, batch_size)
    return generator.permutation(samples)[: count * size].reshape(count, size)


def endless(
    samples: int, sizes: Iterable[int], generator: np.random.Generator
) -> Iterator[Indices]:
    """Index arrays of the given sizes, from one permutation after the other."""
    order = np.empty(0, dtype=np.int64)
    for size in sizes:
        while len(order) < size:
            order = np.concatenate([order, generator.permutation(samples)])
        yield order[:size]
        order = order[size:]


# -- reading it, once for all workers -------------------------------------------------------------


def _which(error: Exception) -> str:
    """The sample whose reading raised this error, if known."""
    notes = getattr(error, "__notes__", ())
    named = [note.removeprefix(_READING) for note in notes if note.startswith(_READING)]
    return named[-1] if named else "a sample"


_READING = "reading "


# -- sharing it -----------------------------------------------------------------------------------
