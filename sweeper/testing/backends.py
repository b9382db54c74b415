"""The contract of backends: `check_backend` checks all of it.

    from sweeper.testing.backends import check_backend

    def test_cluster(tmp_path):
        check_backend(lambda target, slots, logs: ClusterBackend(target, slots), tmp_path)

Workers execute `sweeper.testing.jobs`, which they must be able to import.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from sweeper.records import TRIAL, Died, Job, Message, Result, Start, Target
from sweeper.run.backends import Backend
from sweeper.run.processes.signals import Interrupts
from sweeper.search.selectors.fixed import FixedSweep
from sweeper.store.database.store import Store
from sweeper.testing.jobs import EXECUTE, PRELOAD
from sweeper.testing.loop import memory, sweep
from sweeper.testing.toy import ToyBackend

ASKS = [((0,), 3), ((1,), 4), ((2,), 0), ({"a": 3}, 2), ((0,), 2)]

PATIENCE = 100.0
"""Seconds without a message after which a check fails."""

CRASHES = {
    "exit": "exit code 7",
    "raise": "exit code 1",
    "kill": "signal 9",
    "segfault": "signal 11",
    "abort": "signal 6",
}
"""By how a worker ends: the text that its failure must contain."""


class Make(Protocol):
    """Makes a backend."""

    def __call__(self, target: Target, slots: int, logs: Path) -> Backend:
        """A backend with `slots` slots whose workers execute `target`; `logs` is an empty folder.

        All processes that it starts must have ended once it is closed.
        """


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend under test, with its capabilities."""

    make: Make
    folder: Path
    """An empty folder for its logs."""
    slots: int = 2
    own_process: bool = True
    """Whether jobs run in processes of their own, whose deaths it reports."""
    can_stop: bool = True
    """Whether `stop` ends a job."""

    @contextlib.contextmanager
    def opened(self, context: Any = None) -> Iterator[tuple[Backend, Interrupts]]:
        """A backend and its interrupts; closed at the end."""
        backend = self.make(Target(EXECUTE, context, preload=PRELOAD), self.slots, self.folder)
        try:
            with Interrupts() as interrupts:
                yield backend, interrupts
        finally:
            backend.close()


def check_backend(
    make: Make,
    folder: Path,
    *,
    slots: int = 2,
    own_process: bool = True,
    can_stop: bool = True,
) -> None:
    """Check that a backend keeps its contract (see `sweeper.run.backends.Backend`).

    Call it from the main thread, where signals arrive.

    Args:
        make: Makes the backend.
        folder: An empty folder for its logs.
        slots: How many slots to make it with.
        own_process: Whether jobs run in processes of their own, whose deaths it reports.
        can_stop: Whether `stop` ends a job.

    Raises:
        AssertionError: a clause is broken; the message says which.
    """
    subject = Subject(make, folder, slots, own_process, can_stop)
    for clause in CLAUSES:
        clause(subject)


# -- helpers --------------------------------------------------------------------------------------


def job(number: int, /, *numbers: int, **payload: Any) -> Job:
    """A job of no point, with these replicas."""
    return Job(number, "", "trial", TRIAL, numbers or (0,), payload)


def collect(backend: Backend, interrupts: Interrupts, count: int) -> list[Message]:
    """The next `count` messages, in order of arrival."""
    found: list[Message] = []
    while len(found) < count:
        messages = backend.wait(PATIENCE, interrupts)
        assert messages, f"of {count} messages {len(found)} have come, and no more: {found}"
        found += messages
    assert len(found) == count, f"more than {count} messages have come: {found}"
    return found


def numbers_of(messages: list[Message], slot: int) -> list[int | str]:
    """The replicas with results from a slot, in order; `"died"` for its worker's death."""
    return [
        message.outcome.number if isinstance(message, Result) else "died"
        for message in messages
        if message.slot == slot
    ]


# -- the clauses ----------------------------------------------------------------------------------


def gives_the_same_bits(subject: Subject) -> None:
    """A sweep through the loop has the same metrics and arrays as in fake time on one slot."""
    expected, found = memory(), memory()
    fake, nothing = ToyBackend(), Interrupts()
    with nothing:
        sweep(FixedSweep(ASKS), 1, expected, fake, nothing, fake.clock)
    with subject.opened() as (backend, interrupts):
        sweep(FixedSweep(ASKS), subject.slots, found, backend, interrupts, time.monotonic)
    assert _outcomes(found) == _outcomes(expected), "its outcomes differ from those in fake time"


def _outcomes(store: Store) -> dict[tuple[str, str, int], tuple[str, bytes]]:
    return {
        (found.point, found.stage, found.number): (repr(found.metrics), found.arrays)
        for found in store.outcomes()
    }


def executes_in_order(subject: Subject) -> None:
    """Jobs handed to a slot run in that order, replica by replica, and get the context."""
    with subject.opened(context=5) as (backend, interrupts):
        slots = range(subject.slots)
        handed = [Start(job(n, *numbers), n) for n in slots for numbers in ((0, 1), (2,), (3, 4))]
        backend.start(handed)
        messages = collect(backend, interrupts, 5 * subject.slots)
        for slot in slots:
            assert numbers_of(messages, slot) == [0, 1, 2, 3, 4], f"slot {slot}: not in order"
        outcomes = [message.outcome for message in messages if isinstance(message, Result)]
        assert {outcome.metrics["context"] for outcome in outcomes} == {5.0}, "another context"
        backend.start([Start(job(9, 7), 0)])
        again = collect(backend, interrupts, 1)
        assert numbers_of(again, 0) == [7], "a slot that was idle does not continue"


def waits_no_longer_than_told(subject: Subject) -> None:
    """Without a message `wait` returns nothing: at once, after its timeout, or when interrupted."""
    with subject.opened() as (backend, interrupts):
        assert backend.wait(0, interrupts) == [], "a message from nowhere"
        assert backend.wait(0.01, interrupts) == [], "a message from nowhere"
        before = signal.getsignal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is not before, "not called from the main thread"
        began = time.monotonic()
        assert backend.wait(PATIENCE, interrupts) == [], "a message from nowhere"
        assert time.monotonic() - began < PATIENCE, "a signal does not end its waiting"


def names_what_a_worker_died_of(subject: Subject) -> None:
    """Each death is reported with its cause, after the finished replicas; other slots continue."""
    if not subject.own_process:
        return
    with subject.opened() as (backend, interrupts):
        for how, said in CRASHES.items():
            others = [Start(job(n, 0, 1), n) for n in range(1, subject.slots)]
            backend.start([Start(job(0, 0, 1, 2, ends=how, number=1), 0), *others])
            messages = collect(backend, interrupts, 2 + 2 * len(others))
            assert numbers_of(messages, 0) == [0, "died"], f"{how}: {messages}"
            for other in others:
                assert numbers_of(messages, other.slot) == [0, 1], (
                    f"{how}: another slot is affected"
                )
            (died,) = (message for message in messages if isinstance(message, Died))
            assert died.cause.kind == "crash", f"{how}: {died.cause}"
            assert said in died.cause.message, f"{how}: {died.cause.message!r} lacks {said!r}"
            assert died.cause.detail, f"{how}: neither a likely cause nor where to look"
            _goes_on(backend, interrupts)


def ends_a_job_that_hangs(subject: Subject) -> None:
    """`stop` ends a slot's worker, which is reported as a death; the slot can be used again."""
    if not subject.can_stop:
        return
    with subject.opened() as (backend, interrupts):
        backend.start([Start(job(0, 0, 1, ends="hang", number=1), 0)])
        assert numbers_of(collect(backend, interrupts, 1), 0) == [0]
        backend.stop(0)
        assert numbers_of(collect(backend, interrupts, 1), 0) == ["died"], "stopped, not reported"
        _goes_on(backend, interrupts)


def leaves_no_worker(subject: Subject) -> None:
    """When `close` returns no worker is left, neither an idle one nor one whose job never ends."""
    if not subject.own_process:
        return
    with subject.opened() as (backend, interrupts):
        slots = range(subject.slots)
        ends = [{"ends": "hang", "number": 1} if slot else {} for slot in slots]
        backend.start([Start(job(slot, 0, 1, **ends[slot]), slot) for slot in slots])
        messages = collect(backend, interrupts, 2 + len(slots[1:]))
        results = [message for message in messages if isinstance(message, Result)]
        pids = {int(result.outcome.metrics["pid"]) for result in results}
        assert len(pids) == subject.slots, "slots share a process"
    left = [pid for pid in pids if psutil.pid_exists(pid)]
    assert not left, f"after close() workers are left: {left}"


def _goes_on(backend: Backend, interrupts: Interrupts) -> None:
    backend.start([Start(job(8, 5), 0)])
    again = numbers_of(collect(backend, interrupts, 1), 0)
    assert again == [5], f"the slot of a worker that died cannot be used again: {again}"


CLAUSES: tuple[Callable[[Subject], None], ...] = (
    gives_the_same_bits,
    executes_in_order,
    waits_no_longer_than_told,
    names_what_a_worker_died_of,
    ends_a_job_that_hangs,
    leaves_no_worker,
)
"""Each takes the backend under test; clauses on capabilities that it lacks pass."""
