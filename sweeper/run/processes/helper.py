"""A helper process beside the driver, made like a worker, that calls functions for it."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from sweeper.errors import BackendError
from sweeper.records import Failure, Target
from sweeper.run.backends.local import (
    ENDING,
    LocalProcess,
    default_start_method,
    load,
    make_process,
)
from sweeper.run.processes.worker import Setup, Unfit, resolve


class HelperProcess:
    """Calls functions in another process, one after the other, as `function(fd, *arguments)`.

    Its output goes where the driver's output goes.
    """

    def __init__(
        self,
        what: str,
        fd: int,
        preload: tuple[str, ...],
        environment: Mapping[str, str],
        later: tuple[str, ...] = (),
    ) -> None:
        """`what` describes its task in error messages; `fd` is shared with it.

        While it does its first task, the fork server imports `later` for the workers that follow.
        """
        self._what = what
        self._target = Target("sweeper.run.processes.helper:answer", None, fd, preload, environment)
        self._later = later
        self._lifeline, self._held = os.pipe()
        self._process: LocalProcess | None = None
        """Started by the first call, which waits until the fork server has imported `preload`."""

    def call(self, function: str, *arguments: Any) -> Any:
        """Call `"module:function"` and return its result; an error it raises is raised here.

        Raises:
            BackendError: the process cannot be started, or has ended during the call.
        """
        reply = self._ask(function, arguments)
        if isinstance(reply, Failure) and reply.kind == "stopped":
            # The fork server was killed, and the helper process with it.
            reply = self._ask(function, arguments)
        if isinstance(reply, Failure):
            raise BackendError(f"{self._what}: {reply.message}; {reply.detail}")
        if reply.raised is not None:
            raise reply.raised from ThereError(reply.text, reply.frames)
        return reply.returned

    def load(self, modules: Sequence[str]) -> None:
        """Have the fork server, if there is one, import these modules before its next fork."""
        load(self._target.preload, modules)

    def close(self) -> None:
        """End the process without waiting for its end; closing twice does nothing."""
        if self._held >= 0:
            for fd in (self._held, self._lifeline):
                os.close(fd)
            self._held = self._lifeline = -1
            if self._process is not None:
                self._process.leave()

    def _ask(self, function: str, arguments: Sequence[Any]) -> Reply | Failure:
        """The process's reply, or why it ended instead."""
        process = self._process = self._process or self._make()
        try:
            process.channel.send((function, arguments))
            reply: Reply | Unfit = process.channel.receive()
        except (EOFError, OSError):
            if not wait([process.status], ENDING):
                process.kill()
            self._process = None
            return process.bury("what it printed is above")
        if isinstance(reply, Unfit):
            raise reply.error
        return reply

    def _make(self) -> LocalProcess:
        process = make_process(Setup.here(self._target), self._lifeline, default_start_method())
        if self._later:
            self.load(self._later)
        return process


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call came to."""

    returned: Any = None
    raised: BaseException | None = None
    text: str = ""
    frames: tuple[traceback.FrameSummary, ...] = ()


class ThereError(Exception):
    """Set as the cause of an error from the helper process: its traceback there."""

    def __init__(self, text: str, frames: Sequence[traceback.FrameSummary]) -> None:
        """`text` is the printed traceback, `frames` are those of the root cause."""
        super().__init__(text)
        self.frames = frames

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def answer(context: None, fd: int, call: tuple[str, Sequence[Any]]) -> Iterator[Reply]:
    """Executed by the helper process: answers one call."""
    del context
    function, arguments = call
    try:
        reply = Reply(resolve(function)(fd, *arguments))
    except BaseException as error:  # noqa: BLE001 - raised again where it was called
        reply = raised(error)
    # The driver may end this process as soon as it has answered.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    yield reply


def raised(error: BaseException) -> Reply:
    """The reply to a call that raised `error`; one that cannot be pickled is told in words."""
    text = "".join(traceback.format_exception(error))
    frames = tuple(traceback.extract_tb((error.__cause__ or error).__traceback__))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made just now
    except Exception:  # noqa: BLE001 - pickling runs the error's own code
        error = BackendError(f"{type(error).__name__}: {error}")
    return Reply(None, error, text, frames)
