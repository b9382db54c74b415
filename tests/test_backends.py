"""One contract for every backend.

A new backend is a row in BACKENDS.
"""

from __future__ import annotations

import pytest

from sweeper.records import Died, Failure
from sweeper.run.backends.inline import InlineBackend
from sweeper.run.backends.local import LocalBackend
from sweeper.testing import backends
from sweeper.testing.backends import (
    CLAUSES,
    Subject,
    check_backend,
    executes_in_order,
    names_what_a_worker_died_of,
)


def inline(target, _slots, _logs):
    return InlineBackend(target)


def local(target, slots, logs):
    return LocalBackend([()] * slots, pinned=False, target=target, logs=logs)


def spawned(target, slots, logs):
    return LocalBackend([()] * slots, pinned=False, target=target, logs=logs, start_method="spawn")


BACKENDS = {
    "inline": (inline, {"slots": 1, "own_process": False, "can_stop": False}),
    "local": (local, {}),
    "local, one slot": (local, {"slots": 1}),
    "local, spawned": (spawned, {}),
}


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize(("make", "says"), BACKENDS.values(), ids=BACKENDS)
def test_every_backend_keeps_the_contract(make, says, clause, tmp_path):
    clause(Subject(make, tmp_path, **says))


class Shuffles(InlineBackend):
    """Its jobs come in another order."""

    def start(self, starts):
        super().start(starts[::-1])


class Mute(InlineBackend):
    """Says something of a worker's death, but not what it died of."""

    def wait(self, timeout, interrupts):
        try:
            return super().wait(timeout, interrupts)
        except RuntimeError:
            return [Died(0, Failure("crash", "the worker is gone"))]


def test_the_contract_catches_breaches(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "CRASHES", {"raise": "exit code 1"})  # nothing else is caught
    with pytest.raises(AssertionError, match="slot 0: not in order"):
        executes_in_order(Subject(lambda target, *_: Shuffles(target), tmp_path, slots=1))
    died = Subject(lambda target, *_: Mute(target), tmp_path, slots=1)
    with pytest.raises(AssertionError, match="raise: 'the worker is gone' lacks 'exit code 1'"):
        names_what_a_worker_died_of(died)


def test_the_whole_contract_is_one_call(tmp_path):
    check_backend(inline, tmp_path, slots=1, own_process=False, can_stop=False)
