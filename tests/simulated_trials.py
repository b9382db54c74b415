"""Made-up trials that save: how far each has come when something ends it, and where it goes on.

The checkpoints are the files that programs write, so it is the driver's own removing of them that
is tried.  What a trial comes to depends on all its iterations: one that goes on from another's
save, or from the wrong iteration, has other results.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.program.trial.checkpoints import Checkpoints, Saved
from sweeper.records import Job, budget_of, file_suffix
from sweeper.testing.toy import draw, metrics_of

ITERATIONS = 5
"""Of a trial without a budget."""

History = list[dict[str, float]]


class Violation(AssertionError):
    """A promise was broken."""


def must(holds: object, message: str) -> None:
    if not holds:
        raise Violation(message)


@dataclass
class Books:
    """What trials have really done, over all drivers."""

    saved: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """By point, stage and number: the iterations that the trial itself has saved."""
    ended: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """By point and number: the budgets that have ended."""
    resumed: int = 0
    """How many trials began from a checkpoint."""

    def least(self, point: str, stage: str, number: int) -> int:
        """The iterations that a trial which begins must find saved."""
        own = self.saved.get((point, stage, number), 0)
        budget, ended = budget_of(stage), self.ended.get((point, number), set())
        if budget is None or max(ended, default=0) > budget:
            # Ends of smaller budgets were removed, its own too if it was not stored that it ended.
            return 0 if budget in ended else own
        return max(own, *ended, 0)


@dataclass
class Course:
    """One try of a trial in a worker."""

    job: Job
    number: int
    params: object
    segment: int
    """Iterations between two saves."""
    folder: Path
    """That of all checkpoints."""
    books: Books
    begun: float = 0.0
    seconds: float = 0.0
    """How long all its iterations take, from the first."""
    first: int = 0
    """The iterations that it found saved."""
    history: History = field(default_factory=list)
    """Of all its iterations, to the end."""

    @property
    def iterations(self) -> int:
        return budget_of(self.job.stage) or ITERATIONS

    @property
    def key(self) -> tuple[str, str, int]:
        return self.job.point, self.job.stage, self.number

    @property
    def checkpoints(self) -> Checkpoints:
        point, stage, number = self.key
        identity = hashlib.sha256(f"{point} {number}".encode()).hexdigest()
        name = f"{number}{file_suffix(stage)}"
        return Checkpoints(self.folder / point, name, identity, budget_of(stage))

    def begin(self, now: float) -> None:
        """Go on from the last save, if there is one."""
        saved = self.checkpoints.read()
        self.begun, self.history = now, [] if saved is None else saved.history
        self.first = len(self.history)
        self.books.resumed += self.first > 0
        least = self.books.least(*self.key)
        must(self.first >= least, f"{self.key} begins after {self.first} iterations, not {least}")
        while len(self.history) < self.iterations:
            before = self.history[-1]["value"] if self.history else 0.0
            place = len(self.history)
            self.history.append({"value": draw((self.params, before), "", self.number, str(place))})

    def stop(self, now: float) -> None:
        """Its worker is gone: what it has saved by now stays."""
        elapsed = max(0.0, now - self.begun)
        share = min(1.0, elapsed / self.seconds) if self.seconds else 0.0
        done = self.first + int(share * (self.iterations - self.first))
        self._reach(min(done, self.iterations - 1))

    def fail(self) -> None:
        """It raises in its last iteration."""
        self._reach(self.iterations - 1)

    def end(self) -> dict[str, float]:
        """It has ended; its metrics."""
        self.checkpoints.write(Saved(self.history, {}, {}))
        self.checkpoints.end()
        self.books.saved[self.key] = self.iterations
        point, stage, number = self.key
        if (budget := budget_of(stage)) is not None:
            self.books.ended.setdefault((point, number), set()).add(budget)
        return metrics_of((self.params, self.history[-1]["value"]), number, stage)

    def _reach(self, done: int) -> None:
        done = max(done, self.first)
        last = done - done % self.segment
        if last > self.first:
            self.checkpoints.write(Saved(self.history[:last], {}, {}))
            self.books.saved[self.key] = last
