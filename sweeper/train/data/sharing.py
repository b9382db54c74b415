"""Reads a problem's data once for all workers: held in a shared file, or loaded as it goes."""

from __future__ import annotations

import mmap
import os
import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sweeper.train.data.checksum import Checksum, bytes_of
from sweeper.train.data.reading import held_sets, loaded, read_sets
from sweeper.train.data.samples import Data, SampleSet
from sweeper.train.data.splits import Rule, Splits, describe
from sweeper.train.problem.problem import NO_PARAMS, Problem
from sweeper.train.problem.spec import DataRef, Layout
from sweeper.train.replica.streams import dataset_seed, seed_globals

_ALIGNMENT = 64


def read_data(problem: Problem, seed: int, fd: int, budget: float | None = None) -> DataRef:
    """Read the data once, and write it into the file `fd` if it can be held.

    `budget` is the most bytes that may be held; by default a share of the available memory.

    Raises:
        ProblemError: the dataset cannot be made or read.
    """
    read = read_sets(problem, NO_PARAMS, seed, budget)
    n_train, n_val, *n_test = read.sizes
    found, rule, labels = read.checksum, read.rule, read.labels
    ref = DataRef(seed, n_train, n_val, found.sha256, earlier_sha256=found.earlier)
    notes = () if rule is None else (_split_note(rule, len(read.sets[0]), labels),)
    ref = replace(ref, n_test=sum(n_test), validation=rule, notes=notes)
    shared = [*read.held, *([] if labels is None else [labels])]
    layouts, size = _lay_out(shared)
    if shared:
        _share(shared, layouts, size, fd)
    if labels is not None:
        ref = replace(ref, labels=layouts[-1])
    if not read.held:
        note = f"data: loaded as it goes, because {read.reason}{_unchecked(found)}"
        return replace(ref, remade=read.remade, size=size, note=note)
    note = f"data: held in memory ({size / 2**20:.1f} MiB, one copy for all workers)"
    return replace(ref, layouts=layouts[: len(read.held)], size=size, note=note)


def _split_note(rule: Rule, samples: int, labels: Tensor | None) -> str:
    why = "y is not one number per sample, or there is too much data to read"
    return describe(rule, samples) + (f"; not by label: {why}" if labels is None else "")


def _unchecked(found: Checksum) -> str:
    """A remark on types in samples that cannot be checked."""
    if not found.unknown:
        return ""
    return (
        "; not checked for changes and randomness, because samples hold a "
        f"{', a '.join(found.unknown)}: dataset() is made anew for each training"
    )


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
        sets = loaded(problem.make_dataset(NO_PARAMS))
    else:
        sets = held_sets([_mapped(shared, layout) for layout in ref.layouts])
    labels = None if ref.labels is None or shared is None else _mapped(shared, ref.labels)
    return data_of(sets, ref.validation, labels, ref.seed)


def data_of(sets: list[SampleSet], rule: Rule | None, labels: Tensor | None, seed: int) -> Data:
    """The data of two or three sets, or of one that is split by `rule` and its labels."""
    if rule is None:
        train, val, *test = sets
        return Data(train, val, test[0] if test else None)
    (whole,) = sets
    known = None if labels is None else labels.numpy()
    return Data(whole, whole, splits=Splits(rule, len(whole), known, seed))


def _mapped(shared: mmap.mmap, layout: Layout) -> Tensor:
    count, dtype = int(np.prod(layout.shape)), getattr(torch, layout.dtype)
    if count == 0:
        return torch.empty(layout.shape, dtype=dtype)
    with warnings.catch_warnings():
        # A write to the read-only map would end the process; samples are only copied out, by index.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        flat = torch.frombuffer(shared, dtype=dtype, count=count, offset=layout.offset)
    return flat.reshape(layout.shape)
