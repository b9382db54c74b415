"""Reads a problem's data once for all workers: held in a shared file, or loaded as it goes."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
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
    Data,
    HeldSet,
    LoadedSet,
    SampleSet,
    _which,
    in_order,
)
from sweeper.train.data.splits import Rule, Splits, describe, least_samples, sizes
from sweeper.train.problem.problem import SETS, Problem
from sweeper.train.problem.spec import DataRef, Layout
from sweeper.train.streams import dataset_seed, fork_rng, reading_seed, seed_globals
from sweeper.train.tuning.held_out import single_labels

HELD_SHARE = 0.25
"""Data is held in memory if it takes at most this share of the available memory."""


CHECKSUM_BYTES = 2**30
"""Data up to this size is checked whole.  It is not a share of memory, so that the same data has
the same checksum wherever and whenever it is read, held or not."""


CHECKSUM_SAMPLES = 1000
"""So many evenly spaced samples of each set are checked if the data is larger."""


_READ_AT_ONCE = 1024


_ALIGNMENT = 64


def read_data(problem: Problem, seed: int, fd: int, budget: float | None = None) -> DataRef:
    """Read the data once, and write it into the file `fd` if it can be held.

    `budget` is the most bytes that may be held; by default a share of the available memory.

    Raises:
        ProblemError: the dataset cannot be made or read.
    """
    if budget is None:
        budget = HELD_SHARE * psutil.virtual_memory().available
    with fork_rng():
        sets = _make_sets(problem, seed)
        try:
            expected = sum(_item_bytes(part) * len(part) for part in sets)
            held, reason = _hold(sets, seed, expected, budget)
            remade = not held and not _is_steady(sets, seed)
            if remade:
                _check_made_anew(problem, seed)
            checked = _checked(problem, held, seed)
            found = _checksum(checked, whole=expected <= CHECKSUM_BYTES)
            rule = _read_rule(problem, sets)
            labels = None
            if rule is not None and expected <= CHECKSUM_BYTES:
                labels = _read_labels(problem, held, seed)
        except ProblemError:
            raise
        except Exception as error:
            raise problem.fault(
                f"{_which(error)} of dataset()",
                f"not readable: {type(error).__name__}: {error}",
                "items (x, y) that torch's default_collate can batch",
            ) from error
    n_train, n_val, *n_test = _sizes(sets, rule)
    ref = DataRef(seed, n_train, n_val, found.sha256, earlier_sha256=found.earlier)
    notes = () if rule is None else (_split_note(rule, len(sets[0]), labels),)
    ref = replace(ref, n_test=sum(n_test), validation=rule, notes=notes)
    shared = [*held, *([] if labels is None else [labels])]
    layouts, size = _lay_out(shared)
    if shared:
        _share(shared, layouts, size, fd)
    if labels is not None:
        ref = replace(ref, labels=layouts[-1])
    if not held:
        note = f"data: loaded as it goes, because {reason}{_unchecked(found)}"
        return replace(ref, remade=remade, size=size, note=note)
    note = f"data: held in memory ({size / 2**20:.1f} MiB, one copy for all workers)"
    return replace(ref, layouts=layouts[: len(held)], size=size, note=note)


def _read_rule(problem: Problem, sets: tuple[Any, ...]) -> Rule | None:
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
        raise problem.fault("what dataset() returns", found, f"at least {least} samples")
    return rule


def _sizes(sets: tuple[Any, ...], rule: Rule | None) -> tuple[int, ...]:
    return tuple(map(len, sets)) if rule is None else sizes(rule, len(sets[0]))


def _split_note(rule: Rule, samples: int, labels: Tensor | None) -> str:
    why = "y is not one number per sample, or there is too much data to read"
    return describe(rule, samples) + (f"; not by label: {why}" if labels is None else "")


def _read_labels(problem: Problem, held: list[Tensor], seed: int) -> Tensor | None:
    """The label of each sample of one set, held or not; None if y is not one number per sample."""
    if held:
        y = held[1]
    else:
        (samples,) = _checked(problem, held, seed)
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


def _unchecked(found: Checksum) -> str:
    """A remark on types in samples that cannot be checked."""
    if not found.unknown:
        return ""
    return (
        "; not checked for changes and randomness, because samples hold a "
        f"{', a '.join(found.unknown)}: dataset() is made anew for each training"
    )


def _make_sets(problem: Problem, seed: int) -> tuple[Any, ...]:
    seed_globals(dataset_seed(seed))
    try:
        return problem.make_dataset()
    except ProblemError:
        raise
    except Exception as error:
        raise problem.fault(
            "dataset()", f"an error: {type(error).__name__}: {error}", "(train_set, val_set)"
        ) from error


def _hold(
    sets: tuple[Any, ...], seed: int, expected: int, budget: float
) -> tuple[list[Tensor], str]:
    """The tensors of all sets, or an empty list and the reason."""
    if expected > budget:
        return [], (f"it takes {expected / 2**20:.0f} MiB and {budget / 2**20:.0f} MiB may be held")
    first, second = (_read_all(sets, seed, reading) for reading in (1, 2))
    if not all(isinstance(part, Tensor) for part in first):
        return [], "its x or y is not a tensor"
    for one, other in zip(first, second, strict=True):
        if not _same_bits(one, other):
            return [], "reading it twice gives different samples (it is random on access)"
    return first, ""


def _item_bytes(dataset: Any) -> int:
    found = tensors_in(default_collate([dataset[0]]))
    return sum(tensor.numel() * tensor.element_size() for tensor in found)


def _read_all(sets: tuple[Any, ...], seed: int, reading: int) -> list[Any]:
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
        sums.append(_checksum(_loaded(sets), whole=False))
    return sums[0].sha256 == sums[1].sha256 and not sums[0].unknown


def _check_made_anew(problem: Problem, seed: int) -> None:
    """Check that dataset(), called and read twice under one seed, gives the same samples.

    Raises:
        ProblemError: it does not, so a training would depend on those before it.
    """
    first, second = (_checksum(_checked(problem, [], seed), whole=False).sha256 for _ in range(2))
    if first != second:
        raise problem.fault(
            "what dataset() returns",
            "random in a way that no seed governs: made and read twice under one seed it gives "
            "different samples",
            "generators, counters and caches that dataset() makes itself, with seeds of their own, "
            "or the global generators of torch, NumPy and random",
        )


def _checked(problem: Problem, held: list[Tensor], seed: int) -> list[SampleSet]:
    """The sets for the checksum: held ones, or fresh ones under one seed (they may be random)."""
    if held:
        return _held(held)
    sets = _make_sets(problem, seed)
    seed_globals(reading_seed(seed, 1))
    return _loaded(sets)


def _loaded(sets: tuple[Any, ...]) -> list[SampleSet]:
    return [LoadedSet(part, name) for part, name in zip(sets, SETS[len(sets)], strict=True)]


def _held(tensors: Sequence[Tensor]) -> list[SampleSet]:
    return [HeldSet(x, y) for x, y in zip(tensors[::2], tensors[1::2], strict=True)]


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and bytes_of(one) == bytes_of(other)
    )


def _checksum(sets: list[SampleSet], *, whole: bool) -> Checksum:
    checksum = Checksum()
    for part in sets:
        count = len(part) if whole else min(len(part), CHECKSUM_SAMPLES)
        places = np.linspace(0, len(part) - 1, count).round().astype(np.int64)
        checksum.begin(len(part))
        for batch in part.batches(places[chunk] for chunk in in_order(count, _READ_AT_ONCE)):
            checksum.add(batch)
    return checksum


def _lay_out(tensors: list[Tensor]) -> tuple[tuple[Layout, ...], int]:
    layouts = []
    offset = 0
    for tensor in tensors:
        name = str(tensor.dtype).removeprefix("torch.")
        layouts.append(Layout(name, tuple(tensor.shape), offset))
        size = tensor.numel() * tensor.element_size()
        offset += -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
    return tuple(layouts), offset


def _share(tensors: list[Tensor], layouts: tuple[Layout, ...], size: int, fd: int) -> None:
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as shared:
        for tensor, layout in zip(tensors, layouts, strict=True):
            data = bytes_of(tensor)
            shared[layout.offset : layout.offset + len(data)] = data


def open_data(problem: Problem, ref: DataRef, fd: int | None) -> Data:
    """The data in a worker: the shared map, read-only, or the datasets themselves."""
    shared = None if fd is None or not ref.size else mmap.mmap(fd, ref.size, prot=mmap.PROT_READ)
    if not ref.layouts or shared is None:
        seed_globals(dataset_seed(ref.seed))
        sets = _loaded(problem.make_dataset())
    else:
        sets = _held([_mapped(shared, layout) for layout in ref.layouts])
    if ref.validation is None:
        train, val, *test = sets
        return Data(train, val, test[0] if test else None)
    (whole,) = sets
    labels = None if ref.labels is None or shared is None else _mapped(shared, ref.labels).numpy()
    return Data(whole, whole, splits=Splits(ref.validation, len(whole), labels, ref.seed))


def _mapped(shared: mmap.mmap, layout: Layout) -> Tensor:
    count, dtype = int(np.prod(layout.shape)), getattr(torch, layout.dtype)
    if count == 0:
        return torch.empty(layout.shape, dtype=dtype)
    with warnings.catch_warnings():
        # A write to the read-only map would end the process; samples are only copied out, by index.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        flat = torch.frombuffer(shared, dtype=dtype, count=count, offset=layout.offset)
    return flat.reshape(layout.shape)
