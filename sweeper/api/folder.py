"""`sweeper.open`: a sweep's folder, used from any process, whether the sweep runs or not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sweeper.disk.files import refuse_link
from sweeper.disk.locking import Holder, folder_lock, read_lock
from sweeper.errors import FolderError, UsageError, plural, suggestion
from sweeper.records import Asked, FolderProgress, Params
from sweeper.results import SweepResult
from sweeper.results.points import FailureReport
from sweeper.run.processes import stopping
from sweeper.search import Ask, inbox
from sweeper.search.selectors.manual import ManualSearch
from sweeper.signature import encode
from sweeper.store.database.store import Store
from sweeper.store.environment import read_environment
from sweeper.store.paths import Paths, remove_sweep
from sweeper.store.progress import read_progress
from sweeper.store.results.load import load, read_results
from sweeper.store.status import PHASES, read_status


def open(folder: str | Path) -> SweepFolder:  # noqa: A001 - as `gzip.open`
    """The sweep in `folder`, to add points to and to read; nothing is read or written yet.

    Args:
        folder: The folder of a sweep, or where one will be: points can be added before it runs.
    """
    return SweepFolder(Path(folder))


class SweepFolder:
    """See `open`."""

    def __init__(self, folder: Path) -> None:
        self._paths = Paths(folder)

    def __repr__(self) -> str:
        return f"sweeper.open({str(self._paths.folder)!r})"

    def add(
        self, params: Params, trials: int, *, budget: int | None = None, group: str = ""
    ) -> None:
        """Add a point for a `ManualSearch`; durable on return.

        It is trained when such a search runs in this folder, now or later.  A point that is added
        again gets further trials.

        Args:
            params: A tuple (by position) or a mapping (by name).
            trials: How many further trials; 0: the point is only tuned.
            budget: How far they go, in learning-rate cycles of a problem or iterations of a
                program; None: the whole length of a trial.
            group: A label that results, tables and exports keep.

        Raises:
            UsageError: an argument breaks its rule, or what is swept had no such
                parameter when it last ran here.
            ParamError: a value that cannot be stored.
            FolderError: the folder holds other things than a sweep.
            DiskError: it could not be written.
        """
        self._check_free()
        self._check_names(params)
        inbox.add(self._paths.folder, Ask(params, trials, budget, group=group))

    def finish(self) -> None:
        """Say that no more points come: the search ends when those that were added are done.

        A point that is added later is trained when the sweep is run again.

        Raises:
            FolderError: the folder holds other things than a sweep.
            DiskError: it could not be written.
        """
        self._check_free()
        inbox.finish(self._paths.folder)

    def progress(self) -> FolderProgress:
        """How far the sweep has come, and what it does now.

        Raises:
            FolderError: there is no sweep in the folder, or it is damaged.
        """
        driver = read_lock(self._paths.lock)
        if driver is not None and not self.has_run:  # it has just begun
            return _nothing_yet(self.folder, driver)
        with Store.read(self._paths.database) as store, store.snapshot():
            results = read_results(store)
            finished = self._is_finished(store)
            state: Literal["running", "resting", "finished"]
            state = "running" if driver else "finished" if finished else "resting"
            return read_progress(store, results, state, driver, time.time())

    def environment(self) -> dict[str, str]:
        """What the last run was in, as texts by the names of the files in `environment/`.

        Empty if that was not recorded (see `record_environment` of `sweep`).

        Raises:
            FolderError: there is no sweep in the folder, or it is damaged.
        """
        with Store.read(self._paths.database) as store:
            return read_environment(store)

    @property
    def failures(self) -> tuple[FailureReport, ...]:
        """What has failed so far, as `results().failures`.

        Raises:
            FolderError: there is no sweep in the folder, or it is damaged.
        """
        return self.results().failures

    def stop(self, timeout: float = 60.0) -> bool:
        """Have the process that drives the sweep stop, as Ctrl-C does, and wait until it has.

        Finished work is kept, and the same call of `sweep` resumes the sweep.  Asking a second
        time ends the process at once.

        Args:
            timeout: How many seconds to wait.

        Returns:
            Whether a process drove it; False: there was nothing to stop.

        Raises:
            FolderError: the process is on another host, another user's, or does not run the sweep
                in its main thread, so that nothing but itself can stop it.
            StillRunningError: it has not stopped in this time.
        """
        return stopping.stop(self._paths.lock, timeout)

    def remove(self, *, ask: bool = True) -> bool:
        """Delete the sweep: all that it has written, and the folder if it has no other files.

        Args:
            ask: Whether to ask on the terminal first.

        Returns:
            Whether it was deleted; False: the answer was no.

        Raises:
            FolderError: a sweep runs there, or the folder is no sweep's.
            UsageError: nobody can be asked.
            DiskError: it cannot be deleted.
        """
        driver = read_lock(self._paths.lock)
        if driver is not None:
            raise FolderError(f"{self.folder} is being swept by {driver}: stop it first")
        refuse_link(self.folder)
        said = self._described()
        if ask and not _agrees(f"Delete {said}? [y/N] "):
            return False
        with folder_lock(self._paths.lock):
            remove_sweep(self._paths)
        return True

    def _described(self) -> str:
        """What would be deleted.

        Raises:
            FolderError: the folder is no sweep's.
        """
        self._check_free()
        if self.has_run:
            found = self.progress()
            done = plural(found.trials_done, "trial")
            return f"the sweep of {found.workload} in {self.folder}, with {done}"
        if not self.folder.exists():
            raise FolderError(f"{self.folder} holds no sweep: there is no such folder")
        return f"the folder {self.folder}, where no sweep has run"

    def results(self) -> SweepResult:
        """The results so far, as `sweeper.load` reads them.

        Raises:
            FolderError: there is no sweep in the folder, or it is damaged.
        """
        return load(self._paths.folder)

    @property
    def folder(self) -> Path:
        """The folder, as given."""
        return self._paths.folder

    @property
    def has_run(self) -> bool:
        """Whether a sweep was ever run here."""
        return self._paths.database.exists()

    @property
    def is_closed(self) -> bool:
        """Whether `finish` was called, and no point was added since."""
        return inbox.is_closed(inbox.read(self._paths.folder))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train, and no points are awaited.

        Raises:
            FolderError: the folder is damaged.
        """
        if not self.has_run:
            return False
        with Store.read(self._paths.database) as store, store.snapshot():
            return self._is_finished(store)

    def _is_finished(self, store: Store) -> bool:
        phases = read_status(store, self._paths).phases
        begun = any(phases.values())
        left = any(phases[name] for name in ("waiting", "tuning", "training"))
        return begun and not left and not self._is_awaited(store)

    def _is_awaited(self, store: Store) -> bool:
        """Whether a manual search awaits points, or has not asked for all that were added."""
        if store.meta.get("selector") != ManualSearch.name:
            return False
        search = ManualSearch()
        search.on_opened(self._paths.folder)
        for entry in store.log(ManualSearch.name):
            if isinstance(entry, Asked) and entry.point is not None:
                search.repeat_ask(
                    Ask(entry.point.params, entry.trials, entry.budget, entry.parent, entry.group)
                )
        refused = {encode(params) for params, _ in store.refused(ManualSearch.name)}
        while (ask := search.get_next_trials()) is not None:
            if encode(ask.params) not in refused:
                return True
        return search.has_more_trials()

    def _check_names(self, params: Params) -> None:
        """Check the names of parameters, if the sweep has run and so they are known.

        Raises:
            UsageError: what is swept has no such parameter.
        """
        if not self.has_run or not isinstance(params, Mapping):
            return
        with Store.read(self._paths.database) as store:
            known = store.meta.get("parameters")
            identity = store.meta.get("identity", {})
        if not isinstance(known, list):
            return
        for name in params:
            if name not in known:
                takes = f"it took {', '.join(known)}" if known else "it took none by name"
                what = f"{identity.get('workload', 'problem')} {identity.get('problem')}"
                raise UsageError(
                    f"{name}={params[name]!r}: {what} had no such parameter "
                    f"when it last ran here{suggestion(str(name), known)}; {takes}. If its code "
                    "has changed since, run the sweep first"
                )

    def _check_free(self) -> None:
        """Check that the folder is a sweep's, or may become one's.

        Raises:
            FolderError: it holds other things.
        """
        folder = self._paths.folder
        if self.has_run or not folder.exists():
            return
        if not folder.is_dir() or {path.name for path in folder.iterdir()} - _OURS:
            raise FolderError(
                f"{folder} holds no sweep, but other things: give the folder of a sweep, or one "
                "that is empty or not there yet"
            )


_OURS = {"added", "driver.log", "history", "lock", "logs"}
"""What a sweep's folder may hold while it has no database."""


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except (EOFError, OSError) as error:
        raise UsageError(
            "remove(ask=True): there is no terminal to ask on: give ask=False to delete it"
        ) from error


def _nothing_yet(folder: Path, driver: Holder) -> FolderProgress:
    """The progress of a sweep that is reading what it sweeps."""
    return FolderProgress(
        **dict.fromkeys(PHASES, 0),
        trials_done=0,
        trials_failed=0,
        trials_asked=0,
        running=(),
        slots=0,
        best=None,
        seconds_left=None,
        folder=str(folder),
        workload="",
        state="running",
        driver=str(driver),
        seen=time.time(),
        last=None,
        trials_per_hour=None,
    )
