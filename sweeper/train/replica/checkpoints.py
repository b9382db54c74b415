"""Checkpoints: a trial at the end of a learning-rate cycle, from which it goes on.

It goes on after its worker was killed, or with a larger budget, and ends with the same bits as a
trial that ran through.  A file that is damaged, or belongs to anything else, is ignored: the trial
is then trained from its start.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sweeper.disk.sealed import END, PART, read_sealed, write_sealed
from sweeper.records import EAGER, lineage_of
from sweeper.train.mode.snapshot import bytes_of
from sweeper.train.native.toolchain import processor
from sweeper.train.problem.spec import TrainContext
from sweeper.train.replica.parents import Inheritance
from sweeper.train.tuning.trials import Trial
from sweeper.train.worker.task import Task


@dataclass(frozen=True, slots=True)
class Saved:
    """A trial at the end of a cycle."""

    cycles: int
    """Cycles done."""
    curves: Mapping[str, Any]
    """Its curves so far, arrays by name."""
    state: dict[str, Any]
    """What its execution mode restores: tensors, numbers and texts, in lists and dicts.  It takes
    out what it has restored, to free memory.  Empty: it cannot be restored."""
    inherited: Inheritance | None = None
    """What trials take that begin from it; at its end only."""


@functools.cache
def _processor() -> str:
    return processor()


@dataclass(slots=True)
class Checkpoints:
    """Reads and writes the checkpoints of one trial."""

    base: Path
    """Its files without their suffixes: `PART` until the trial has ended, `END` of its end."""
    identity: Callable[[], str]
    """Gives a digest of everything that the trial's bits depend on; short trials never need it."""
    trial: Trial
    every: float
    """Seconds after which the end of a cycle is saved."""
    keeps_end: bool = False
    """Whether others may begin from its end."""
    watches_data: bool = False
    """Whether samples may depend on what was read before, so that the datasets are part of it."""
    _last: float = field(default_factory=time.monotonic)

    def is_due(self, cycles: int) -> bool:
        """Whether to save the end of this cycle.

        The last one is saved only if a trial with a larger budget may go on from there, or others
        may begin from it.
        """
        if cycles == self.trial.cycles:
            return self.trial.goes_on or self.keeps_end
        return time.monotonic() - self._last >= self.every

    def write(self, saved: Saved) -> None:
        """Make it durable.

        Raises:
            DiskError: it cannot be written.
        """
        curves = {name: torch.from_numpy(curve) for name, curve in saved.curves.items()}
        buffer = io.BytesIO()
        found = {"cycles": saved.cycles, "curves": curves, "state": saved.state}
        if saved.inherited is not None:
            found["inherited"] = saved.inherited.payload()
        torch.save(found, buffer)
        path = self.base.with_suffix(END if saved.cycles == self.trial.cycles else PART)
        write_sealed(path, self.identity(), buffer.getvalue())
        self._last = time.monotonic()

    def read(self) -> Saved | None:
        """The checkpoint with the most cycles from which this trial may go on, if any."""
        found = [saved for path in self._paths() if (saved := self._read(path)) is not None]
        usable = [saved for saved in found if saved.state and saved.cycles <= self.trial.cycles]
        return max(usable, key=lambda saved: saved.cycles, default=None)

    def _paths(self) -> Iterable[Path]:
        """Its own files, and those of other budgets that have the same first steps."""
        if not self.trial.goes_on:
            return [self.base.with_suffix(PART)]
        number, _, _ = self.base.name.partition("@")
        found = sorted(self.base.parent.glob(f"{number}@*"))
        lineage = lineage_of(self.base.name)
        return [path for path in found if lineage_of(path.stem) == lineage]

    def read_end(self) -> Inheritance | None:
        """What trials take that begin from this one; None: its end is not there."""
        saved = self._read(self.base.with_suffix(END))
        return None if saved is None else saved.inherited

    def _read(self, path: Path) -> Saved | None:
        if not path.is_file():  # and short trials never need the identity
            return None
        try:
            body = read_sealed(path, self.identity())
            if body is None:
                return None
            found = torch.load(io.BytesIO(body), weights_only=True)
            curves = {name: curve.numpy() for name, curve in found["curves"].items()}
            inherited = Inheritance(**found["inherited"]) if "inherited" in found else None
            return Saved(found["cycles"], curves, found["state"], inherited)
        except Exception:  # noqa: BLE001 - whatever is in the file
            return None


def checkpoints_of(
    context: TrainContext, task: Task, number: int, trial: Trial, trace: str = ""
) -> Checkpoints | None:
    """The checkpoints of the task's trial `number`; None if the sweep keeps none.

    `trace` is the digest of its own trace if it is trained in packs.
    """
    if not context.checkpoints:
        return None
    base = Path(context.checkpoints) / task.point / f"{number}{task.suffix}"
    identity = functools.partial(_identity, context, task, number, trial, trace)
    own = task.own.data
    remade = context.data.remade if own is None else own.remade
    every, keeps_end = context.checkpoint_every, context.keep_ends
    return Checkpoints(base, identity, trial, every, keeps_end, remade)


def _identity(context: TrainContext, task: Task, number: int, trial: Trial, trace: str) -> str:
    settings: dict[str, Any] = {
        "lr_start": trial.lr_start,
        "lr_end": trial.lr_end,
        "batch_size": trial.batch_size,
        "cycle_epochs": trial.cycle_epochs,
        "cycle_steps": trial.cycle_steps,
        "schedule": trial.schedule,
        "warmup": trial.warmup,
        "own_cycles": trial.own_cycles,
        "cycles": None if trial.goes_on else trial.cycles,
    }
    mode = task.mode
    parts = {
        "point": task.point,
        "params": task.params,
        "number": number,
        "seed": context.seed,
        "settings": settings,
        "mode": [mode.kind, trace, mode.toolchain] if trace else [EAGER],
        "numerics": context.numerics,
        "threads": context.threads,
        "curve_samples": context.curve_samples,
        "sources": sorted(sha256 for _, sha256 in context.sources),
        "data": context.data.sha256,
        "own": task.own.payload(),
        "torch": torch.__version__,
        "processor": _processor(),
        "MKL_CBWR": os.environ.get("MKL_CBWR", ""),
    }
    if trial.options:
        settings["options"] = dict(trial.options)
    if lineage := lineage_of(task.stage):
        parts["lineage"] = lineage
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def restore_tensors(own: Sequence[Tensor], known: Sequence[Tensor]) -> bool:
    """Set tensors to those of a checkpoint; return whether these have the same shapes and types.

    Frozen parameters and buffers may be shared with other models: they are written only if they
    changed.
    """
    if [(one.shape, one.dtype) for one in own] != [(one.shape, one.dtype) for one in known]:
        return False
    with torch.no_grad():
        for one, other in zip(own, known, strict=True):
            if not have_same_bits(one, other):
                one.copy_(other)
    return True


def have_same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and type are the same, zeros with their signs."""
    return np.array_equal(bytes_of(one), bytes_of(other))


def written_generator(generator: np.random.Generator) -> str:
    """The state of a generator as text."""
    return json.dumps(generator.bit_generator.state)


def restore_generator(generator: np.random.Generator, text: str) -> None:
    """Set a generator to a state that `written_generator` wrote."""
    generator.bit_generator.state = json.loads(text)
