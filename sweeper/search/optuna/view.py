"""A copy of an Optuna study in a file that Optuna and its dashboard open."""

from __future__ import annotations

import contextlib
import copy
import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from sweeper.disk.files import refuse_link

STUDY = "sweep"
"""The name of the study in the file."""

_KEPT = ("constraints",)
"""Attributes of Optuna's own that are copied: the others are a sampler's state, which is long."""


class StudyView:
    """Keeps a file the same as a study in memory, whose trials finish in any order.

    The file is a view: it is compared with the study, and made anew if it differs, but nothing is
    taken from it.  What goes wrong with it is said once, by a warning, and tried again with the
    next update.

    Args:
        path: An SQLite database; made with the first update.
        study: The study in memory.
    """

    def __init__(self, path: Path, study: optuna.Study) -> None:
        self._path = path
        self._study = study
        self._copy: optuna.Study | None = None
        self._found: list[FrozenTrial] = []
        """The trials that were in the file when it was opened."""
        self._count = 0
        """How many trials of the file are known to be those of the study."""
        self._complained = False

    def update(self) -> None:
        """Write the trials that have finished since, in the order of their numbers."""
        try:
            with quiet():
                self._write()
        except Exception as error:  # noqa: BLE001 - whatever it is, no sweep ends because of a view
            self._copy = None
            if not self._complained:
                self._complained = True
                warnings.warn(
                    f"{self._path} could not be written, so Optuna does not see the latest points; "
                    f"the sweep goes on: {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _write(self) -> None:
        if self._copy is None or not self._path.exists():
            self._open()
        finished = self._finished()
        known = self._found[self._count :]
        if not all(map(_same, known, finished)):
            self._begin_anew()
            known, finished = [], self._finished()
        held = min(len(known), len(finished))
        self._count += held
        for trial in finished[held:]:
            self._add(trial)
            self._count += 1

    def _finished(self) -> list[FrozenTrial]:
        """Of the trials that are not known to be in the file, the first that have all finished."""
        trials = self._study.get_trials(deepcopy=False)[self._count :]
        return list(itertools.takewhile(lambda trial: trial.state.is_finished(), trials))

    def _add(self, trial: FrozenTrial) -> None:
        plain = copy.copy(trial)
        plain.system_attrs = {k: v for k, v in trial.system_attrs.items() if k in _KEPT}
        assert self._copy is not None  # noqa: S101 - opened before
        self._copy.add_trial(plain)

    def _open(self) -> None:
        refuse_link(self._path)
        self._count, self._found = 0, []
        if self._path.exists():
            try:
                self._copy = optuna.load_study(study_name=STUDY, storage=_storage(self._path))
                self._found = self._copy.get_trials(deepcopy=False)
            except Exception as error:
                if _is_refused(error):
                    raise
            else:
                if self._copy.directions == self._study.directions:
                    return
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._count, self._found = 0, []
        for path in (self._path, self._path.with_name(f"{self._path.name}-journal")):
            path.unlink(missing_ok=True)
        self._copy = optuna.create_study(
            study_name=STUDY, storage=_storage(self._path), directions=self._study.directions
        )
        self._copy.set_metric_names(self._study.metric_names or [])


def _storage(path: Path) -> RDBStorage:
    # In an address these would mean something else.
    address = re.sub("[%?{}]", lambda found: f"%{ord(found[0]):02X}", str(path.resolve()))
    return RDBStorage(
        f"sqlite:///{address}",
        engine_kwargs={
            "connect_args": {"timeout": 1},
            "pool_events": [(_without_waiting, "connect")],
        },
    )


def _without_waiting(connection: Any, _record: Any) -> None:
    """The disk need not have it at once: after a power failure the view is made anew."""
    connection.execute("PRAGMA synchronous = OFF")


def _is_refused(error: BaseException | None) -> bool:
    """Whether the file is locked or the disk full, and not damaged."""
    from sqlalchemy.exc import OperationalError

    while error is not None:
        if isinstance(error, OperationalError):
            return True
        error = error.__cause__
    return False


def _same(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether two trials are alike but for when they ran."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("state", "values", "params", "distributions", "user_attrs")
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from announcing each study, and which parts of it are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
