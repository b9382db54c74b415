"""Failure policies: what is tried again, what is given up, and when the sweep stops."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sweeper.errors import ChangedCodeError, ProblemError, StoppedError
from sweeper.records import (
    CHECK,
    NOT_ITS_FAULT,
    Failure,
    Outcome,
    Params,
    give_up,
)
from sweeper.settings import Limits
from sweeper.summary import show_params

FIRST_TRIALS = 3
"""If this many first trials of a sweep all fail in the same way, the others probably would, too."""


class Retries:
    """Counts how often each replica was lost; gives it up after `max_tries`.

    Args:
        limits: For its `max_tries`.
        recorded: By signature, stage and number: how workers died running it in earlier runs.
    """

    def __init__(
        self, limits: Limits, recorded: Mapping[tuple[str, str, int], Sequence[Failure]]
    ) -> None:
        self._most = limits.max_tries
        self._tries: dict[tuple[str, str, int], int] = {}
        self._given_up: dict[str, list[Outcome]] = {}
        for (signature, stage, number), causes in recorded.items():
            if stage == CHECK:  # each run checks the problem anew
                continue
            tries = self._tries[signature, stage, number] = len(causes)
            if self._is_last(causes[-1], tries):
                given_up = give_up(signature, stage, number, causes[-1], tries)
                self._given_up.setdefault(signature, []).append(given_up)

    def given_up(self, signature: str) -> Sequence[Outcome]:
        """Outcomes of a point's replicas that used up their tries in earlier runs."""
        return self._given_up.get(signature, ())

    def lose(self, signature: str, stage: str, number: int, cause: Failure) -> Outcome | None:
        """Count a lost replica; returns its outcome if it is not tried again."""
        if cause.kind in NOT_ITS_FAULT:
            return None
        key = (signature, stage, number)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        return give_up(*key, cause, tries) if self._is_last(cause, tries) else None

    def _is_last(self, cause: Failure, tries: int) -> bool:
        # A replica that hangs would hang again, and cost the same time again.
        return cause.kind == "timeout" or tries >= self._most


class Stopping:
    """Decides whether too much has failed to go on; of several reasons it gives the latest."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reason: str | None = None
        self._failures = 0
        """Trials, and points in tuning, that have failed in this run."""
        self._first: list[str | None] = []
        """How each of the folder's first trials failed; None for one that did not."""
        self._without_room: Counter[tuple[str, str, int]] = Counter()
        """How often the disk was full, for each replica, in this run."""

    def check(self) -> None:
        """Stop the sweep if there is a reason.

        Raises:
            StoppedError: too much has failed.
        """
        if self._reason is not None:
            raise StoppedError(self._reason)

    def count_failure(self, what: str, message: str, params: Params) -> None:
        """Count a failure: `what` of the point with these `params` has failed."""
        self._failures += 1
        most = self._limits.stop_after_failures
        if most is not None and self._failures == most:
            self._reason = (
                f"{self._failures} trials or points have failed, and stop_after_failures={most}; "
                f"the last was {what} of {show_params(params)}: {message}"
            )

    def note_known(self, ended: Iterable[tuple[float, ...] | Failure]) -> None:
        """Note how trials of earlier runs ended; they alone do not stop the sweep."""
        if len(self._first) == FIRST_TRIALS:
            return
        for values in itertools.islice(ended, FIRST_TRIALS - len(self._first)):
            self._note(values if isinstance(values, Failure) else None)

    def see_trial(self, failure: Failure | None) -> None:
        """Note a trial that has ended in this run; stop if the first trials all failed alike."""
        if len(self._first) == FIRST_TRIALS:
            return
        self._note(failure)
        if failure is not None and len(self._first) == FIRST_TRIALS and len(set(self._first)) == 1:
            self._reason = (
                f"the first {FIRST_TRIALS} trials have all failed alike, and so may all others: "
                f"{failure.message}"
            )

    def _note(self, failure: Failure | None) -> None:
        self._first.append(None if failure is None else _mode(failure))

    def lack_room(self, signature: str, stage: str, number: int, cause: Failure) -> None:
        """Note that the disk was full for a replica; if this repeats, stop."""
        self._without_room[signature, stage, number] += 1
        if self._without_room[signature, stage, number] >= self._limits.max_tries:
            self._reason = f"{cause.message}: make room"


def raise_common(stage: str, failure: Failure) -> None:
    """Raise a failure that affects the sweep as a whole, not one point.

    Raises:
        ChangedCodeError: the problem's code is not the folder's.
        ProblemError: the check of the problem failed.
    """
    if failure.kind == "changed":
        raise ChangedCodeError(failure.message)
    if stage == CHECK:
        error = ProblemError(
            f"{failure.message} (found by the check of the first point: if only that "
            "point is at fault, correct it or leave it out)"
        )
        error.add_note(failure.detail)
        raise error


def _mode(failure: Failure) -> str:
    """How it failed: the message without numbers, which may differ between trials."""
    return re.sub(r"\d+(\.\d+)?", "…", failure.message)
