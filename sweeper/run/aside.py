"""A process beside the driver, made like a worker, that calls functions for it."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from sweeper.errors import BackendError
from sweeper.run.backends.local import ENDING, LocalProcess, default_start_method
from sweeper.run.worker import Setup, resolve
from sweeper.types import Target


class Aside:
    """Functions are called there one after the other, as `function(fd, *arguments)`.

    What it prints goes where the driver's output goes.
    """

    def __init__(self, what: str, fd: int, preload: tuple[str, ...]) -> None:
        """Make the process; `what` it does is said where it dies, and `fd` is shared with it.

        Raises:
            BackendError: it could not be made.
        """
        self._what = what
        self._buried = self._closed = False
        self._lifeline, self._held = os.pipe()
        try:
            self._process = LocalProcess(
                Setup.here(Target("sweeper.run.aside:answer", None, fd, preload)),
                self._lifeline,
                default_start_method(),
            )
        except BaseException:
            self._close_pipe()
            raise

    def call(self, function: str, *arguments: Any) -> Any:
        """What `"module:function"` returns; what it raises is raised here.

        Raises:
            BackendError: the process has ended over it.
        """
        channel = self._process.channel
        try:
            channel.send((function, arguments))
            reply: _Reply = channel.receive()
        except (EOFError, OSError):
            if not wait([self._process.status], ENDING):
                self._process.kill()
            cause = self._process.bury("what it printed is above")
            self._buried = True
            raise BackendError(f"{self._what}: {cause.message}; {cause.detail}") from None
        if reply.raised is not None:
            raise reply.raised from ThereError(reply.text, reply.frames)
        return reply.returned

    def close(self) -> None:
        """End the process, without waiting until it has ended; closing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._close_pipe()
        if not self._buried:
            self._process.leave()

    def _close_pipe(self) -> None:
        for fd in (self._held, self._lifeline):
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Reply:
    returned: Any = None
    raised: BaseException | None = None
    text: str = ""
    frames: tuple[traceback.FrameSummary, ...] = ()


class ThereError(Exception):
    """The cause of an error that was raised in the other process: where that was."""

    def __init__(self, text: str, frames: Sequence[traceback.FrameSummary]) -> None:
        """With the traceback as it is printed, and the frames of the error that was at its root."""
        super().__init__(text)
        self.frames = frames

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def answer(context: None, fd: int, call: tuple[str, Sequence[Any]]) -> Iterator[_Reply]:
    """The other side."""
    del context
    function, arguments = call
    try:
        reply = _Reply(resolve(function)(fd, *arguments))
    except BaseException as error:  # noqa: BLE001 - raised again where it was called
        reply = _raised(error)
    # It may be ended as soon as it has answered.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    yield reply


def _raised(error: BaseException) -> _Reply:
    text = "".join(traceback.format_exception(error))
    frames = tuple(traceback.extract_tb((error.__cause__ or error).__traceback__))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made just now
    except Exception:  # noqa: BLE001 - whatever it has in it
        error = BackendError(f"{type(error).__name__}: {error}")
    return _Reply(None, error, text, frames)
