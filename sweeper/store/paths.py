"""The names of everything in a sweep's folder."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sweeper.disk.files import explained, refuse_link
from sweeper.records import ADDED, TRIAL, file_suffix

CURVE_FILES = {
    "lr_range": "lr_vs_perf.npz",
    "batch_range": "bs_vs_perf.npz",
    "batch_choice": "bs_sampled.npz",
    "lr_rescan": "lr_vs_perf2.npz",
    "ladder": "ladder.npz",
    "weight_decay": "weight_decay.npz",
    "momentum": "momentum.npz",
}
"""By stage of tuning: the file that holds its curves."""

_MODEL = "model.pt"

OPTUNA = "optuna.db"
"""The view that `OptunaSearch` writes; SQLite may leave files beside it."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of all files in `folder`: a method for each, since only here are they named."""

    folder: Path

    @property
    def database(self) -> Path:
        """SQLite: the only truth."""
        return self.folder / "sweep.db"

    @property
    def lock(self) -> Path:
        """Names the process that drives the folder."""
        return self.folder / "lock"

    @property
    def logs(self) -> Path:
        """Output of the workers."""
        return self.folder / "logs"

    @property
    def driver_log(self) -> Path:
        """Output of a driver that goes on without a terminal."""
        return self.folder / "driver.log"

    @property
    def profile(self) -> Path:
        """What all trials were profiled to spend, added up: a view."""
        return self.folder / "profile.txt"

    @property
    def environment(self) -> Path:
        """What the last run was in: texts for people, also stored in the database."""
        return self.folder / "environment"

    @property
    def added(self) -> Path:
        """Points that another process has added, for a manual search."""
        return self.folder / ADDED

    @property
    def points(self) -> Path:
        """Views: may be deleted, and rebuilt by `export`; models excepted."""
        return self.folder / "points"

    @property
    def params_lookup(self) -> Path:
        """Pickle: (params -> id, id -> params)."""
        return self.points / "params_lookup.pt"

    @property
    def params_csv(self) -> Path:
        """CSV: id, and one column per parameter."""
        return self.points / "params.csv"

    @property
    def funcres(self) -> Path:
        """Pickle: a list of 8-tuples, one per point."""
        return self.points / "funcres.pt"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of trials, of those that have not ended or that others may go on from.

        May be deleted: such trials are then trained from their start, and parents again.
        """
        return self.folder / "checkpoints"

    def point(self, point_id: int) -> Path:
        """All files of a point."""
        return self.points / str(point_id)

    def apart(self, point_id: int) -> Path:
        """All files of a point trained by earlier code."""
        return self.points / "apart" / str(point_id)

    def hparams(self, point_id: int) -> Path:
        """The folder of a point's tuning."""
        return self.points / str(point_id) / "hparams"

    def results(self, point_id: int, stage: str = TRIAL) -> Path:
        """The final numbers of a point's trials of this stage."""
        return self.points / str(point_id) / f"results{file_suffix(stage)}.npz"

    def curves(self, point_id: int, stage: str = TRIAL) -> Path:
        """The curves of a point's trials of this stage."""
        return self.points / str(point_id) / f"curves{file_suffix(stage)}.npz"

    def trial(self, point_id: int, number: int, stage: str = TRIAL) -> Path:
        """A trial's own folder; of a program each budget and each parent has its own."""
        return self.points / str(point_id) / f"{TRIAL}s" / f"{number}{file_suffix(stage)}"

    def model(self, point_id: int, number: int, stage: str = TRIAL) -> Path:
        """A trial's weights: a `state_dict`.  Each budget and each parent has its own."""
        path = self.trial(point_id, number) / _MODEL
        return path.with_stem(path.stem + file_suffix(stage))

    @property
    def model_pattern(self) -> str:
        """`model`, without a budget or a parent, with places for `id` and `number`."""
        folder = str(self.points).replace("{", "{{").replace("}", "}}")
        return f"{folder}/{{id}}/{TRIAL}s/{{number}}/{_MODEL}"

    @property
    def history(self) -> Path:
        """Earlier contents of the folder."""
        return self.folder / "history"


def refuse_links(paths: Paths) -> None:
    """Check that no path that a sweep writes to is a symbolic link.

    Raises:
        FolderError: one is; the message says which.
    """
    ours = (paths.driver_log, paths.profile, paths.history, *_folders(paths))
    for path in (*ours, *database_files(paths)):
        refuse_link(path)
    if paths.logs.is_dir():
        for path in paths.logs.iterdir():
            refuse_link(path)


def move_to_history(paths: Paths) -> Path | None:
    """Move the folder's contents into a new folder under `history/`; None if there is nothing.

    The database is moved last, so that after a crash the move can be repeated.
    """
    theirs = (*_folders(paths), paths.profile, *database_files(paths))
    found = [path for path in theirs if path.exists()]
    if not found:
        return None
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = paths.history / stamp
    number = 1
    while target.exists():
        number += 1
        target = paths.history / f"{stamp}-{number}"
    target.mkdir(parents=True)
    for path in found:
        path.replace(target / path.name)
    return target


def remove_sweep(paths: Paths) -> bool:
    """Delete all that a sweep has written, and the folder if nothing else is in it.

    Links are removed, not followed.  Returns whether the folder is gone.

    Raises:
        DiskError: something cannot be deleted.
    """
    views = [paths.folder / f"{OPTUNA}{end}" for end in ("", "-wal", "-shm", "-journal")]
    theirs = (*_folders(paths), paths.history, paths.driver_log, paths.profile, *views)
    with explained(paths.folder):
        # The database last: until it is gone, this can be repeated.
        for path in (*theirs, *database_files(paths), paths.lock):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it has other files, which are not ours
            paths.folder.rmdir()
    return not paths.folder.exists()


def _folders(paths: Paths) -> tuple[Path, ...]:
    return paths.points, paths.checkpoints, paths.logs, paths.added, paths.environment


def database_files(paths: Paths) -> tuple[Path, ...]:
    """The database, and before it what SQLite keeps beside it."""
    # SQLite's log holds committed outcomes until they are merged, so it is moved first.
    name = paths.database.name
    return (
        paths.folder / f"{name}-shm",
        paths.folder / f"{name}-wal",
        paths.database,
    )
