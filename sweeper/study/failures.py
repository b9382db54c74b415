"""What failures mean: what is tried again, what is given up, and when the sweep stops."""

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
from sweeper.results import show_params
from sweeper.settings import Limits

FIRST_TRIALS = 3
"""Where so many trials, the first of a sweep, all fail the same way, so would the others."""


class Retries:
    """How often each replica was lost; after `max_tries` it is given up.

    Args:
        limits: Its `max_tries` is the rule.
        recorded: By signature, stage and number: how workers died over it in earlier runs.
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
        """Outcomes of a point's replicas that earlier runs tried for the last time."""
        return self._given_up.get(signature, ())

    def lose(self, signature: str, stage: str, number: int, cause: Failure) -> Outcome | None:
        """Count a replica that was lost; its outcome where it is not tried again."""
        if cause.kind in NOT_ITS_FAULT:
            return None
        key = (signature, stage, number)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        return give_up(*key, cause, tries) if self._is_last(cause, tries) else None

    def _is_last(self, cause: Failure, tries: int) -> bool:
        # What hangs would hang again, and cost its time once more.
        return cause.kind == "timeout" or tries >= self._most


class Stopping:
    """Whether too much has failed to go on; of several reasons the latest is given."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reason: str | None = None
        self._failures = 0
        """Trials, and points in tuning, that have failed in this run."""
        self._first: list[str | None] = []
        """How the first trials of the folder failed; None for one that did not."""
        self._without_room: Counter[tuple[str, str, int]] = Counter()
        """How often there was no room on the disk for each replica, in this run."""

    def check(self) -> None:
        """Stop where there is a reason to.

        Raises:
            StoppedError: too much has failed.
        """
        if self._reason is not None:
            raise StoppedError(self._reason)

    def count_failure(self, what: str, message: str, params: Params) -> None:
        """A trial, or the tuning of a point with these `params`, has failed: `what` of it."""
        self._failures += 1
        most = self._limits.stop_after_failures
        if most is not None and self._failures == most:
            self._reason = (
                f"{self._failures} trials or points have failed, and stop_after_failures={most}; "
                f"the last was {what} of {show_params(params)}: {message}"
            )

    def note_known(self, ended: Iterable[tuple[float, ...] | Failure]) -> None:
        """Note how trials of earlier runs ended; they alone never stop the sweep."""
        for values in itertools.islice(ended, FIRST_TRIALS - len(self._first)):
            self._note(values if isinstance(values, Failure) else None)

    def see_trial(self, failure: Failure | None) -> None:
        """A trial has ended in this run: stop where it is the last of the first, all alike."""
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
        """There was no room on the disk for a replica: where often, other replicas have none."""
        self._without_room[signature, stage, number] += 1
        if self._without_room[signature, stage, number] >= self._limits.max_tries:
            self._reason = f"{cause.message}: make room"


def raise_common(stage: str, failure: Failure) -> None:
    """Raise a failure that concerns the sweep as a whole and not one point.

    Raises:
        ChangedCodeError: the problem's code is not the folder's.
        ProblemError: the check of the problem failed.
    """
    if failure.kind == "changed":
        raise ChangedCodeError(failure.message)
    if stage == CHECK:
        error = ProblemError(
            f"{failure.message} (found by a check of the first point: where only that "
            "point is at fault, correct it or leave it out)"
        )
        error.add_note(failure.detail)
        raise error


def _mode(failure: Failure) -> str:
    """How it failed: what is said of trials that differ in a number only."""
    return re.sub(r"\d+(\.\d+)?", "…", failure.message)
