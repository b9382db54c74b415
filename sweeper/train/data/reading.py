"""Reads what a problem's `dataset()` returns, and checks it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import default_collate

from sweeper.errors import ProblemError
from sweeper.records import KFold
from sweeper.train.data.checksum import Checksum, bytes_of, tensors_in
from sweeper.train.data.samples import (
    _READING,
    HeldSet,
    LoadedSet,
    SampleSet,
    _which,
    in_order,
)
from sweeper.train.data.splits import Rule, least_samples, sizes
from sweeper.train.problem.problem import Problem
from sweeper.train.problem.sets import SETS
from sweeper.train.replica.streams import dataset_seed, fork_rng, reading_seed, seed_globals
from sweeper.train.tuning.held_out import single_labels

HELD_SHARE = 0.25
"""Data is held in memory if it takes at most this share of the available memory."""


CHECKSUM_BYTES = 2**30
"""Data up to this size is checked whole.  It is not a share of memory, so that the same data has
the same checksum wherever and whenever it is read, held or not."""


CHECKSUM_SAMPLES = 1000
"""So many evenly spaced samples of each set are checked if the data is larger."""


_READ_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """The sets that `dataset()` returned, read and checked."""

    sets: tuple[Any, ...]
    rule: Rule | None
    """How one set is split; None if there are several sets."""
    held: list[Tensor]
    """x and y of each set; empty if they are not held."""
    reason: str
    """Why they are not held."""
    remade: bool
    """Whether samples may depend on what was read before."""
    checksum: Checksum
    labels: Tensor | None
    """The labels by which one set is stratified."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples to train on, to validate on, and of the test set if there is one."""
        sets = self.sets
        return tuple(map(len, sets)) if self.rule is None else sizes(self.rule, len(sets[0]))


def read_sets(problem: Problem, params: str, seed: int, budget: float | None = None) -> Reading:
    """Read the data of points with these encoded params.

    `budget` is the most bytes that may be held; by default a share of the available memory.

    Raises:
        ProblemError: the dataset cannot be made or read.
    """
    if budget is None:
        budget = HELD_SHARE * psutil.virtual_memory().available
    with fork_rng():
        sets = make_sets(problem, params, seed)
        try:
            expected = bytes_in(sets)
            held, reason = _hold(sets, seed, expected, budget)
            remade = not held and not _is_steady(sets, seed)
            if remade:
                check_made_anew(problem, params, seed)
            checked = _checked(problem, params, held, seed)
            found = checksum_of(checked, whole=expected <= CHECKSUM_BYTES)
            rule = read_rule(problem, params, sets)
            labels = None
            if rule is not None and expected <= CHECKSUM_BYTES:
                labels = read_labels(problem, params, held, seed)
        except ProblemError:
            raise
        except Exception as error:
            raise problem.fault(
                f"{_which(error)} of {problem.called('dataset', params)}",
                f"not readable: {type(error).__name__}: {error}",
                "items (x, y) that torch's default_collate can batch",
            ) from error
    return Reading(sets, rule, held, reason, remade, found, labels)


def read_rule(problem: Problem, params: str, sets: tuple[Any, ...]) -> Rule | None:
    """How one set is split; None if there are several sets.

    Raises:
        ProblemError: it cannot be split so.
    """
    if len(sets) > 1:
        given = getattr(problem.module, "validation", None)
        if isinstance(given, KFold):
            expected = "none, or one set from dataset(), which gives a validation set of its own"
            raise problem.fault("validation", str(given), expected)
        return None
    rule = problem.validation
    least = least_samples(rule)
    if len(sets[0]) < least:
        found = f"of {len(sets[0])} samples, and validation is {rule}"
        raise problem.fault(
            f"what {problem.called('dataset', params)} returns", found, f"at least {least} samples"
        )
    return rule


def read_labels(problem: Problem, params: str, held: list[Tensor], seed: int) -> Tensor | None:
    """The label of each sample of one set, held or not; None if y is not one number per sample."""
    if held:
        y = held[1]
    else:
        (samples,) = _checked(problem, params, held, seed)
        chunks = [y for _, y in samples.batches(in_order(len(samples), _READ_AT_ONCE))]
        if not all(isinstance(chunk, Tensor) for chunk in chunks):
            return None
        y = torch.cat(chunks)
    values = single_labels(y)
    return None if values is None else torch.from_numpy(values)


def _read_samples(dataset: Any, name: str, places: Iterable[int]) -> list[Any]:
    """Read the samples; an error gets a note that names the sample."""
    found = []
    for place in places:
        try:
            found.append(dataset[place])
        except Exception as error:
            error.add_note(f"{_READING}{name}[{place}]")
            raise
    return found


def _collate(samples: list[Any], name: str, places: Sequence[int]) -> Any:
    """The batch of the samples; if one is unlike the first, the error's note names it."""
    try:
        return default_collate(samples)
    except Exception as error:
        for place, sample in zip(places, samples, strict=True):
            try:
                default_collate([samples[0], sample])
            except Exception:  # noqa: BLE001 - whatever its types raise
                error.add_note(f"{_READING}{name}[{place}]")
                break
        raise


def make_sets(problem: Problem, params: str, seed: int) -> tuple[Any, ...]:
    """The sets of points with these encoded params, made under the sweep's seed.

    Raises:
        ProblemError: `dataset` raises, or returns something else.
    """
    seed_globals(dataset_seed(seed))
    try:
        return problem.make_dataset(params)
    except ProblemError:
        raise
    except Exception as error:
        raise problem.fault(
            problem.called("dataset", params),
            f"an error: {type(error).__name__}: {error}",
            "(train_set, val_set)",
        ) from error


def _hold(
    sets: tuple[Any, ...], seed: int, expected: int, budget: float
) -> tuple[list[Tensor], str]:
    """The tensors of all sets, or an empty list and the reason."""
    if expected > budget:
        return [], (f"it takes {expected / 2**20:.0f} MiB and {budget / 2**20:.0f} MiB may be held")
    first, second = (read_all(sets, seed, reading) for reading in (1, 2))
    if not all(isinstance(part, Tensor) for part in first):
        return [], "its x or y is not a tensor"
    for one, other in zip(first, second, strict=True):
        if not _same_bits(one, other):
            return [], "reading it twice gives different samples (it is random on access)"
    return first, ""


def bytes_in(sets: tuple[Any, ...]) -> int:
    """The size of all samples, judged by the first of each set."""
    return sum(_item_bytes(part) * len(part) for part in sets)


def _item_bytes(dataset: Any) -> int:
    found = tensors_in(default_collate([dataset[0]]))
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


def read_all(sets: tuple[Any, ...], seed: int, reading: int) -> list[Any]:
    """Samples and labels of each set, x and y; None in place of one that is no tensor."""
    seed_globals(reading_seed(seed, reading))
    found: list[Any] = []
    for name, part in zip(SETS[len(sets)], sets, strict=True):
        chunks = [
            _collate(_read_samples(part, name, chosen), name, chosen)
            for chosen in (chunk.tolist() for chunk in in_order(len(part), _READ_AT_ONCE))
        ]
        for column in (0, 1):
            pieces = [chunk[column] for chunk in chunks]
            held = all(isinstance(piece, Tensor) for piece in pieces)
            found.append(torch.cat(pieces).contiguous() if held else None)
    return found


def _is_steady(sets: tuple[Any, ...], seed: int) -> bool:
    """Whether some samples are equal when read twice under different seeds.

    Samples that cannot be inspected count as unequal.
    """
    sums = []
    for reading in (1, 2):
        seed_globals(reading_seed(seed, reading))
        sums.append(checksum_of(loaded(sets), whole=False))
    return sums[0].sha256 == sums[1].sha256 and not sums[0].unknown


def check_made_anew(problem: Problem, params: str, seed: int) -> None:
    """Check that dataset(), called and read twice under one seed, gives the same samples.

    Raises:
        ProblemError: it does not, so a training would depend on those before it.
    """
    first, second = (
        checksum_of(_checked(problem, params, [], seed), whole=False).sha256 for _ in range(2)
    )
    if first != second:
        raise problem.fault(
            f"what {problem.called('dataset', params)} returns",
            "random in a way that no seed governs: made and read twice under one seed it gives "
            "different samples",
            "generators, counters and caches that dataset() makes itself, with seeds of their own, "
            "or the global generators of torch, NumPy and random",
        )


def _checked(problem: Problem, params: str, held: list[Tensor], seed: int) -> list[SampleSet]:
    """The sets for the checksum: held ones, or fresh ones under one seed (they may be random)."""
    if held:
        return held_sets(held)
    sets = make_sets(problem, params, seed)
    seed_globals(reading_seed(seed, 1))
    return loaded(sets)


def loaded(sets: tuple[Any, ...]) -> list[SampleSet]:
    """The sets, to be loaded as it goes."""
    return [LoadedSet(part, name) for part, name in zip(sets, SETS[len(sets)], strict=True)]


def held_sets(tensors: Sequence[Tensor]) -> list[SampleSet]:
    """The sets with these x and y."""
    return [HeldSet(x, y) for x, y in zip(tensors[::2], tensors[1::2], strict=True)]


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and bytes_of(one) == bytes_of(other)
    )


def checksum_of(sets: list[SampleSet], *, whole: bool) -> Checksum:
    """The checksum of all samples, or of `CHECKSUM_SAMPLES` of each set."""
    checksum = Checksum()
    for part in sets:
        count = len(part) if whole else min(len(part), CHECKSUM_SAMPLES)
        places = np.linspace(0, len(part) - 1, count).round().astype(np.int64)
        checksum.begin(len(part))
        for batch in part.batches(places[chunk] for chunk in in_order(count, _READ_AT_ONCE)):
            checksum.add(batch)
    return checksum
