"""Messages between driver and worker: whole, in order, and never waited for by the driver."""

from __future__ import annotations

import os
import pickle
import socket
import threading
from collections.abc import Iterator

import pytest

from sweeper.records import Failure, Job, Outcome
from sweeper.run.processes.channel import Channel

Pair = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Pair]:
    """The driver's and the worker's."""
    driver, worker = (Channel(end) for end in socket.socketpair())
    yield driver, worker
    driver.close()
    worker.close()


def test_messages_arrive_whole_and_in_order(ends: Pair) -> None:
    driver, worker = ends
    messages = [{"a": 1}, b"", "x" * 1000, None, [1, 2]]
    for message in messages:
        driver.put(message)
    assert driver.flush()
    assert [worker.receive() for _ in messages] == messages
    for message in messages:
        worker.send(message)
    assert driver.take() == (messages, False)
    assert driver.take() == ([], False)


def test_the_driver_does_not_wait_for_a_worker_that_does_not_read(ends: Pair) -> None:
    driver, worker = ends
    large = os.urandom(1 << 24)
    driver.put(large)
    driver.put("after it")
    assert not driver.flush()
    received: list[object] = []
    reader = threading.Thread(target=lambda: received.extend(worker.receive() for _ in range(2)))
    reader.start()
    while not driver.flush():
        pass
    reader.join()
    assert received == [large, "after it"]


def test_a_large_message_comes_in_pieces(ends: Pair) -> None:
    driver, worker = ends
    large = os.urandom(1 << 24)
    writer = threading.Thread(target=worker.send, args=(large,))
    writer.start()
    taken: list[object] = []
    while not taken:
        messages, closed = driver.take()
        assert not closed
        taken += messages
    writer.join()
    assert taken == [large]


def test_what_was_sent_before_the_end_is_there(ends: Pair) -> None:
    driver, worker = ends
    worker.send(1)
    worker.send(2)
    worker.close()
    assert driver.take() == ([1, 2], True)


def test_half_a_message_is_none(ends: Pair) -> None:
    driver, worker = ends
    worker._socket.send((100).to_bytes(8, "little") + b"half")
    assert driver.take() == ([], False)
    worker.close()
    assert driver.take() == ([], True)


def test_what_is_no_message_closes_the_channel(ends: Pair) -> None:
    driver, worker = ends
    worker.send("good")
    worker._socket.send((3).to_bytes(8, "little") + b"bad")
    assert driver.take() == (["good"], True)


def test_the_end_of_the_driver_is_seen(ends: Pair) -> None:
    driver, worker = ends
    driver.close()
    with pytest.raises(EOFError):
        worker.receive()


def test_jobs_and_outcomes_are_the_same_after_the_way() -> None:
    job = Job(7, "p", "trial", "trial", (1, 2), {"steps": 3}, 0.5)
    failed = Outcome("p", "trial", 1, 2.0, 3.0, failure=Failure("crash", "gone", "why"))
    ended = Outcome("p", "trial", 1, 2.0, 3.0, {"loss": 0.5}, b"npz")
    for record in (job, failed, ended):
        assert pickle.loads(pickle.dumps(record)) == record
