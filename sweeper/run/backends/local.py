"""Warm, pinned worker processes on this machine.

Workers are forked from a server that has imported torch; where forking is not safe (not Linux),
each is a fresh interpreter.  The driver waits on pipes and never polls.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Literal

from sweeper.disk.files import last_lines, open_standard_streams
from sweeper.records import PRINTED, Died, Failure, Message, Result, Start, Target
from sweeper.run.backends import Capabilities
from sweeper.run.machine.devices import environment_of
from sweeper.run.processes import worker
from sweeper.run.processes.channel import Channel
from sweeper.run.processes.server import ForkServer, ServerGoneError
from sweeper.run.processes.signals import Interrupts
from sweeper.run.processes.worker import FIXED_ENVIRONMENT, Bound, Setup, Unfit

StartMethod = Literal["forkserver", "spawn"]

CAPABILITIES = Capabilities(own_processes=True, stops_jobs=True, needs_unix=True)

ENDING = 3.0
"""Seconds that a worker may live after it has closed its connection."""

GATHER = 0.001
"""Seconds in which messages are gathered while the workers that sent some have more to do: to be
woken for each of many short replicas would take the driver longer than to read them."""

_servers: dict[tuple[str, ...], ForkServer] = {}


def default_start_method() -> StartMethod:
    """How workers are started on this system."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def warm_up(preload: tuple[str, ...], wished: tuple[str, ...] = ()) -> ForkServer:
    """The fork server for `preload`, started if necessary; does not wait for its imports.

    A server started by this call also imports `wished` (see `ForkServer`).
    """
    server = _servers.get(preload)
    # A process forked from a driver needs its own server.
    if server is None or not server.alive or server.owner != os.getpid():
        server = _servers[preload] = ForkServer(preload, wished)
    return server


def prepare(preload: tuple[str, ...], wished: tuple[str, ...] = ()) -> None:
    """Start importing these modules in the fork server, if there is one."""
    if default_start_method() == "forkserver":
        warm_up(preload, wished)


def load(preload: tuple[str, ...], modules: Sequence[str]) -> None:
    """Have the fork server of `preload` import `modules`, if possible, before its next fork."""
    if default_start_method() == "forkserver":
        warm_up(preload).load(modules)


@atexit.register
def _close_servers() -> None:
    # Closing takes a moment; another Ctrl-C meanwhile should not print a traceback.
    with contextlib.suppress(KeyboardInterrupt):
        for server in _servers.values():
            if server.owner == os.getpid():
                server.close()


class LocalProcess:
    """A worker's process, from the driver's side."""

    def __init__(self, setup: Setup, lifeline: int, start_method: StartMethod) -> None:
        """Start it; `lifeline` is the reading end of a pipe that only the driver writes to.

        Raises:
            BackendError: it could not be started.
        """
        target = setup.target
        ours, theirs = socket.socketpair()
        self.status, status_written = os.pipe()
        """Readable when the process has ended; holds its wait status."""
        self._parent: subprocess.Popen[bytes] | ForkServer
        """The process itself if it is the driver's child, else the server that forked it."""
        try:
            fds = (theirs.fileno(), lifeline, status_written)
            if start_method == "forkserver":
                self._parent = warm_up(target.preload)
                self.pid = self._parent.fork(*fds, target.fd)
            else:
                self._parent = _spawn(*fds, target.fd)
                self.pid = self._parent.pid
        except BaseException:
            ours.close()
            os.close(self.status)
            raise
        finally:
            theirs.close()
            os.close(status_written)
        self.channel = Channel(ours)
        self.channel.put(setup)

    def kill(self) -> None:
        """Kill the process and its descendants."""
        if isinstance(self._parent, ForkServer):
            self._parent.kill(self.pid)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def leave(self) -> None:
        """Release a process whose lifeline is closed: it ends by itself."""
        self.channel.close()
        os.close(self.status)
        if isinstance(self._parent, subprocess.Popen):
            self._parent.wait()

    def bury(self, look: str) -> Failure:
        """Wait until the process has ended, and say how; `look` says where to see more."""
        # Closed first: this ends a worker that is waiting to send.
        self.channel.close()
        written = os.read(self.status, 32)
        os.close(self.status)
        if not isinstance(self._parent, ForkServer):
            with contextlib.suppress(OSError):  # its descendants
                os.killpg(self.pid, signal.SIGKILL)
            return _cause(self._parent.wait(), look)
        if not written:  # it ended with the server, which kills a worker's descendants
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        return _cause(os.waitstatus_to_exitcode(int(written)) if written else None, look)


def make_process(setup: Setup, lifeline: int, start_method: StartMethod) -> LocalProcess:
    """See `LocalProcess`; a fork server that was just killed is replaced."""
    try:
        return LocalProcess(setup, lifeline, start_method)
    except ServerGoneError:
        # It was killed since it was last seen alive.  If the next one ends too, that is an error.
        return LocalProcess(setup, lifeline, start_method)


class LocalBackend:
    """See `Backend`."""

    def __init__(
        self,
        slots: Sequence[tuple[int, ...]],
        *,
        pinned: bool,
        target: Target,
        logs: Path,
        start_method: StartMethod | None = None,
    ) -> None:
        self._slots = tuple(slots)
        self._pinned = pinned
        self._target = target
        self._logs = logs
        self._start_method = start_method or default_start_method()
        self._workers: dict[int, LocalProcess] = {}
        self._owned: dict[int, tuple[tuple[int, ...], tuple[str, ...]]] = {}
        """The cores and the devices of each worker."""
        self._open: Counter[int] = Counter()
        """For each slot, how many replicas its worker was handed that have no outcome yet."""
        self._selector = selectors.DefaultSelector()
        """The data of each key is the slot of the worker's channel or status pipe."""
        self._interrupts: Interrupts | None = None
        open_standard_streams()
        # Only this process holds the writing end, so it is closed however this process ends.
        self._lifeline, self._held = os.pipe()
        logs.mkdir(parents=True, exist_ok=True)
        if self._start_method == "forkserver":
            warm_up(target.preload)

    def start(self, starts: Sequence[Start]) -> None:
        """See `Backend`."""
        for start in starts:
            self._worker_for(start).channel.put(start.job)
            self._open[start.slot] += len(start.job.numbers)
        for slot in {start.slot for start in starts}:
            self._flush(slot)

    def _flush(self, slot: int) -> None:
        """Send what the worker can take now, and the rest when it can take more."""
        channel = self._workers[slot].channel
        try:
            events = selectors.EVENT_READ
            if not channel.flush():
                events |= selectors.EVENT_WRITE
            if self._selector.get_key(channel).events != events:
                self._selector.modify(channel, events, slot)
        except OSError:
            return  # `wait` reports a worker that has just died

    def wait(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:
        """See `Backend`."""
        if interrupts is not self._interrupts:
            if self._interrupts is not None:
                self._selector.unregister(self._interrupts)
            self._selector.register(interrupts, selectors.EVENT_READ)
            self._interrupts = interrupts
        messages = self._take(timeout, interrupts)
        if messages and timeout != 0 and all(self._open[message.slot] for message in messages):
            time.sleep(GATHER)
            messages += self._take(0, interrupts)
        return messages

    def _take(self, timeout: float | None, interrupts: Interrupts) -> list[Message]:
        """The messages of workers with news, for which it waits."""
        ready: dict[int, bool] = {}
        """The slots with news, and whether the worker has ended."""
        for key, events in self._selector.select(timeout):
            if events & selectors.EVENT_WRITE:
                self._flush(key.data)
            if events & selectors.EVENT_READ and key.fileobj is not interrupts:
                ended = key.fileobj is not self._workers[key.data].channel
                ready[key.data] = ready.get(key.data, False) or ended
        messages: list[Message] = []
        for slot in sorted(ready):
            messages += self._receive(slot, ended=ready[slot])
        return messages

    def _receive(self, slot: int, *, ended: bool) -> list[Message]:
        # If the worker ended before this call, everything it sent can be read now.
        received, closed = self._workers[slot].channel.take()
        for message in received:
            if isinstance(message, Unfit):  # another worker would be unfit too
                raise message.error
        messages: list[Message] = [Result(slot, outcome) for outcome in received]
        self._open[slot] -= len(received)
        if not (ended or closed):
            return messages
        worker = self._workers[slot]
        # A worker that is ending closes its channel before its status is known.
        ended = ended or bool(wait_for([worker.status], ENDING))
        if not ended:
            worker.kill()
        cause = self._bury(slot)
        messages.append(Died(slot, cause if ended else _closed(self._log(slot))))
        return messages

    def stop(self, slot: int) -> None:
        """See `Backend`."""
        worker = self._workers.get(slot)
        if worker is not None:
            worker.kill()

    def close(self) -> None:
        """See `Backend`."""
        for each in self._workers.values():
            each.kill()
        for slot in list(self._workers):
            self._bury(slot)
        self._selector.close()
        for fd in (self._held, self._lifeline):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._held = self._lifeline = -1

    # -- workers ----------------------------------------------------------------------------------

    def _log(self, slot: int) -> Path:
        return self._logs / f"worker-{slot}.log"

    def _worker_for(self, start: Start) -> LocalProcess:
        """The slot's worker, on the cores and with the devices of this start.

        Devices are visible from a process's beginning on, so other ones need another process.
        """
        slot = start.slot
        cores = self._slots[slot]
        for other in start.others:
            cores += self._slots[other]
        worker, owned = self._workers.get(slot), self._owned.get(slot)
        if worker is not None and owned is not None and owned[1] != start.devices:
            worker.kill()
            self._bury(slot)
            worker = None
        if worker is None:
            worker = self._make_worker(slot, cores, start.devices)
        elif owned != (cores, start.devices) and self._pinned:
            worker.channel.put(Bound(cores))
        self._owned[slot] = cores, start.devices
        return worker

    def _make_worker(
        self, slot: int, cores: tuple[int, ...], devices: tuple[str, ...]
    ) -> LocalProcess:
        setup = Setup.here(
            self._target,
            cores=cores if self._pinned else (),
            log=str(self._log(slot).resolve()),
            own=environment_of(devices),
        )
        worker = make_process(setup, self._lifeline, self._start_method)
        for file in (worker.channel, worker.status):
            self._selector.register(file, selectors.EVENT_READ, slot)
        self._workers[slot] = worker
        return worker

    def _bury(self, slot: int) -> Failure:
        """Wait until a worker has ended, and say how."""
        worker = self._workers.pop(slot)
        del self._open[slot]
        for file in (worker.channel, worker.status):
            self._selector.unregister(file)
        cause = worker.bury(f"what it printed is in {self._log(slot)}")
        return replace(cause, detail=cause.detail + _gather(self._log(slot)))


def _gather(log: Path) -> str:
    """Move what a program's trial had printed when it died into its worker's log.

    Returns the last lines of it.
    """
    told = ""
    for end in PRINTED:
        path = log.with_suffix(end)
        with contextlib.suppress(FileNotFoundError):
            lines = last_lines(path)
            told += f"\nlast lines of its {end.split('.')[1]}:\n{lines}\n" if lines else ""
            with path.open("rb") as printed, log.open("ab") as file:
                shutil.copyfileobj(printed, file)
            path.unlink()
    return told


def _spawn(connection: int, lifeline: int, status: int, fd: int | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this interpreter
        worker.command(_BOOTSTRAP, (connection, lifeline, fd)),
        pass_fds=[connection, lifeline, status] + ([] if fd is None else [fd]),
        stdin=subprocess.DEVNULL,
        stdout=None if worker.prints_to(1) else subprocess.DEVNULL,
        stderr=None if worker.prints_to(2) else subprocess.DEVNULL,
        cwd=worker.starting_folder(),
        env=os.environ | FIXED_ENVIRONMENT,
        start_new_session=True,
    )


_BOOTSTRAP = """
from sweeper.run.processes.worker import serve
serve(*told)
"""


def _closed(log: Path) -> Failure:
    """The failure of a worker that was killed because it had closed its connection."""
    return Failure(
        "crash",
        "the worker closed its connection and went on",
        "likely cause: the code that is swept closed file descriptors that were not its own; what "
        f"it printed is in {log}",
    )


def _cause(code: int | None, look: str) -> Failure:
    """Why a worker ended without a result, with the likely cause and where to look."""
    if code is None:
        return Failure("stopped", "the worker ended together with the fork server", look)
    if code >= 0:
        cause = "an error outside of all trials, or the code that is swept ended it"
        detail = f"likely cause: {cause}; {look}"
        return Failure("crash", f"the worker ended with exit code {code}", detail)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "?"
    likely = {
        "SIGKILL": "the system ran out of memory, or someone killed it",
        "SIGSEGV": "a fault in compiled code; the traceback is in the log",
        "SIGABRT": "compiled code aborted; its message is in the log",
        "SIGBUS": "a mapped file or memory is gone (is a disk full?)",
    }.get(name, "someone sent it")
    detail = f"likely cause: {likely}; {look}"
    return Failure("crash", f"the worker was ended by signal {-code} ({name})", detail)


make = LocalBackend
