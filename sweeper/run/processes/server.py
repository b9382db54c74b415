"""The fork server: imports what workers need once, and forks them from itself.

It has one thread when it forks, so that no lock is held in the child.  It outlives a sweep and
ends with its driver.  Each request is one packet on a SEQPACKET socket:

    import A B  import modules, if possible
    fork      with file descriptors (connection, lifeline, status, out, err[, shared]); out and err
              take the worker's output; answered by the pid
    kill PID  the worker and its descendants

When a worker has ended, its wait status is written to its status pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeper.disk.files import open_standard_streams
from sweeper.errors import BackendError
from sweeper.run.processes import worker
from sweeper.run.processes.worker import FIXED_ENVIRONMENT

_PACKET = 1 << 16
_READY = b"ready"


class ServerGoneError(BackendError):
    """The server ended before it answered: a new server may succeed."""


class ForkServer:
    """The driver's side."""

    def __init__(self, preload: Sequence[str], wished: Sequence[str] = ()) -> None:
        """Start the server; it imports while the caller does other things.

        It also imports each `wished` module that neither raises nor starts a thread.
        """
        open_standard_streams()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            told = (theirs.fileno(), os.getpid(), tuple(preload), tuple(wished))
            environment = os.environ | FIXED_ENVIRONMENT
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                worker.command(_BOOTSTRAP, told),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if worker.prints_to(2) else subprocess.DEVNULL,
                cwd=worker.starting_folder(),
                env=environment,
                start_new_session=True,
            )
        self._ready = False
        self._loading = False
        self.owner = os.getpid()

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def fork(self, connection: int, lifeline: int, status: int, shared: int | None) -> int:
        """Fork a worker with these file descriptors; returns its process id.

        Raises:
            BackendError: the server could not import what workers need, or cannot be reached.
            ServerGoneError: it has ended; a worker that it may have forked ends with it, or when
                the other end of `connection` is closed.
        """
        if not self._ready:
            answer = self._receive()
            if answer != _READY:
                raise BackendError(
                    "the fork server could not start:\n" + answer.decode(errors="replace")
                )
            self._ready = True
        try:
            with _streams() as streams:
                fds = [connection, lifeline, status, *streams]
                fds += [] if shared is None else [shared]
                socket.send_fds(self._control, [b"fork"], fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._gone() from error
        except OSError as error:
            raise BackendError(f"the fork server cannot be reached: {error}") from error
        pid = int(self._receive())
        self._loading = False
        return pid

    def load(self, modules: Sequence[str]) -> None:
        """Import more modules, if possible, before the next fork; does not wait."""
        with contextlib.suppress(OSError):  # the next fork reports it
            self._control.send(f"import {' '.join(modules)}".encode())
            self._loading = True

    def _receive(self) -> bytes:
        try:
            answer = self._control.recv(_PACKET)
        except ConnectionResetError as error:  # it ended before it had read the request
            raise self._gone() from error
        if not answer:
            raise self._gone()
        return answer

    def _gone(self) -> ServerGoneError:
        # A killed process may seem alive for a moment after its sockets are closed.
        return ServerGoneError(f"the fork server ended with code {self._process.wait()}")

    def kill(self, pid: int) -> None:
        """Kill a worker and its descendants; does nothing if it has ended already."""
        with contextlib.suppress(OSError):
            self._control.send(f"kill {pid}".encode())

    def close(self) -> None:
        """End the server and all its workers."""
        # A process forked from this one may also hold the socket open.
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        if self._loading or not self._ready:  # it may go on importing for seconds
            self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _streams() -> Iterator[list[int]]:
    """This process's output descriptors; the null device in place of a closed one."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        yield [fd if worker.prints_to(fd) else null for fd in (1, 2)]
    finally:
        os.close(null)


# Garbage collection during these imports would take a fifth of the time.
_BOOTSTRAP = """
import gc
gc.disable()
from sweeper.run.processes.server import main
main(*told)
"""


def main(control_fd: int, driver: int, preload: Sequence[str], wished: Sequence[str]) -> None:
    """The main function of the server process."""
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()  # it reads no socket while it imports
    if os.getppid() != driver:
        return
    try:
        for name in preload:
            importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - told to the driver, which raises it
        control.send(traceback.format_exc()[-_PACKET:].encode())
        return
    _import_wished(control_fd, driver, preload, wished)
    # From here on the socket tells when the driver ends, and not only the thread that started this.
    _end_with_parent(by=0)
    with contextlib.suppress(BrokenPipeError):  # the driver may be gone by now
        control.send(_READY)
    _Server(control).run()
    # Interpreter shutdown would take up to a second, for which the driver would wait.
    os._exit(0)


def _import_wished(
    control_fd: int, driver: int, preload: Sequence[str], wished: Sequence[str]
) -> None:
    """Import modules that each worker would import; if one starts a thread, restart without it.

    A fork copies the locks that other threads hold, but not the threads.
    """
    for name in wished:
        # A worker that needs it raises the same, and there it is shown.
        with contextlib.suppress(BaseException):
            importlib.import_module(name)
    if wished and len(list(Path("/proc/self/task").iterdir())) > 1:
        os.set_inheritable(control_fd, True)  # noqa: FBT003 - positional alone
        told = (control_fd, driver, tuple(preload), ())
        os.execv(sys.executable, worker.command(_BOOTSTRAP, told))  # noqa: S606 - this interpreter


def _end_with_parent(by: int = signal.SIGKILL) -> None:
    """Have the kernel send this process signal `by` when its parent ends; 0: no signal.

    More exactly: when the thread that started this process ends.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)


_PR_SET_PDEATHSIG = 1


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.status_of: dict[int, int] = {}
        self.woken, waker = os.pipe()
        for fd in (self.woken, waker):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self.waker = waker

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(self.woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self.woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.woken, _PACKET)
                    self._reap()
                if self.control in ready and not self._answer():
                    break
        for pid in self.status_of:
            self._kill(pid)

    def _answer(self) -> bool:
        """Handle one request; False when the driver is gone."""
        request, fds, _, _ = socket.recv_fds(self.control, _PACKET, 6)
        if request == b"fork":
            self._fork(fds)
        elif request.startswith(b"import "):
            for name in request.decode().split()[1:]:
                # A worker that needs it raises the same, and there it is shown.
                with contextlib.suppress(BaseException):
                    importlib.import_module(name)
        elif request.startswith(b"kill "):
            pid = int(request.split()[1])
            # The pid of a reaped worker may belong to another process by now.
            if pid in self.status_of:
                self._kill(pid)
        return bool(request)

    def _fork(self, fds: list[int]) -> None:
        connection, lifeline, status, out, err, *shared = fds
        pid = os.fork()
        if pid == 0:
            self._become_worker(connection, lifeline, status, (out, err), shared)
        with contextlib.suppress(OSError):  # child or parent, whichever is first
            os.setpgid(pid, pid)
        for fd in (connection, lifeline, out, err, *shared):
            os.close(fd)
        self.status_of[pid] = status
        self.control.send(str(pid).encode())

    def _become_worker(
        self,
        connection: int,
        lifeline: int,
        status: int,
        streams: tuple[int, int],
        shared: list[int],
    ) -> None:
        code = 1
        try:
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
            _end_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            for fd in (self.woken, self.waker, status, *self.status_of.values()):
                os.close(fd)
            for fd, stream in zip(streams, (1, 2), strict=True):
                os.dup2(fd, stream)
                os.close(fd)
            gc.freeze()  # collections then touch, and so copy, no page of what was imported
            gc.enable()
            worker.serve(connection, lifeline, shared[0] if shared else None)
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must never return
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while self.status_of:
            # Read the status before reaping: until then the pid is not reused, and the worker's
            # descendants can be killed with it.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            self._kill(ended.si_pid)
            pid, wait_status = os.waitpid(ended.si_pid, 0)
            status = self.status_of.pop(pid, None)
            if status is not None:
                with contextlib.suppress(OSError):  # the driver may be gone
                    os.write(status, str(wait_status).encode())
                os.close(status)

    def _kill(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
