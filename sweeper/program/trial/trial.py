"""What an objective is told of its trial, and what it may keep: reports, checkpoints, a log."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.disk.files import explained, make_folder, write_swapped
from sweeper.program.metrics import read_values
from sweeper.program.trial.arrays import Arrays, as_arrays
from sweeper.program.trial.checkpoints import Checkpoints, Saved
from sweeper.program.trial.random_state import read_random, restore_random
from sweeper.records import Params

HISTORY, LOG = "history.jsonl", "log.txt"
"""Files in a trial's folder: an iteration a line as JSON, and what it logs."""


class BudgetUsed(BaseException):
    """Ends an objective that has used up its budget; no error, so `except Exception` lets it by."""


class Trial:
    """One trial, for an objective with a parameter named `trial`."""

    def __init__(
        self,
        number: int,
        seed: int,
        params: Params,
        folder: str | Path,
        cores: int,
        budget: int | None = None,
        declared: Sequence[str] = (),
        checkpoints: Checkpoints | None = None,
        devices: int = 0,
        parent_folder: Path | None = None,
    ) -> None:
        """`declared` are the names of the metrics; without `checkpoints` nothing can be saved."""
        self.number = number
        """From 0, within its point."""
        self.seed = seed
        """Its own seed, from 0 to 2**31 - 1: it depends on the sweep's seed, the point, the number
        and its parents alone.  random, numpy and torch are seeded from it where they are
        imported."""
        self.params = params
        """The point's parameters, as the selector gave them."""
        self.cores = cores
        """How many cores it has."""
        self.devices = tuple(f"cuda:{place}" for place in range(devices))
        """The names of its devices: they are the only ones that its process sees, so the first is
        `"cuda:0"` in every trial.  Empty: the sweep deals out none."""
        self.budget = budget
        """How many iterations it was asked for; None: as many as it likes."""
        self.parent_folder = parent_folder
        """The folder of the trial that it begins from, to be read only; None: it begins from
        nothing.  It exists if that trial has asked for its own."""
        self.history: list[dict[str, float]] = []
        """What was reported or yielded, an entry per iteration; of a trial that was resumed, also
        what was reported before its last save."""
        self.resumed = False
        """Whether it goes on from a checkpoint, which `load` gives."""
        self.has_saved = False
        """Whether `save` was called in this process."""
        self._folder, self._declared, self._checkpoints = folder, declared, checkpoints
        self._ends = False

    @property
    def folder(self) -> Path:
        """A folder of its own for files, made when it is first asked for.

        A trial that is tried again finds there what it wrote before.
        """
        folder = Path(self._folder)
        make_folder(folder)
        return folder

    @property
    def should_stop(self) -> bool:
        """Whether its budget is used up.

        It is never True for any other reason: what would end earlier would not be the trial that
        was asked for.  An interrupted sweep ends its workers, and they go on from the last save.
        """
        return self.budget is not None and len(self.history) >= self.budget

    def report(self, **metrics: Any) -> None:
        """Add an iteration to the history; on return it survives the death of this process.

        It is not synced to the disk, which would take milliseconds: only what was reported before
        the last `save` is sure to survive the machine's.

        Raises:
            ValueError: a metric cannot have this name, or there is none.
            DiskError: it cannot be written.
        """
        self.keep(metrics)

    def save(self, **arrays: Any) -> None:
        """Save where the trial stands; on return it survives the machine's crash.

        A trial that is ended goes on from its last save, and so does one with a larger budget.
        Report (or yield) an iteration first, then save; the history so far and the states of the
        random generators are saved, too.  An earlier save is replaced.

        Args:
            arrays: Numbers, texts, arrays or tensors: all that the next iterations depend on.

        Raises:
            TypeError: a value is none of these.
            DiskError: it cannot be written.
        """
        if self._checkpoints is None:
            return
        found = as_arrays(arrays, "trial.save")
        self._checkpoints.write(Saved(self.history, read_random(), found))
        self.has_saved = True
        if self._ends:
            raise BudgetUsed

    def load(self) -> Arrays | None:
        """What was saved last, as numpy arrays by name; None: nothing, begin at the beginning.

        It also sets the random generators of Python, numpy and torch to where they were then.
        """
        if not (self.resumed or self.has_saved) or self._checkpoints is None:
            return None
        saved = self._checkpoints.read()
        if saved is None:
            return None
        restore_random(saved.random)
        return saved.arrays

    def log(self, text: object) -> None:
        """Add a line with the time (UTC) to `log.txt` in the trial's folder.

        Raises:
            DiskError: it cannot be written.
        """
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        _append(self.folder / LOG, f"{now} {text}\n")

    # -- for the job that runs it ------------------------------------------------------------------

    def begin(self) -> None:
        """Take over the history of an earlier attempt that was saved; forget any other."""
        saved = self._checkpoints.read() if self._checkpoints else None
        path = Path(self._folder, HISTORY)
        if saved is not None:
            self.resumed, self.history = True, saved.history
            write_swapped(path, "".join(map(_line, self.history)).encode())
        elif path.exists():
            path.unlink()

    def keep(self, values: Any) -> None:
        """Add what an iteration gave to the history; see `read_values` for what is raised."""
        if self._ends:
            raise BudgetUsed
        found = read_values(values, self._declared)
        if not self.history:
            make_folder(Path(self._folder))
        _append(Path(self._folder, HISTORY), _line(found))
        self.history.append(found)

    def let_save(self) -> None:
        """From now on its next save, or report, ends the objective by a `BudgetUsed`."""
        self._ends = True

    def end(self) -> None:
        """Keep the last save for larger budgets."""
        if (self.has_saved or self.resumed) and self._checkpoints is not None:
            self._checkpoints.end()


def _line(values: Mapping[str, float]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _append(path: Path, text: str) -> None:
    """Add a text to a file in one write: a reader sees whole lines.

    The file is opened each time: an objective that closes descriptors cannot lead it astray.
    """
    with explained(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, 0o666)
        try:
            os.write(file, text.encode(errors="backslashreplace"))
        finally:
            os.close(file)


def last_values(history: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The last value of each metric."""
    return {name: value for entry in history for name, value in entry.items()}


def in_arrays(history: Sequence[Mapping[str, float]]) -> dict[str, npt.NDArray[np.float64]]:
    """By metric: its values over the iterations, NaN where an iteration has none."""
    names = dict.fromkeys(name for entry in history for name in entry)
    return {
        name: np.array([entry.get(name, np.nan) for entry in history], dtype=np.float64)
        for name in names
    }
